"""Every contrastive loss against its formula in plain loops, and what holds for all of them.

Comparisons with open_clip and transformers are in `tests/parity/test_clip_losses.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from maquette.errors import UsageError
from maquette.tasks.image_text.losses import (
    LOSSES,
    PARTS,
    chance_loss,
    check_parameters,
    loss_parts,
    pair_logits,
)
from maquette.tasks.image_text.similarity import SIMILARITIES, Bilinear, cosine, dot, normalise

PAIRWISE = ("siglip",)
"""Losses that judge a single pair."""


def features(size: int, width: int = 6, *, seed: int = 0, dtype: Any = torch.float64) -> Any:
    """Images and texts that are somewhat alike, a scale and a bias; all want gradients."""
    generator = torch.Generator().manual_seed(seed)
    images, noise = torch.randn(2, size, width, generator=generator, dtype=torch.float64)
    given = (images * 2, images + noise, torch.tensor(1.5), torch.tensor(-3.0))
    return tuple(each.to(dtype).detach().requires_grad_() for each in given)


def own(name: str, size: int, **given: float) -> dict[str, Any]:
    """The loss's own arguments: defaults, and a teacher for distillation."""
    found: dict[str, Any] = check_parameters(name, given)
    if name == "distillation":
        teacher = torch.randn(2, size, 4, generator=torch.Generator().manual_seed(5))
        found |= {"teacher_image_features": teacher[0], "teacher_text_features": teacher[1]}
    return found


def gradients(loss: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, of, allow_unused=True, materialize_grads=True))


# The formulas, one number at a time. `s` are similarities and `l` logits, as nested lists.

Table = list[list[float]]


def both(direction: Callable[[Table], float], table: Table) -> float:
    turned = [list(column) for column in zip(*table, strict=True)]
    return (direction(table) + direction(turned)) / 2


def infonce_loop(l: Table, smoothing: float = 0.0) -> float:  # noqa: E741
    def rows(l: Table) -> float:  # noqa: E741
        total = 0.0
        for i, row in enumerate(l):
            normaliser = sum(math.exp(x) for x in row)
            for j, x in enumerate(row):
                target = (1 - smoothing) * (i == j) + smoothing / len(row)
                total -= target * math.log(math.exp(x) / normaliser)
        return total / len(l)

    return both(rows, l)


def siglip_loop(l: Table) -> float:  # noqa: E741
    total = 0.0
    for i, row in enumerate(l):
        for j, x in enumerate(row):
            z = 1 if i == j else -1
            total -= math.log(1 / (1 + math.exp(-z * x)))
    return total / len(l)


def dcl_loop(l: Table) -> float:  # noqa: E741
    def rows(l: Table) -> float:  # noqa: E741
        total = 0.0
        for i, row in enumerate(l):
            others = sum(math.exp(x) for j, x in enumerate(row) if j != i)
            total -= math.log(math.exp(row[i]) / others)
        return total / len(l)

    return both(rows, l)


def hn_nce_loop(l: Table, alpha: float, beta: float) -> float:  # noqa: E741
    def rows(l: Table) -> float:  # noqa: E741
        total = 0.0
        for i, row in enumerate(l):
            negatives = [x for j, x in enumerate(row) if j != i]
            normaliser = sum(math.exp(beta * x) for x in negatives)
            denominator = alpha * math.exp(row[i])
            for x in negatives:
                weight = (len(row) - 1) * math.exp(beta * x) / normaliser
                denominator += weight * math.exp(x)
            total -= math.log(math.exp(row[i]) / denominator)
        return total / len(l)

    return both(rows, l)


def unicl_loop(l: Table, groups: list[list[int]]) -> float:  # noqa: E741
    def rows(l: Table) -> float:  # noqa: E741
        total = 0.0
        for i, row in enumerate(l):
            matches = [
                j
                for j in range(len(row))
                if groups[i][0] == groups[j][0] or groups[i][1] == groups[j][1]
            ]
            normaliser = sum(math.exp(x) for x in row)
            for j in matches:
                total -= math.log(math.exp(row[j]) / normaliser) / len(matches)
        return total / len(l)

    return both(rows, l)


