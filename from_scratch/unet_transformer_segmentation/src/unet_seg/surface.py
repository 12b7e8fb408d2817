"""Measures between outlines: surface distances, HD95 and the normalised surface distance.

In: two masks of one object or class, bool (H, W). Out: distances in the unit of `spacing`.

The outline of a mask is its pixels with one of the four neighbours outside the mask; what lies
beyond the edge of the image is outside. From each outline pixel of one mask one looks for the
nearest outline pixel of the other, in both directions.

| | both masks empty | one mask empty |
| --- | --- | --- |
| `hd95` | NaN, there is nothing to compare | infinite |
| `normalised_surface_distance` | NaN | 0 |

Letters: H, W pixels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from unet_seg.distance import check_spacing, distance_transform
from unet_seg.errors import SegError

Distances = NDArray[np.float64]


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a (H, W) bool mask with a 4-neighbour outside it, (H, W) bool."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def surface_distances(
    pred: ArrayLike, target: ArrayLike, *, spacing: tuple[float, float] = (1.0, 1.0)
) -> tuple[Distances, Distances]:
    """Distance from each outline pixel of one mask to the outline of the other, both ways.

    Args:
        pred, target: (H, W) bool, or integers that are all 0 or 1; arrays or tensors.
        spacing: height and width of a pixel.
    Returns:
        For each outline pixel of `pred` the distance to the outline of `target`, and the reverse:
        two float64 vectors in row-major order. Where the other mask is empty they are infinite.
    Raises:
        SegError: masks of other shapes, dtypes or values; a spacing that is not positive.
    """
    pred, target = _as_mask(pred, "pred"), _as_mask(target, "target")
    if pred.shape != target.shape:
        raise SegError(
            f"pred has shape {pred.shape} and target {target.shape}; expected the same (H, W)."
        )
    check_spacing(spacing)
    both = np.stack([outline(pred), outline(target)])
    # The nearest outline pixel of either lies in the box around both, so the rest is cut off.
    either = both[0] | both[1]
    both = both[:, _extent(either.any(axis=1)), _extent(either.any(axis=0))]
    pred_outline, target_outline = both
    to_pred, to_target = distance_transform(both, spacing)
    return to_target[pred_outline], to_pred[target_outline]


def hd95(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    spacing: tuple[float, float] = (1.0, 1.0),
    method: Literal["max", "pooled"] = "max",
) -> float:
    """The 95th percentile Hausdorff distance; 0 for equal masks, smaller is better.

    The percentile interpolates linearly between neighbours in order. Libraries differ in what it
    is taken of, and the results are not comparable:

    - "max": of each direction, then the larger of the two (MONAI);
    - "pooled": of the distances of both directions together (MedPy).

    Args:
        pred, target: (H, W) bool, or integers that are all 0 or 1.
        spacing: height and width of a pixel.
    Returns:
        NaN if both masks are empty, infinity if one is.
    Raises:
        SegError: as `surface_distances`, or another method.
    """
    if method not in ("max", "pooled"):
        raise SegError(f"method={method!r} must be 'max' or 'pooled'.")
    from_pred, from_target = surface_distances(pred, target, spacing=spacing)
    return _hd95(from_pred, from_target, method)


def normalised_surface_distance(
    pred: ArrayLike,
    target: ArrayLike,
    tolerance: float,
    spacing: tuple[float, float] = (1.0, 1.0),
) -> float:
    """The share of both outlines that lies within `tolerance` of the other; 1 is best.

    Nikolov et al., "Deep learning to achieve clinically applicable segmentation" (2018), with
    outline pixels counted instead of their lengths, as MONAI does by default. It barely moves for
    one stray pixel, which can make HD95 jump.

    Args:
        pred, target: (H, W) bool, or integers that are all 0 or 1.
        tolerance: at least 0, in the unit of `spacing`; a distance equal to it is within.
        spacing: height and width of a pixel.
    Returns:
        In [0, 1]; NaN if both masks are empty, 0 if one is.
    Raises:
        SegError: as `surface_distances`, or a tolerance that is negative or not finite.
    """
    check_tolerance(tolerance)
    from_pred, from_target = surface_distances(pred, target, spacing=spacing)
    return _share_within(from_pred, from_target, tolerance)


def surface_scores(pred: ArrayLike, target: ArrayLike, tolerance: float) -> tuple[float, float]:
    """`hd95` and `normalised_surface_distance` from one look at the outlines."""
    check_tolerance(tolerance)
    from_pred, from_target = surface_distances(pred, target)
    return _hd95(from_pred, from_target, "max"), _share_within(from_pred, from_target, tolerance)


def check_tolerance(tolerance: float) -> None:
    """Raise SegError unless `tolerance` is finite and at least 0."""
    if not 0 <= tolerance < np.inf:
        raise SegError(f"tolerance={tolerance} must be at least 0 and finite.")


def _hd95(from_pred: Distances, from_target: Distances, method: str) -> float:
    if from_pred.size == 0 and from_target.size == 0:
        return float("nan")
    if from_pred.size == 0 or from_target.size == 0:
        return float("inf")
    if method == "pooled":
        return float(np.percentile(np.concatenate([from_pred, from_target]), 95))
    return float(max(np.percentile(from_pred, 95), np.percentile(from_target, 95)))


def _share_within(from_pred: Distances, from_target: Distances, tolerance: float) -> float:
    distances = np.concatenate([from_pred, from_target])
    return float(np.mean(distances <= tolerance)) if distances.size else float("nan")


def _extent(marked: ArrayLike) -> slice:
    """The slice from the first to the last True of a vector; empty if there is none."""
    (where,) = np.nonzero(np.asarray(marked))
    return slice(int(where[0]), int(where[-1]) + 1) if where.size else slice(0)


def _as_mask(mask: ArrayLike, name: str) -> NDArray[np.bool_]:
    array = np.asarray(mask.cpu() if isinstance(mask, torch.Tensor) else mask)
    if array.ndim != 2:
        raise SegError(
            f"{name} has shape {array.shape}, expected (H, W): one mask of one class at a time."
        )
    if array.dtype != np.bool_:
        if array.dtype.kind not in "iu" or not np.isin(array, (0, 1)).all():
            raise SegError(
                f"{name} is {array.dtype} and not a mask of 0 and 1; "
                f"compare it with a class first: {name} == class_id."
            )
        array = array.astype(np.bool_)
    return array
