"""What every dataset gives: an image, its mask and a name."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

IGNORE = 255
"""Mask value of pixels that count neither in the loss nor in the metrics."""


class Sample(NamedTuple):
    """One image with its mask.

    A dataset is a torch Dataset whose items are samples and which names its classes in
    `.classes`; class i is the i-th name.
    """

    image: Tensor
    """uint8 (C,H,W) in [0, 255], or float32 (C,H,W) in [0, 1]."""
    mask: Tensor
    """uint8 (H,W): class ids 0 ... N - 1 with N <= 255, or IGNORE."""
    name: str
    """What messages and result tables call it, such as the file's stem."""
