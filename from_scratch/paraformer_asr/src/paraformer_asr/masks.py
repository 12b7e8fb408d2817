"""Lengths to masks. Everywhere in the package a mask is bool and True where data is real.

Letters: B utterances, T frames, K tokens, Q queries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paraformer_asr.errors import AsrError


def length_mask(lengths: Tensor, size: int | None = None) -> Tensor:
    """Mark the real positions of right-padded sequences.

    Args:
        lengths: (B,) int64, 0 <= lengths[b] <= size.
        size: T, the padded length; by default the longest of `lengths`.
    Returns:
        (B, T) bool on the device of `lengths`, True where position < length.
    Raises:
        AsrError: a length above `size`. Checked on the CPU only, where looking costs no wait.
    """
    if size is None:
        size = int(lengths.max()) if lengths.numel() else 0
    elif lengths.device.type == "cpu" and lengths.numel() and int(lengths.max()) > size:
        raise AsrError(
            f"a length of {int(lengths.max())} is longer than the padded size {size}; "
            "lengths count frames after subsampling, at the same rate as the tensor."
        )
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def zero_padding(values: Tensor, mask: Tensor) -> Tensor:
    """Set padded positions to exactly 0, also where they hold NaN.

    Args:
        values: (B, T, ...) any float dtype.
        mask: (B, T) bool, True where real.
    Returns:
        A tensor like `values`. Gradients at padded positions are 0.
    """
    extra = values.ndim - mask.ndim
    return values.masked_fill(~mask.reshape(*mask.shape, *([1] * extra)), 0)