def triplet_loop(s: Table, margin: float, hardest: float) -> float:
    def rows(s: Table) -> float:
        total = 0.0
        for i, row in enumerate(s):
            costs = [max(0.0, margin + x - row[i]) for j, x in enumerate(row) if j != i]
            total += hardest * max(costs) + (1 - hardest) * sum(costs) / len(costs)
        return total / len(s)

    return both(rows, s)


def consistency_loops(images: Tensor, texts: Tensor) -> tuple[float, float]:
    """CyCLIP's two terms without their weights: within the modalities and across them."""
    x, t = normalise(images).tolist(), normalise(texts).tolist()
    within = across = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            ii = sum(a * b for a, b in zip(x[i], x[j], strict=True))
            tt = sum(a * b for a, b in zip(t[i], t[j], strict=True))
            it = sum(a * b for a, b in zip(x[i], t[j], strict=True))
            ti = sum(a * b for a, b in zip(x[j], t[i], strict=True))
            within += (ii - tt) ** 2
            across += (it - ti) ** 2
    return within / len(x), across / len(x)


def logits_of(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor | None = None) -> Table:
    """Cosines times exp(scale) plus bias, by hand."""
    table = []
    for image in images.tolist():
        row = []
        for text in texts.tolist():
            cos = sum(a * b for a, b in zip(image, text, strict=True))
            cos /= math.dist(image, [0] * len(image)) * math.dist(text, [0] * len(text))
            row.append(math.exp(scale.item()) * cos + (0 if bias is None else bias.item()))
        table.append(row)
    return table


def same(loss: Tensor, expected: float) -> None:
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_infonce_and_its_smoothing_are_the_formula(size):
    i, t, scale, bias = features(size)
    same(LOSSES["infonce"](i, t, scale), infonce_loop(logits_of(i, t, scale)))
    smoothed = infonce_loop(logits_of(i, t, scale, bias), smoothing=0.1)
    same(LOSSES["infonce"](i, t, scale, logit_bias=bias, label_smoothing=0.1), smoothed)


@pytest.mark.parametrize("chunk", [None, 1, 3])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_siglip_is_the_formula(size, chunk):
    i, t, scale, bias = features(size)
    loss = LOSSES["siglip"](i, t, scale, logit_bias=bias, chunk=chunk)
    same(loss, siglip_loop(logits_of(i, t, scale, bias)))


def test_siglip_takes_the_start_of_the_bias_where_there_is_no_bias():
    i, t, scale, _ = features(4)
    same(LOSSES["siglip"](i, t, scale), siglip_loop(logits_of(i, t, scale)))
    fixed = siglip_loop(logits_of(i, t, scale, torch.tensor(-10.0)))
    same(LOSSES["siglip"](i, t, scale, bias=-10.0), fixed)
    learned = LOSSES["siglip"](i, t, scale, bias=5.0, logit_bias=torch.tensor(-10.0))
    same(learned, fixed)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_dcl_is_the_formula(size):
    i, t, scale, _ = features(size)
    same(LOSSES["dcl"](i, t, scale), dcl_loop(logits_of(i, t, scale)))


@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.25), (0.0, 0.25), (0.3, 2.0), (1.0, 0.0)])
def test_hn_nce_is_the_formula(size, alpha, beta):
    i, t, scale, _ = features(size)
    expected = hn_nce_loop(logits_of(i, t, scale), alpha, beta)
    same(LOSSES["hn_nce"](i, t, scale, alpha=alpha, beta=beta), expected)


