"""Dates and times in text: year first, day first or month first, with or without a time of day.

    order = find_date_order(cells)         "ymd", "dmy", "mdy", or None when they are no dates
    times = parse_dates(cells, order)      datetime64[ms], NaT where the cell is not such a date

2024-05-31, 2024/5/31, 31.05.2024 and 5/31/2024 are dates; a time may follow as 14:05, 14:05:09.250
or 2:05 PM, and a zone as Z or +02:00. Times with a zone become UTC, others are kept as they are.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from maquette.data.arrow import is_valid, to_numpy

DateOrder = Literal["ymd", "dmy", "mdy"]

_CLOCK = (
    r"(?:(?:[T ]|, )(?P<hour>\d{1,2}):(?P<minute>\d{2})"
    r"(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,9}))?)?"
    r" ?(?P<half>[AaPp][Mm])?(?P<zone>Z|[+-]\d{2}:?\d{2})?)?$"
)
_YEAR, _MONTH, _DAY = r"(?P<year>\d{4})", r"(?P<month>\d{1,2})", r"(?P<day>\d{1,2})"
_PATTERNS: dict[DateOrder, tuple[str, ...]] = {
    "ymd": (_YEAR, _MONTH, _DAY),
    "dmy": (_DAY, _MONTH, _YEAR),
    "mdy": (_MONTH, _DAY, _YEAR),
}


def find_date_order(cells: pa.StringArray) -> DateOrder | None:
    """Return the order that reads most cells, or None when no order reads any.

    Where day and month cannot be told apart (every number up to 12), dots mean day first and
    slashes month first, as they are mostly used.
    """
    counts = {order: int((~np.isnat(parse_dates(cells, order))).sum()) for order in _PATTERNS}
    best = max(counts.values())
    if best == 0:
        return None
    likely: tuple[DateOrder, ...] = ("ymd", "mdy", "dmy")
    if pc.any(pc.match_substring(cells, ".")).as_py():
        likely = ("ymd", "dmy", "mdy")
    return next(order for order in likely if counts[order] == best)


def parse_dates(cells: pa.StringArray, order: DateOrder) -> NDArray[np.datetime64]:
    """Read dates written in this order.

    Returns:
        (n,) datetime64[ms]; NaT where a cell is missing or is not a date that exists.
    """
    pattern = "^" + r"[-/.]".join(_PATTERNS[order]) + _CLOCK
    groups = pc.extract_regex(cells, pattern)
    matched = is_valid(groups)
    if not matched.any():
        return np.full(len(cells), np.datetime64("NaT"), dtype="datetime64[ms]")
    parts = dict(zip((f.name for f in groups.type), groups.flatten(), strict=True))
    year, month, day = (_whole(parts[name]) for name in ("year", "month", "day"))
    hour, minute, second = (_whole(parts[name]) for name in ("hour", "minute", "second"))
    hour, hour_exists = _hour_of_day(hour, parts["half"])

    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    exists = (month >= 1) & (month <= 12) & (days.astype("datetime64[M]") == months) & (day >= 1)
    exists &= hour_exists & (minute < 60) & (second < 60) & matched
    clock = ((hour * 60 + minute - _zone_minutes(parts["zone"])) * 60 + second) * 1000
    clock += _whole(pc.utf8_slice_codeunits(pc.utf8_rpad(parts["fraction"], 3, "0"), 0, 3))
    times: NDArray[np.datetime64] = days.astype("datetime64[ms]") + clock
    times[~exists] = np.datetime64("NaT")
    return times


def _whole(digits: pa.StringArray) -> NDArray[np.int64]:
    """Digits -> int64; 0 where a group is empty or its row did not match."""
    return to_numpy(pc.utf8_lpad(digits, 1, "0").cast(pa.int64()), null=0)


def _hour_of_day(
    hour: NDArray[np.int64], half: pa.StringArray
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Turn 12-hour clocks into 0..23 and tell which hours exist."""
    before_noon = _where(pc.match_substring_regex(half, "^[Aa]"))
    after_noon = _where(pc.match_substring_regex(half, "^[Pp]"))
    twelve = before_noon | after_noon
    exists = np.where(twelve, (hour >= 1) & (hour <= 12), hour < 24)
    return np.where(twelve, hour % 12 + 12 * after_noon, hour), exists


def _zone_minutes(zone: pa.StringArray) -> NDArray[np.int64]:
    """Minutes east of UTC; 0 for Z and where there is no zone."""
    digits = pc.replace_substring_regex(zone, r"[^0-9]", "")
    hours = _whole(pc.utf8_slice_codeunits(digits, 0, 2))
    minutes = hours * 60 + _whole(pc.utf8_slice_codeunits(digits, 2, 4))
    return np.where(_where(pc.starts_with(zone, "-")), -minutes, minutes)


def _where(condition: pa.BooleanArray) -> NDArray[np.bool_]:
    return to_numpy(condition, null=False)
