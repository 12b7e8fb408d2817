"""Bad rows: set aside with their reasons while few, otherwise refused with their places."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from maquette.data.schema_keywords import DATE_FORMATS, NAMES
from maquette.data.table_schema import Violation
from maquette.data.tables import Table
from maquette.errors import DataError

KINDS = (NAMES["number"], DATE_FORMATS["date"])
"""What cells of another kind than their column's are expected to be."""


def set_aside(
    table: Table, found: Sequence[Violation], *, tolerance: float, shown: int
) -> tuple[Table, tuple[Mapping[str, str], ...]]:
    """Leave out the rows with violations, and tell which and why.

    Args:
        tolerance: largest share of the rows that may be left out; ragged rows count too.
        shown: violations that the message lists.
    Returns:
        The other rows; and for each row left out its `place` and the `reason`.
    Raises:
        DataError: more rows are bad than tolerated, or all, or the header is.
    """
    header = [str(violation) for violation in found if violation.line == 0]
    if header:
        raise DataError(f"{table.source} does not fit its schema:\n" + _listed(header, shown))
    reasons: dict[int, list[str]] = {row.line: [row.reason] for row in table.ragged}
    for violation in found:
        reasons.setdefault(violation.line, []).append(
            f"column {violation.column!r}: {violation.reason}"
        )
    num_rows = len(table) + len(table.ragged)
    share = len(reasons) / num_rows
    if share > tolerance:
        lines = [f"row {line}: {why}" for line, whys in sorted(reasons.items()) for why in whys]
        raise DataError(
            f"{table.source}: {len(reasons)} of {num_rows} rows cannot be used, which is more than "
            f"tolerance: {tolerance:g} allows (row 1 is {table.row_1}):\n"
            f"{_listed(lines, shown)}\n"
            f"Fix them, or set tolerance: {_round_up(share)} to leave them out."
            f"{_hint(found, has_ragged=bool(table.ragged))}"
        )
    quarantined = tuple(
        {"place": f"row {line}", "reason": "; ".join(why)} for line, why in sorted(reasons.items())
    )
    good = np.flatnonzero(~np.isin(table.lines, np.array(list(reasons), dtype=np.int64)))
    if not len(good):
        raise DataError(f"{table.source}: all {num_rows} rows are bad; none is left to learn from.")
    return table.take(good), quarantined


def _listed(lines: Sequence[str], shown: int) -> str:
    more = [f"… and {len(lines) - shown} more"] if len(lines) > shown else []
    return "\n".join(f"  {line}" for line in [*lines[:shown], *more])


def _round_up(share: float) -> str:
    """The share with two digits, never below it: a tolerance that is enough."""
    digits = 1 - math.floor(math.log10(share))
    return f"{min(math.ceil(share * 10**digits) / 10**digits, 1):g}"


def _hint(found: Sequence[Violation], *, has_ragged: bool) -> str:
    """Name the one change that would mend most of it."""
    if has_ragged:
        return " A cell that holds the delimiter or a line break must be in double quotes."
    words = Counter((v.column, v.value) for v in found if v.value and v.expected in KINDS)
    if not words:
        return ""
    (column, word), count = words.most_common(1)[0]
    if count == 1 and len(words) > 1:
        return f" If column {column!r} is meant as text, add it to categorical_columns."
    return f" If {word!r} in column {column!r} means no value, add it to missing_values."
