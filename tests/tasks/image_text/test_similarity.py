"""Similarities: the dot product of the prepared vectors is the similarity, whatever its name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maquette.errors import UsageError
from maquette.tasks.image_text.similarity import (
    SIMILARITIES,
    Bilinear,
    cosine,
    dot,
    dot_products,
    euclidean,
    make_similarity,
    normalise,
)


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Five images and three texts, (5, 4) and (3, 4) float64."""
    generator = torch.Generator().manual_seed(0)
    both = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    return both[:5], both[5:]


def similarities(name: str, images: Tensor, texts: Tensor) -> Tensor:
    return dot_products(*make_similarity(name, embed_dim=4)(images, texts))


def test_cosine_is_the_cosine_and_one_with_itself(pair):
    expected = torch.nn.functional.cosine_similarity(pair[0][:, None], pair[1][None], dim=2)
    torch.testing.assert_close(similarities("cosine", *pair), expected)
    assert (
        similarities("cosine", 5 * pair[0], 0.1 * pair[0])
        .diagonal()
        .allclose(torch.ones(5, dtype=torch.float64))
    )


def test_dot_is_the_dot_product(pair):
    torch.testing.assert_close(similarities("dot", *pair), pair[0] @ pair[1].T)


def test_euclidean_is_minus_the_squared_distance(pair):
    found = similarities("euclidean", *pair)
    torch.testing.assert_close(found, -torch.cdist(*pair).square())
    images, texts = euclidean(*pair)
    assert images.shape == (5, 6)
    assert texts.shape == (3, 6)


def test_euclidean_orders_like_the_distance_and_after_normalising_like_the_cosine(pair):
    nearest = torch.cdist(*pair).argsort(dim=1)
    assert similarities("euclidean", *pair).argsort(dim=1, descending=True).equal(nearest)
    units = normalise(pair[0]), normalise(pair[1])
    torch.testing.assert_close(
        similarities("euclidean", *units), 2 * similarities("cosine", *pair) - 2
    )


def test_bilinear_starts_as_the_cosine_and_then_is_the_form(pair):
    bilinear = make_similarity("bilinear", embed_dim=4)
    assert isinstance(bilinear, Bilinear)
    torch.testing.assert_close(bilinear(*pair), cosine(*pair))
    assert [key for key, _ in bilinear.named_parameters()] == ["offset"]
    with torch.no_grad():
        bilinear.offset.normal_(generator=torch.Generator().manual_seed(1))
    i, t = normalise(pair[0]), normalise(pair[1])
    expected = torch.einsum("be,ef,cf->bc", i, bilinear.matrix.double(), t)
    torch.testing.assert_close(dot_products(*bilinear(*pair)), expected)


def test_bilinear_learns_which_directions_matter():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 4, generator=generator)
    texts = images.roll(1, dims=1)  # the cosine sees nothing in common
    bilinear = Bilinear(4)
    optimizer = torch.optim.Adam(bilinear.parameters(), lr=0.1)
    for _ in range(100):
        logits = 10 * dot_products(*bilinear(images, texts))
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(16))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = dot_products(*bilinear(images, texts)).argmax(dim=1) == torch.arange(16)
    before = dot_products(*cosine(images, texts)).argmax(dim=1) == torch.arange(16)
    assert right.float().mean() > 0.9
    assert before.float().mean() < 0.5


@pytest.mark.parametrize("name", [*SIMILARITIES, "bilinear"])
def test_half_precision_and_autocast_are_computed_in_float32(pair, name):
    images, texts = (each.bfloat16() for each in pair)
    expected = similarities(name, images.float(), texts.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = similarities(name, images, texts)
    assert found.dtype == torch.float32
    assert found.equal(expected)


@pytest.mark.parametrize("name", [*SIMILARITIES, "bilinear"])
def test_float64_stays_float64_and_gradients_are_right(pair, name):
    prepare = make_similarity(name, embed_dim=4)
    if isinstance(prepare, Bilinear):
        prepare.double()
    leaves = [each.clone().requires_grad_() for each in pair]
    assert dot_products(*prepare(*leaves)).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda i, t: dot_products(*prepare(i, t)), leaves)


@pytest.mark.parametrize("name", [*SIMILARITIES, "bilinear"])
def test_features_of_zeros_and_empty_batches(name):
    zeros = torch.zeros(2, 4, requires_grad=True)
    found = similarities(name, zeros, torch.ones(3, 4))
    found.sum().backward()
    assert found.isfinite().all()
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()
    assert similarities(name, torch.zeros(0, 4), torch.ones(3, 4)).shape == (0, 3)


def test_each_row_is_prepared_by_itself(pair):
    for prepare in (cosine, dot, euclidean):
        together, _ = prepare(*pair)
        alone = torch.cat([prepare(row[None], pair[1])[0] for row in pair[0]])
        torch.testing.assert_close(together, alone)


def test_an_unknown_similarity_is_named_with_the_nearest():
    with pytest.raises(UsageError, match=r"Unknown similarity 'cosin'. Did you mean 'cosine'\?"):
        make_similarity("cosin", embed_dim=4)
