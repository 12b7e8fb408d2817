"""Read the time column of a manifest, so that samples can be dealt in order of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from maquette.data.cells import parse_numbers
from maquette.data.dates import find_date_order, parse_dates
from maquette.errors import DataError

SHOWN = 5
"""Cells quoted in a message."""


def read_times(cells: Sequence[str | None], *, column: str, ids: Sequence[str]) -> NDArray[Any]:
    """Read numbers, or dates in one order of day, month and year.

    Args:
        cells: (n,) text; ids: (n,) what a reader calls the samples.
    Returns:
        (n,) float64 or datetime64[ms], none missing.
    Raises:
        DataError: a cell is neither; the text names the first few.
    """
    texts = pa.array(cells, pa.string())
    numbers, is_bad = parse_numbers(texts)
    if not is_bad.any():
        return numbers
    order = find_date_order(texts)
    times = parse_dates(texts, order) if order else np.full(len(cells), "NaT", "datetime64[ms]")
    unread = np.flatnonzero(np.isnat(times)).tolist()
    if unread:
        named = [f"{cells[row]!r} of {ids[row]}" for row in unread[:SHOWN]]
        more = f" and {len(unread) - SHOWN} more" if len(unread) > SHOWN else ""
        raise DataError(
            f"The time column {column!r} holds what is neither a number nor a date like "
            f"2024-05-31: {', '.join(named)}{more}."
        )
    return times
