"""Position tables for other image sizes and text lengths: a fixed linear map of the original table.

Resampling is linear in the table, so it is done by a matrix: resample the identity once, then
multiply. That runs and has gradients on every device (antialiased resampling has none on some).

Letters: P P' positions before and after, g grid cells along a side, D width.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def resample_image_positions(table_PD: Tensor, *, grid: int, antialias: bool) -> Tensor:
    """Resample the table of a square grid bicubically; the class token's row stays as it is.

    Args:
        table_PD: (1 + g², D), row 0 for the class token (a ResNet's mean token), then the grid row
            by row. Always the original table: resampling twice blurs.
        grid: cells along each side of the new grid.
        antialias: True gives open_clip's numbers, False those of transformers. They differ even
            upwards, because PyTorch's cubic kernel has another coefficient then (-0.5, not -0.75).
    Returns:
        (1 + grid², D), of the same dtype and device; `table_PD` itself where the grid is the same.
    """
    old = round((table_PD.shape[0] - 1) ** 0.5)
    if old == grid:
        return table_PD
    matrix = _bicubic(old, grid, antialias).to(table_PD)
    with torch.autocast(table_PD.device.type, enabled=False):
        cells = matrix @ table_PD[1:]
    return torch.cat([table_PD[:1], cells])


def resample_text_positions(table_TD: Tensor, *, length: int) -> Tensor:
    """Resample a table of text positions linearly: (T, D) -> (length, D), as open_clip does."""
    if table_TD.shape[0] == length:
        return table_TD
    columns = table_TD.float().T[None]
    resampled = F.interpolate(columns, size=length, mode="linear", align_corners=False)
    return resampled[0].T.to(table_TD.dtype).contiguous()


@lru_cache(maxsize=64)
def _bicubic(old: int, new: int, antialias: bool) -> Tensor:
    """Return the float64 matrix (new², old²) that resamples a grid; column j is cell j alone."""
    images = torch.eye(old * old, dtype=torch.float64).view(old * old, 1, old, old)
    resampled = F.interpolate(
        images, size=(new, new), mode="bicubic", align_corners=False, antialias=antialias
    )
    return resampled.view(old * old, new * new).T.contiguous()
