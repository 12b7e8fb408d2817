"""What every dataset gives: an image, its mask and a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

IGNORE = 255
"""Mask value of pixels that count neither in the loss nor in the metrics."""


class Sample(NamedTuple):
    """One image with its mask."""

    image: Tensor
    """uint8 (C,H,W) in [0, 255], or float32 (C,H,W) in [0, 1]."""
    mask: Tensor
    """uint8 (H,W): class ids 0 ... N - 1 with N <= 255, or IGNORE."""
    name: str
    """What messages and result tables call it, such as the file's stem."""


class Samples(Protocol):
    """A dataset: `ToyShapes`, `FolderDataset`, or yours; anything with these three."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names; class i is the i-th."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...
