"""The masks that both sides of the segmentation metrics parity tests measure.

Small maps of class ids made from the formula of `vision_numbers.uniform`: the same on every
machine. Imports torch alone, because it also runs beside the references.
"""

from __future__ import annotations

import torch
from torch import Tensor
from vision_numbers import uniform

NUM_CLASSES = 4
IGNORE = 255
SHAPE = (3, 20, 27)
"""Three images; not square, so that swapped sides would show."""
SPACINGS = ((1.0, 1.0), (2.0, 0.75))
TOLERANCES = (0.0, 1.0, 2.5)


def blobs(name: str, *, seed: int) -> Tensor:
    """Class ids (B, H, W) in connected regions: the largest of one smoothed field per class."""
    images, height, width = SHAPE
    field = uniform(name, (images * NUM_CLASSES, 1, height, width), seed=seed).double()
    for _ in range(3):
        field = torch.nn.functional.avg_pool2d(field, 3, stride=1, padding=1)
    return field.reshape(images, NUM_CLASSES, height, width).argmax(dim=1)


def cases(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Name -> (prediction, target), int64 (B, H, W); every way in which a class can be empty."""
    pred, target = blobs("pred", seed=seed), blobs("target", seed=seed)
    without = {"pred": pred.where(pred != 2, 1), "target": target.where(target != 2, 1)}
    first = torch.zeros(SHAPE, dtype=torch.bool)
    first[0] = True
    ignored = target.where(blobs("ignored", seed=seed) != 0, IGNORE)
    zeros = torch.zeros_like(pred)
    dot, two_dots = zeros.clone(), zeros.clone()
    dot[:, 3, 4] = two_dots[:, 3, 4] = two_dots[:, 15, 20] = 1
    return {
        "all classes": (pred, target),
        "all right": (target, target),
        "absent in both": (without["pred"], without["target"]),
        "only in the prediction": (pred, without["target"]),
        "only in the target": (without["pred"], target),
        "absent in one image's target": (pred, without["target"].where(first, target)),
        "absent in one image": (
            without["pred"].where(first, pred),
            without["target"].where(first, target),
        ),
        "nothing but background": (zeros, zeros),
        "background predicted everywhere": (zeros, target),
        "background true everywhere": (pred, zeros),
        "disjoint classes": (zeros + 1, zeros + 2),
        "single pixels": (dot, two_dots),
        "ignored pixels": (pred, ignored),
        "one image ignored": (pred, target.where(~first, IGNORE)),
        "all ignored": (pred, zeros + IGNORE),
        "a class only under ignored pixels": (
            without["pred"],
            target.where(target != 2, IGNORE),
        ),
    }


def one_hot(ids: Tensor, counted: Tensor) -> Tensor:
    """(B, H, W) ids -> (B, N, H, W) bool; pixels that do not count belong to no class."""
    classes = torch.arange(NUM_CLASSES)[:, None, None]
    return (ids[:, None] == classes) & counted[:, None]
