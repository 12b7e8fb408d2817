"""Dropout (Srivastava et al. 2014) with fewer random draws.

In training each number is set to 0 with probability p and the others are divided by 1 - p.
PyTorch's CPU dropout draws one random number for each element, one after the other, and took a
tenth of a training step; here one draw of 64 bits decides four elements. Other devices use
PyTorch's. Draws come from PyTorch's global generator, so seeds and resumed runs work as usual.

In and out: float of any shape.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 1 << 16
"""Values of the 16 bits that decide an element: p is rounded to a multiple of 1 / STEPS."""


class Dropout(nn.Module):
    """`dropout` in training, nothing otherwise."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x


def dropout(x: Tensor, p: float) -> Tensor:
    """Drop elements with probability p, 0 <= p < 1, and scale the others by 1 / (1 - p)."""
    dropped = min(round(p * STEPS), STEPS - 1)
    if dropped == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64)
    draws.random_(torch.iinfo(torch.int64).min, None)  # all 64 bits
    bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
    kept = bits >= dropped - STEPS // 2
    return x * kept.to(x.dtype).mul_(STEPS / (STEPS - dropped))
