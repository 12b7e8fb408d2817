"""The logits and targets that both sides of the segmentation losses parity tests use.

Made from the formula of `vision_numbers.uniform`: the same on every machine. Imports torch alone,
because it also runs beside the reference.
"""

from __future__ import annotations

import torch
from seg_metrics_cases import IGNORE, NUM_CLASSES, SHAPE, blobs
from torch import Tensor
from vision_numbers import uniform

WEIGHTS = (0.5, 1.0, 3.0, 2.0)
SMOOTH = 3.0
"""In pixels; large enough that a smooth put in another place would show."""
ALPHA = 0.25
"""Weight of the foreground in the binary focal loss; the background's is the rest."""


def cases(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Name -> logits (B, N, H, W) float64 and target (B, H, W) int64; N = 1 in binary ones."""
    logits = 4 * uniform("logits", (SHAPE[0], NUM_CLASSES, *SHAPE[1:]), seed=seed).double()
    target = blobs("target", seed=seed)
    target[:, 0, :NUM_CLASSES] = torch.arange(NUM_CLASSES)  # every class in every image
    ignored = target.where(blobs("ignored", seed=seed) != 0, IGNORE)
    ignored[:, -1, :NUM_CLASSES] = torch.arange(NUM_CLASSES)
    absent = target.clone()
    absent[0][absent[0] == 2] = 1  # no longer in the target of image 0, but predicted
    absent[1] = 0
    silent = logits.clone()
    silent[1, 3] -= 20  # neither in the target of image 1 nor predicted
    binary, has = logits[:, :1], (target == 1).long()
    empty = has.clone()
    empty[0] = 0
    return {
        "all classes": (logits, target),
        "ignored pixels": (logits, ignored),
        "absent classes": (silent, absent),
        "binary": (binary, has),
        "binary ignored pixels": (binary, has.where(ignored != IGNORE, IGNORE)),
        "binary without foreground": (binary, empty),
    }


def observe(losses_B: Tensor, logits: Tensor) -> dict[str, list[float]]:
    """The loss of each image, and of the gradient of their sum the size and a projection."""
    (gradient,) = torch.autograd.grad(losses_B.sum(), logits)
    probe = uniform("probe", tuple(gradient.shape)).to(gradient)
    return {
        "losses": losses_B.tolist(),
        "gradient": [gradient.norm().item(), (gradient * probe).sum().item()],
    }