def test_hn_nce_contains_infonce_and_dcl():
    i, t, scale, _ = features(6)
    same(LOSSES["hn_nce"](i, t, scale, alpha=1, beta=0), LOSSES["infonce"](i, t, scale).item())
    same(LOSSES["hn_nce"](i, t, scale, alpha=0, beta=0), LOSSES["dcl"](i, t, scale).item())


def test_cyclip_is_the_formula():
    i, t, scale, _ = features(5)
    within, across = consistency_loops(i, t)
    parts = loss_parts("cyclip", i, t, scale, in_modal=0.5, cross_modal=2.0)
    assert list(parts) == ["infonce", "in_modal", "cross_modal"]
    same(parts["infonce"], infonce_loop(logits_of(i, t, scale)))
    same(parts["in_modal"], 0.5 * within)
    same(parts["cross_modal"], 2.0 * across)


def test_cyclips_geometry_does_not_depend_on_the_similarity():
    i, t, scale, _ = features(5)
    by_cosine, by_dot = (
        loss_parts("cyclip", i, t, scale - 3, similarity=prepare) for prepare in (cosine, dot)
    )
    for name in ("in_modal", "cross_modal"):
        torch.testing.assert_close(by_cosine[name], by_dot[name])
    assert by_cosine["infonce"] != by_dot["infonce"]


GROUPS = [[0, 0], [1, 1], [1, 2], [3, 0], [4, 4], [5, 5]]
"""Pairs 1 and 2 have one image, pairs 0 and 3 one text."""


def test_unicl_is_the_formula_and_counts_repeated_images_and_texts():
    i, t, scale, _ = features(6)
    expected = unicl_loop(logits_of(i, t, scale), GROUPS)
    same(LOSSES["unicl"](i, t, scale, groups=torch.tensor(GROUPS)), expected)
    assert abs(expected - infonce_loop(logits_of(i, t, scale))) > 0.01


def test_unicl_without_repeats_is_infonce():
    i, t, scale, _ = features(6)
    apart = torch.arange(6).repeat(2, 1).T
    same(LOSSES["unicl"](i, t, scale, groups=apart), LOSSES["infonce"](i, t, scale).item())
    same(LOSSES["unicl"](i, t, scale), LOSSES["infonce"](i, t, scale).item())


def test_unicl_does_not_push_equal_captions_apart():
    """With two copies of one pair InfoNCE cannot go below ln 2; UniCL's gradient vanishes there."""
    i, t, _, _ = features(1)
    i, t = i.detach().repeat(2, 1).requires_grad_(), t.detach().repeat(2, 1).requires_grad_()
    loss = LOSSES["unicl"](i, t, torch.tensor(3.0), groups=torch.tensor([[0, 0], [1, 0]]))
    assert all(g.abs().max() < 1e-12 for g in gradients(loss, i, t))


@pytest.mark.parametrize("hardest", [0.0, 0.25, 1.0])
def test_triplet_is_the_formula(hardest):
    i, t, _, _ = features(7)
    cosines = logits_of(i, t, torch.tensor(0.0))
    expected = triplet_loop(cosines, 0.6, hardest)
    assert expected > 0.05, "otherwise the case tests nothing"
    same(LOSSES["triplet"](i, t, torch.tensor(9.0), margin=0.6, hardest=hardest), expected)


def test_distillation_by_a_teacher_of_the_same_mind_has_no_gradient_of_its_own():
    i, t, _, _ = features(6)
    parts = loss_parts(
        "distillation",
        i,
        t,
        torch.tensor(2.0, dtype=torch.float64),
        teacher_image_features=3 * i.detach(),
        teacher_text_features=t.detach(),
        teacher_temperature=math.exp(-2.0),
        weight=0.5,
    )
    assert list(parts) == ["infonce", "teacher"]
    assert parts["teacher"] > 0.01, "the entropy of the teacher"
    assert all(g.abs().max() < 1e-12 for g in gradients(parts["teacher"], i, t))


