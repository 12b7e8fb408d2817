"""Contrastive losses against open_clip and transformers, values and all gradients.

Stored numbers run in the ordinary suite; with `-m peers` numbers made just now from another seed.
The references give the losses that they have; the others are compared with their formulas in
`tests/tasks/image_text/test_contrastive_losses.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from clip_losses_cases import CASES, TEACHER_SCALE, case, observe
from facts import read_facts
from torch import Tensor

from maquette.tasks.image_text.losses import LOSSES

LIVE_SEED = 1
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


@pytest.fixture(scope="module", params=["golden", pytest.param("live", marks=pytest.mark.peers)])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """What the references computed: "golden" from the stored file, "live" just now."""
    folder = tmp_path_factory.mktemp("live")
    return read_facts(request.param, "clip_losses", folder, seed=LIVE_SEED)


def check(facts: dict[str, Any], name: str, peer: str, ours: Callable[..., Tensor]) -> None:
    """`ours` (images, texts, scale, bias) and its gradients are the reference's.

    float32 is compared relative to the largest number of each kind: a gradient at temperature 0.01
    is 100 times a difference of features of order one.
    """
    theirs = facts["cases"][name][peer]
    for dtype, tolerance in TOLERANCE.items():
        given = case(name, seed=facts["made with"]["seed"])
        found = observe(ours, {key: value.to(dtype) for key, value in given.items()})
        for key, value in theirs.items():
            expected = torch.tensor(value, dtype=torch.float64)
            scale = max(1.0, expected.abs().max().item())
            torch.testing.assert_close(
                torch.tensor(found[key], dtype=torch.float64),
                expected,
                rtol=0,
                atol=tolerance * scale,
                msg=lambda text, key=key, dtype=dtype: f"{peer}, {name}, {key}, {dtype}: {text}",
            )


@pytest.mark.parametrize("peer", ["open_clip ClipLoss", "transformers clip"])
@pytest.mark.parametrize("name", CASES)
def test_infonce(facts, name, peer):
    check(facts, name, peer, lambda i, t, s, b: LOSSES["infonce"](i, t, s))


@pytest.mark.parametrize("name", CASES)
def test_infonce_with_a_bias(facts, name):
    def ours(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return LOSSES["infonce"](images, texts, scale, logit_bias=bias)

    check(facts, name, "open_clip ClipLoss with a bias", ours)


@pytest.mark.parametrize("chunk", [None, 1, 4])
@pytest.mark.parametrize("name", CASES)
def test_siglip_in_one_block_and_in_several(facts, name, chunk):
    def ours(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return LOSSES["siglip"](images, texts, scale, logit_bias=bias, chunk=chunk)

    check(facts, name, "open_clip SigLipLoss", ours)


@pytest.mark.parametrize("name", CASES)
def test_distillation(facts, name):
    given = case(name, seed=facts["made with"]["seed"])
    loss = partial(
        LOSSES["distillation"],
        teacher_image_features=given["teacher_images"],
        teacher_text_features=given["teacher_texts"],
        teacher_temperature=math.exp(-TEACHER_SCALE),
    )
    check(facts, name, "open_clip DistillClipLoss", lambda i, t, s, b: loss(i, t, s))


@pytest.mark.parametrize(
    ("loss", "own"),
    [
        ("hn_nce", {"alpha": 1.0, "beta": 0.0}),
        ("unicl", {}),
        ("cyclip", dict.fromkeys(("in_modal", "cross_modal"), 0.0)),
    ],
)
@pytest.mark.parametrize("name", CASES)
def test_losses_that_contain_infonce(facts, name, loss, own):
    check(facts, name, "open_clip ClipLoss", lambda i, t, s, b: LOSSES[loss](i, t, s, **own))
