"""Sinusoidal positions: each place in time as a vector of sines and cosines.

Vaswani et al. 2017 (arXiv 1706.03762), section 3.5. Two layouts are in use:

- `interleaved`: sin and cos take turns, wavelengths 2 pi 10000^(2i / D), i = 0 .. D/2 - 1;
- `concatenated`: all sines, then all cosines, wavelengths 2 pi 10000^(i / (D/2 - 1)); FunASR's
  SAN-M encoder has these, with the first frame at position 1.

In: whole numbers. Out: float tables (T, D) with values in [-1, 1]. Tables are computed in float64
(a float32 product is wrong by 1e-5 after 100 frames) and kept, so a step costs a slice.

Letters: T positions, D width, even.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from paraformer_asr.errors import AsrError

Layout = Literal["interleaved", "concatenated"]

LEGACY_LENGTH = 5000
"""Rows of the table that older relative positions take their first T rows from."""


def positions(layout: Layout, first: int, count: int, dim: int, like: Tensor) -> Tensor:
    """The vectors of positions first .. first + count - 1.

    Args:
        layout: see above.
        first: at least 0.
        dim: D.
        like: a tensor whose dtype and device the table gets.
    Returns:
        (count, D); not to be changed in place, it is shared.
    Raises:
        AsrError: a width that cannot hold this layout.
    """
    rows = rounded_up(first + count)
    table = cached_table(layout, 0, 1, rows, dim, like.dtype, str(like.device))
    return table[first : first + count]


def relative_positions(count: int, like: Tensor) -> Tensor:
    """The vectors of the distances count - 1, .., 0, .., 1 - count, interleaved.

    A distance is the query's position minus the key's (Dai et al. 2019, arXiv 1901.02860).

    Args:
        count: T, at least 1.
        like: a tensor (..., D) whose width, dtype and device the table gets.
    Returns:
        (2 T - 1, D).
    """
    reach = rounded_up(count)
    table = cached_table(
        "interleaved", reach - 1, -1, 2 * reach - 1, like.shape[-1], like.dtype, str(like.device)
    )
    return table[reach - count : reach + count - 1]


def legacy_positions(count: int, like: Tensor) -> Tensor:
    """The first rows of a reversed table, (count, D): what older checkpoints were trained with.

    ESPnet and FunASR build the table for 5000 frames, last position first, and take its first
    `count` rows: positions 4999, 4998, .. and not count - 1, .., 0. Longer inputs get a table of
    their own length. They compute in float32, where the angle 4999 is rounded by up to 2.4e-4; the
    weights were trained with these numbers, so they are made the same way here.
    """
    rows = max(count, LEGACY_LENGTH)
    table = cached_table(
        "interleaved",
        rows - 1,
        -1,
        rows,
        like.shape[-1],
        like.dtype,
        str(like.device),
        computed=torch.float32,
    )
    return table[:count]


def rounded_up(count: int) -> int:
    """The next power of two from 512 on, so that few tables serve all lengths."""
    return 1 << max(9, (count - 1).bit_length())


@lru_cache(maxsize=16)
def cached_table(
    layout: Layout,
    first: int,
    step: int,
    rows: int,
    dim: int,
    dtype: torch.dtype,
    device: str,
    computed: torch.dtype = torch.float64,
) -> Tensor:
    """The vectors of positions first, first + step, .., (rows, dim)."""
    need = 4 if layout == "concatenated" else 2
    if dim % 2 or dim < need:
        raise AsrError(
            f"{layout} positions need an even width of at least {need}, not {dim}; "
            "change features.num_mels or features.stack (sanm), or model.dim."
        )
    half = dim // 2
    divisor = half - 1 if layout == "concatenated" else half
    with torch.inference_mode(False):  # what is kept may be needed in training later
        place = first + step * torch.arange(rows, dtype=computed)
        rate = torch.exp(torch.arange(half, dtype=computed) * (-math.log(10000) / divisor))
        angle = place[:, None] * rate
        pair = (angle.sin(), angle.cos())
        table = (
            torch.cat(pair, dim=1)
            if layout == "concatenated"
            else torch.stack(pair, dim=2).flatten(1)
        )
        return table.to(dtype).to(device)  # in this order: MPS has no float64