def test_the_teacher_gets_no_gradient():
    i, t, scale, _ = features(4)
    teacher = torch.randn(2, 4, 3, requires_grad=True)
    loss = LOSSES["distillation"](
        i, t, scale, teacher_image_features=teacher[0], teacher_text_features=teacher[1]
    )
    assert (gradients(loss, teacher)[0] == 0).all()


# What holds for all of them.


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_value(name):
    i, t, scale, bias = features(4, dtype=torch.float64)
    arguments = {
        key: value.double() if isinstance(value, Tensor) else value
        for key, value in own(name, 4).items()
    }

    def loss(i: Tensor, t: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return LOSSES[name](i, t, scale, logit_bias=bias, **arguments)

    assert torch.autograd.gradcheck(loss, (i, t, scale, bias))


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_the_pairs_does_not_matter(name):
    i, t, scale, _ = features(6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    arguments = own(name, 6)
    turned = {
        key: value[order] if isinstance(value, Tensor) else value
        for key, value in arguments.items()
    }
    groups = torch.tensor(GROUPS)
    straight = LOSSES[name](i, t, scale, groups=groups, **arguments)
    shuffled = LOSSES[name](i[order], t[order], scale, groups=groups[order], **turned)
    torch.testing.assert_close(straight, shuffled)
    wrong = LOSSES[name](i[order], t, scale, groups=groups, **arguments)
    assert abs(wrong - straight) > 1e-3


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean", "bilinear"])
def test_a_batch_of_one_has_nothing_to_learn(name, similarity):
    prepare = Bilinear(6).double() if similarity == "bilinear" else SIMILARITIES[similarity]
    i, t, scale, bias = features(1)
    loss = LOSSES[name](i, t, scale, similarity=prepare, logit_bias=bias, **own(name, 1))
    found = gradients(loss, i, t, scale, bias)
    assert all(g.isfinite().all() for g in found)
    if name not in PAIRWISE:
        assert abs(loss.item()) < 1e-30
        assert all((g.abs() < 1e-12).all() for g in found)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [0.0, 1.0, 1e-30, 1e15])
def test_equal_features_are_no_trouble(name, value):
    i = torch.full((4, 3), value, requires_grad=True)
    t = torch.full((4, 3), value, requires_grad=True)
    loss = LOSSES[name](i, t, torch.tensor(2.0), **own(name, 4))
    assert loss.isfinite()
    assert all(g.isfinite().all() for g in gradients(loss, i, t))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [-30.0, math.log(100), 30.0])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_huge_and_tiny_logits_are_no_trouble(name, scale, similarity):
    i, t, _, bias = features(5, dtype=torch.float32)
    log_scale = torch.tensor(scale, requires_grad=True)
    prepare = SIMILARITIES[similarity]
    loss = LOSSES[name](i, t, log_scale, similarity=prepare, logit_bias=bias, **own(name, 5))
    assert loss.isfinite()
    assert all(g.isfinite().all() for g in gradients(loss, i, t, log_scale, bias))


