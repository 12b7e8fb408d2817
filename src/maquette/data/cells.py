"""What text cells mean: numbers, dates or categories.

A cell that does not spell its column's kind is bad, not missing: the functions here return where
the bad cells are, so that nothing turns into a missing value in silence.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from maquette.data.arrow import from_mask, is_valid, to_numpy
from maquette.data.dates import find_date_order, parse_dates

Kind = Literal["number", "category", "date"]

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
NOT_FINITE = r"^[+-]?(?i:inf|infinity|nan)$"
MOSTLY = 0.8
"""A column whose cells are numbers (or dates) to this share is one; the other cells are bad."""


def parse_numbers(cells: pa.StringArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Read decimal numbers such as -1, 2.5 and 1e-3.

    Returns:
        (n,) finite float64, NaN where the cell is missing or bad; and (n,) bool, where a cell has a
        value that is not a finite number (text, "inf", "nan", 1e999).
    """
    try:
        parsed = cells.cast(pa.float64())
    except pa.ArrowInvalid:
        nothing = pa.nulls(len(cells), pa.string())
        parsed = pc.if_else(pc.match_substring_regex(cells, NUMBER), cells, nothing)
        parsed = pc.utf8_ltrim(parsed, characters="+").cast(pa.float64())
    numbers = to_numpy(parsed, null=np.nan)
    bad = is_valid(cells) & ~np.isfinite(numbers)
    numbers[bad] = np.nan
    return numbers, bad


def find_kind(cells: pa.StringArray) -> Kind:
    """Decide what a column holds from its cells; booleans and empty columns are categories.

    A column is numeric when at least `MOSTLY` of its values are numbers, or at least half of them
    and all others are one and the same text: then that text is an unlisted mark of the missing.
    "inf" and "nan" speak for a number here, though no column may hold them.
    """
    num_values = len(cells) - cells.null_count
    if num_values == 0:
        return "category"
    _, bad = parse_numbers(cells)
    bad &= ~to_numpy(pc.match_substring_regex(cells, NOT_FINITE), null=False)
    num_bad = int(bad.sum())
    if num_values - num_bad >= MOSTLY * num_values:
        return "number"
    if num_bad <= num_values / 2 and len(cells.filter(from_mask(bad)).unique()) == 1:
        return "number"
    order = find_date_order(cells)
    dated = 0 if order is None else int((~np.isnat(parse_dates(cells, order))).sum())
    return "date" if dated >= MOSTLY * num_values else "category"


def parse_times(
    cells: pa.StringArray,
) -> tuple[NDArray[np.float64] | NDArray[np.datetime64], NDArray[np.bool_]]:
    """Read what rows can be ordered by: numbers or dates, whichever the column mostly holds.

    Returns:
        (n,) float64 or datetime64[ms], NaN or NaT where missing or bad; and (n,) bool, where a
        cell has a value that is neither.
    """
    if find_kind(cells) != "date":
        return parse_numbers(cells)
    dates = parse_dates(cells, find_date_order(cells) or "ymd")
    return dates, is_valid(cells) & np.isnat(dates)


def is_whole(numbers: NDArray[np.float64]) -> bool:
    """Whether every number that is not missing is an integer."""
    values = numbers[~np.isnan(numbers)]
    return bool((values == np.rint(values)).all())
