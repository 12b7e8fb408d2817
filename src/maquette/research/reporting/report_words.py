"""What the sections of a report are written with: names, numbers with their place, tables."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence

from maquette.research.numbers.references import link

NOT_A_NUMBER = "not a number"
_MOST_DECIMALS = 6
_SMALLEST_PLAIN = 1e-4
"""What is smaller is written as 1.50e-5."""


def code(name: str) -> str:
    """Write a name from a record or a plan as code, on one line."""
    text = " ".join(name.split())
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}" if text else "(no name)"


def plain(text: str) -> str:
    """Write foreign words on one line; of Markdown in them only `code` is taken for such."""

    def safe(match: re.Match[str]) -> str:
        return match[0] if match[1] is None else f"\\{match[1]}"

    return re.sub(r"`[^`\\]+`|([\\`*_{}\[\]<|#$])", safe, " ".join(text.split()))


def number(
    value: float | None,
    file: str,
    *place: str | int,
    decimals: int | None = None,
    suffix: str = "",
    signed: bool = False,
) -> str:
    """Write a number as a link to its place in a record; null is said in words."""
    if value is None:
        return NOT_A_NUMBER
    if decimals is None and 0 < abs(value) < _SMALLEST_PLAIN:
        return link(value, file, *place, decimals=2, suffix=suffix, scientific=True)
    digits = decimals_of(value) if decimals is None else decimals
    return link(value, file, *place, decimals=digits, suffix=suffix, signed=signed)


def decimals_of(value: float) -> int:
    """Return how many decimals show three significant digits: 0.412 -> 3, 12.5 -> 1, 3 -> 0."""
    if value == 0 or value == int(value):
        return 0
    return max(0, min(_MOST_DECIMALS, 2 - math.floor(math.log10(abs(value)))))


def common_decimals(spreads: Iterable[float | None]) -> int:
    """Return how many decimals show two digits of a typical deviation, for a whole table."""
    present = [spread for spread in spreads if spread]
    if not present:
        return 4
    typical = statistics.median(present)
    return max(0, min(_MOST_DECIMALS, 1 - math.floor(math.log10(typical))))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Write a table, and an empty line after it; a bar inside a cell, even in code, is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    escaped = ([re.sub(r"(?<!\\)\|", r"\|", cell) for cell in cells] for cells in lines)
    return [*(f"| {' | '.join(cells)} |" for cells in escaped), ""]
