"""What the golden and the live CLIP tests check: the same numbers, keys and gradients."""

from __future__ import annotations

from typing import Any

import torch
from clip_cases import CASES, condense, cotangents, fill, images, tokens
from torch import Tensor

from maquette.tasks.image_text.architectures import ClipConfig
from maquette.tasks.image_text.clip import CLIP

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
"""Largest absolute difference of features of order one."""


def filled(name: str, *, seed: int = 0, antialias: bool = True, **options: Any) -> CLIP:
    """Build our model of a case and fill it by the formula."""
    model = CLIP(ClipConfig(**CASES[name], antialias_positions=antialias), **options)
    model.load_state_dict(fill(model.state_dict(), seed=seed))
    return model.eval()


def check_features(
    model: CLIP, name: str, expected: dict[str, Any], dtype: torch.dtype, *, seed: int = 0
) -> None:
    """Compare features and gradients at the case's own size."""
    pixels, ids = images(CASES[name], seed=seed).to(dtype), tokens(CASES[name])
    image_features, text_features = model.to(dtype)(pixels, ids)
    tolerance = TOLERANCE[dtype]
    check_close(image_features, expected["image_features"], tolerance)
    check_close(text_features, expected["text_features"], tolerance)

    scalar = (image_features * cotangents(image_features, "image")).sum()
    (scalar + (text_features * cotangents(text_features, "text")).sum()).backward()
    gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    assert set(gradients) == set(expected["gradients"])
    for key, theirs in expected["gradients"].items():
        # An attention's key bias has no gradient but rounding, hence the absolute part.
        found = condense(key, gradients[key])
        assert abs(found[0] - theirs[0]) <= tolerance * (1 + 10 * theirs[0]), key
        assert abs(found[1] - theirs[1]) <= tolerance * (1 + 10 * theirs[0]), key


def check_sizes(
    model: CLIP, name: str, expected: dict[str, Any], dtype: torch.dtype, *, seed: int = 0
) -> None:
    """Compare image features at other sizes, where positions are resampled."""
    model = model.to(dtype)
    for cells, features in expected["sizes"].items():
        with torch.no_grad():
            found = model.encode_image(images(CASES[name], int(cells), seed=seed).to(dtype))
        check_close(found, features, TOLERANCE[dtype])


def check_close(found: Tensor, expected: Any, tolerance: float) -> None:
    """Compare with numbers that were written as JSON."""
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.detach().double(), wanted, rtol=0, atol=tolerance)
