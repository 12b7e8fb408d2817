"""What may enter a metric: the checks every function of this room makes at its door.

n samples, N classes. Everything computes in float64, whatever came in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_SUM_TOLERANCE = 1e-4
"""How far a row of probabilities may be from 1: float32 rounding over a thousand classes."""


def class_indices(values: ArrayLike, *, num_classes: int, name: str) -> Integers:
    """Return `values` as (n,) int64.

    Raises:
        ValueError: empty, not one-dimensional, not whole numbers, or outside 0 … N − 1.
    """
    indices = _one_dimensional(values, name)
    if indices.dtype.kind not in "iub":
        raise ValueError(f"{name} must be whole class indices, got {indices.dtype}.")
    if indices.min() < 0 or indices.max() >= num_classes:
        row = int(np.argmax((indices < 0) | (indices >= num_classes)))
        raise ValueError(
            f"{name}[{row}] is {indices[row]}, outside the classes 0 to {num_classes - 1}."
        )
    return indices.astype(np.int64, copy=False)


def finite_numbers(values: ArrayLike, *, name: str) -> Floats:
    """Return `values` as (n,) float64.

    Raises:
        ValueError: empty, not one-dimensional, or with a NaN or infinity.
    """
    numbers = _one_dimensional(values, name).astype(np.float64, copy=False)
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers)))
        raise ValueError(f"{name}[{row}] is {numbers[row]}; metrics need finite numbers.")
    return numbers


def probability_rows(values: ArrayLike) -> Floats:
    """Return `values` as (n, N) float64 whose rows are distributions over N >= 2 classes.

    Raises:
        ValueError: empty, not two-dimensional, fewer than two classes, not finite, outside [0, 1],
            or a row that does not sum to 1 within 1e-4.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise ValueError(
            f"probabilities have shape {rows.shape}, expected (samples, classes) "
            "with at least two classes."
        )
    if len(rows) == 0:
        raise ValueError("probabilities are empty; a metric needs at least one sample.")
    _refuse(rows, ~np.isfinite(rows), "are not finite")
    _refuse(rows, (rows < 0) | (rows > 1 + _SUM_TOLERANCE), "are outside [0, 1]")
    off_by = np.abs(rows.sum(axis=1, keepdims=True) - 1)
    _refuse(rows, off_by > _SUM_TOLERANCE, "do not sum to 1; apply softmax first")
    return rows


def same_length(**arrays: NDArray[np.generic]) -> None:
    """Raise ValueError unless all arrays have the same number of samples."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"different numbers of samples: {given}.")


def _one_dimensional(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} have shape {array.shape}, expected one number per sample.")
    if len(array) == 0:
        raise ValueError(f"{name} are empty; a metric needs at least one sample.")
    return array


def _refuse(rows: Floats, bad: NDArray[np.bool_], reason: str) -> None:
    """Raise ValueError naming the first row with a bad entry."""
    if bad.any():
        row = int(np.argmax(bad.any(axis=1)))
        shown = np.array2string(rows[row], precision=4, threshold=6)
        raise ValueError(f"probabilities[{row}] {reason}: {shown}.")
