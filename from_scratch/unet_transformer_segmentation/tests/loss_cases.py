"""Logits and targets that the tests of the losses share."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def make(num_classes=3, *, size=(5, 6), images=3, seed=0, ignored=True, dtype=torch.float64):
    """Logits, target with an ignored corner and a class that one image lacks, and valid."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, num_classes, *size, generator=generator, dtype=dtype)
    target = torch.randint(0, max(num_classes, 2), (images, *size), generator=generator)
    target[0][target[0] == 1] = 0
    valid = torch.ones(images, *size, dtype=torch.bool)
    if ignored:
        target[:, 0, :2] = 255
        valid[-1, :, -2:] = False
    return logits, target, valid


def sure(prediction, num_classes=3, logit=60.0):
    """Logits that predict the ids of (B, H, W) with certainty."""
    return logit * F.one_hot(prediction, num_classes).movedim(-1, 1).float()
