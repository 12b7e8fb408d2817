"""Exact Euclidean distance transform: how far is every pixel from the nearest marked pixel?

In: a mask, bool (..., H, W), and the size of a pixel. Out: distances, float64 (..., H, W).

The squared distance separates into the two axes,

    d²(y, x) = min over columns q of [ (x - q)² + min over rows p marked in column q of (y - p)² ],

so it is found in two passes (Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled
Functions", 2012). Pass 1 looks up and down each column. Pass 2 finds, in each row, the lower
envelope of one parabola per column. Both take time linear in the number of pixels; pass 2 walks
over the columns in Python and treats all rows of all masks at once in NumPy, so one call for a
stack of masks is quicker than a call for each.

Letters: H, W pixels; R rows of all masks together (their number times H).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unet_seg.errors import SegError


def distance_transform(
    mask: NDArray[np.bool_], spacing: tuple[float, float] = (1.0, 1.0)
) -> NDArray[np.float64]:
    """Distance of the centre of every pixel to the centre of the nearest True pixel.

    Args:
        mask: (..., H, W) bool; each (H, W) plane is treated on its own.
        spacing: height and width of a pixel, in the unit the distances shall have.
    Returns:
        (..., H, W) float64; 0 on True pixels, infinite everywhere in a plane without any. With
        the default spacing the squares are whole numbers and exact.
    Raises:
        SegError: fewer than two axes, another dtype, a spacing that is not positive.
    """
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.ndim < 2:
        raise SegError(
            f"mask is {mask.dtype} with shape {mask.shape}, expected bool (..., H, W); "
            "compare it with a class first: mask == class_id."
        )
    check_spacing(spacing)
    if mask.size == 0:
        return np.zeros(mask.shape)
    height, width = mask.shape[-2:]
    along_y = _distance_in_columns(mask.reshape(-1, height, width)) * spacing[0]
    columns_WR = np.ascontiguousarray(np.square(along_y).reshape(-1, width).T)
    squared_WR = _lower_envelope(columns_WR, spacing[1])
    return np.sqrt(squared_WR.T).reshape(mask.shape)


def check_spacing(spacing: tuple[float, float]) -> None:
    """Raise SegError unless `spacing` is two finite positive numbers."""
    if len(spacing) != 2 or not all(0 < step < np.inf for step in spacing):
        raise SegError(
            f"spacing={spacing} must be two positive numbers: height and width of a pixel."
        )


def _distance_in_columns(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Pass 1: rows from each pixel of (M, H, W) to the nearest True pixel of its column, or inf."""
    y = np.arange(mask.shape[1], dtype=np.float64)[:, None]
    above = np.maximum.accumulate(np.where(mask, y, -np.inf), axis=1)
    below = np.minimum.accumulate(np.where(mask, y, np.inf)[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(y - above, below - y)


def _lower_envelope(cost_WR: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Pass 2: min over q of cost[q] + (x - q)² at every x of each row; columns `step` apart.

    The parabolas on the envelope of a row form a stack: `vertex` holds their columns from left to
    right, `start` the place from which on each is the lowest. The next parabola removes those from
    the top of the stack that it undercuts before they begin. An infinite cost is no parabola.
    """
    width, num_rows = cost_WR.shape
    x = step * np.arange(width)
    with_square_WR = cost_WR + np.square(x)[:, None]
    exists_WR = np.isfinite(cost_WR)
    first = exists_WR.argmax(axis=0)  # 0 in rows without any, where all stays infinite
    rows = np.arange(num_rows)
    top = np.zeros(num_rows, dtype=np.int64)
    vertex_WR = np.zeros((width, num_rows), dtype=np.int64)
    start_WR = np.full((width, num_rows), np.inf)
    vertex_WR[0], start_WR[0] = first, -np.inf  # the leftmost reaches to -inf, so it never goes
    for q in range(1, width):
        pending = np.flatnonzero(exists_WR[q] & (first < q))
        while pending.size:
            last = vertex_WR[top[pending], pending]
            meet = with_square_WR[q, pending] - with_square_WR[last, pending]
            meet /= 2 * (x[q] - x[last])
            undercut = meet <= start_WR[top[pending], pending]
            placed = pending[~undercut]
            top[placed] += 1
            vertex_WR[top[placed], placed] = q
            start_WR[top[placed], placed] = meet[~undercut]
            pending = pending[undercut]
            top[pending] -= 1
    level, row = np.nonzero(np.arange(width)[:, None] <= top)
    begins = np.clip(np.ceil(start_WR[level, row] / step), 0, width).astype(np.int64)
    level_WR = np.zeros((width + 1, num_rows), dtype=np.int64)  # the last line is past the edge
    np.maximum.at(level_WR, (begins, row), level)
    level_WR = np.maximum.accumulate(level_WR[:width], axis=0)
    nearest_WR = vertex_WR[level_WR, rows]
    return cost_WR[nearest_WR, rows] + np.square(x[:, None] - x[nearest_WR])