@pytest.mark.parametrize("name", LOSSES)
def test_small_losses_at_a_low_temperature_keep_their_digits(name):
    i, t, _, bias = features(5)
    scale = torch.tensor(math.log(100), dtype=torch.float64)
    t = (i.detach() + 0.1 * t.detach()).requires_grad_()
    arguments = {"logit_bias": bias, **own(name, 5)}
    exact = LOSSES[name](i, t, scale, **arguments)
    rounded = LOSSES[name](i.float(), t.float(), scale.float(), **arguments)
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=2e-5, abs=2e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_and_autocast_change_nothing_but_the_features(name, dtype):
    i, t, scale, _ = features(6, dtype=dtype)
    scale = scale.detach().float()
    expected = LOSSES[name](i.float(), t.float(), scale, **own(name, 6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = LOSSES[name](i, t, scale, **own(name, 6))
        parts = loss_parts(name, i, t, scale, **own(name, 6))
    assert found.dtype == torch.float32
    assert found == expected
    assert sum(parts.values()).item() == pytest.approx(expected.item(), rel=1e-6)
    assert all(g.isfinite().all() for g in gradients(found, i, t))


@pytest.mark.parametrize("name", LOSSES)
def test_the_parts_sum_to_the_loss(name):
    i, t, scale, bias = features(5)
    arguments = {"logit_bias": bias, "groups": torch.tensor(GROUPS[:5]), **own(name, 5)}
    parts = loss_parts(name, i, t, scale, **arguments)
    same(sum(parts.values()), LOSSES[name](i, t, scale, **arguments).item())
    assert (len(parts) > 1) == (name in PARTS)


@pytest.mark.parametrize("name", LOSSES)
def test_a_few_steps_of_descent_find_the_pairs(name):
    i, t, _, _ = features(6, 8, dtype=torch.float32)
    t = torch.randn(6, 8, generator=torch.Generator().manual_seed(9)).requires_grad_()
    arguments = own(name, 6)
    if name == "distillation":  # its teacher knows which text is whose
        arguments |= {"teacher_image_features": torch.eye(6), "teacher_text_features": torch.eye(6)}
    if name == "triplet":  # the mean of the negatives leaves a few wrong ones alone
        arguments |= {"hardest": 0.5}
    scale, bias = torch.tensor(math.log(10)), torch.tensor(-3.0)
    optimizer = torch.optim.Adam([i, t], lr=0.1)
    first = None
    for _ in range(60):
        loss = LOSSES[name](i, t, scale, logit_bias=bias, **arguments)
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logits = pair_logits(i, t, scale)
    assert loss.item() < first
    for direction in (logits, logits.T):
        assert direction.argmax(dim=1).tolist() == list(range(6))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("infonce", math.log(16)),
        ("unicl", math.log(16)),
        ("cyclip", math.log(16)),
        ("hn_nce", math.log(16)),
        ("dcl", math.log(15)),
        ("siglip", math.log1p(math.exp(10)) + 15 * math.log1p(math.exp(-10))),
        ("triplet", 0.2),
        ("distillation", 2 * math.log(16)),
    ],
)
def test_the_loss_of_chance(name, expected):
    assert chance_loss(name, 16, **check_parameters(name, {})) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_chance_is_that_of_random_features():
    i, t = torch.randn(2, 64, 4096, generator=torch.Generator().manual_seed(0))
    found = LOSSES["infonce"](i, t, torch.tensor(math.log(1 / 0.07))).item()
    assert found == pytest.approx(chance_loss("infonce", 64), rel=0.02)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "shapes", [((0, 4), (0, 4)), ((3, 4), (2, 4)), ((3, 4), (3, 5)), ((4,), (4,))]
)
def test_features_that_are_no_pairs_are_refused(name, shapes):
    i, t = (torch.ones(shape) for shape in shapes)
    with pytest.raises(
        ValueError, match=r"takes two \(B, E\) with B at least 1, paired row by row"
    ):
        LOSSES[name](i, t, torch.tensor(1.0), **own(name, 3))


def test_groups_and_teachers_of_another_batch_are_refused():
    i, t, scale, _ = features(4)
    with pytest.raises(ValueError, match=r"groups is \(4,\), expected \(4, 2\)"):
        LOSSES["unicl"](i, t, scale, groups=torch.arange(4))
    with pytest.raises(ValueError, match="The teacher has 3 pairs, the student 4; give both the"):
        LOSSES["distillation"](i, t, scale, **own("distillation", 3))


def test_distillation_without_a_teacher_says_where_it_is_named():
    i, t, scale, _ = features(4)
    with pytest.raises(UsageError, match=r"set contrastive\.teacher to its checkpoint"):
        loss_parts("distillation", i, t, scale)
    with pytest.raises(UsageError, match=r"Unknown loss 'infonc'. Did you mean 'infonce'\?"):
        loss_parts("infonc", i, t, scale)
