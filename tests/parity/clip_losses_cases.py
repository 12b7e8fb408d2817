"""The features that both sides of the contrastive losses parity tests use.

Made from the formula of `vision_numbers.uniform`: the same on every machine. Imports torch alone,
because it also runs beside the references.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from vision_numbers import uniform

SHAPES = {"one pair": (1, 4), "two pairs": (2, 3), "as many as wide": (6, 6), "wide": (5, 12)}
"""Name -> B, E."""
SCALES = {
    "start of CLIP": math.log(1 / 0.07),
    "start of SigLIP": math.log(10),
    "end": math.log(100),
}
"""Name -> logit_scale."""
BIAS = -10.0
TEACHER_WIDTH = 7
TEACHER_SCALE = math.log(50)
CASES = [f"{shape}, {scale}" for shape in SHAPES for scale in SCALES]


def case(name: str, *, seed: int) -> dict[str, Tensor]:
    """Name -> float64: images and texts (B, E), unnormalised and somewhat alike, scale and bias (),
    teacher_images and teacher_texts (B, TEACHER_WIDTH)."""
    shape, scale = name.split(", ")
    size = SHAPES[shape]
    images = uniform(f"{shape} images", size, seed=seed).double()
    texts = uniform(f"{shape} texts", size, seed=seed).double()
    teacher = uniform(f"{shape} teacher", (2, size[0], TEACHER_WIDTH), seed=seed).double()
    return {
        "images": 3 * images,
        "texts": images + texts,
        "scale": torch.tensor(SCALES[scale], dtype=torch.float64),
        "bias": torch.tensor(BIAS, dtype=torch.float64),
        "teacher_images": teacher[0],
        "teacher_texts": teacher[0] + teacher[1],
    }


def observe(loss: Callable[..., Tensor], given: dict[str, Tensor]) -> dict[str, Any]:
    """The value of loss(images, texts, scale, bias), and its gradients by name as nested lists.

    A gradient that does not reach an argument is written as zeros.
    """
    names = ("images", "texts", "scale", "bias")
    leaves = [given[name].detach().clone().requires_grad_() for name in names]
    value = loss(*leaves)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    found = {name: each.tolist() for name, each in zip(names, gradients, strict=True)}
    return {"loss": value.item()} | found
