"""The JSON Schema keywords of one cell, each checked on a whole column at once.

CSV has no types, so a cell is read as the first of the schema's types that it spells: a number, a
boolean, text. Without `type` it is its text, and also the number it spells if it spells one.
Keywords for numbers look at numbers, keywords for text at text, as JSON Schema says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from maquette.data.arrow import from_texts, is_valid, to_numpy
from maquette.data.cells import parse_numbers
from maquette.data.dates import find_date_order, parse_dates

Mask = NDArray[np.bool_]

NAMES = {
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "string": "text",
    "null": "nothing",
}
DATE_FORMATS = {"date": "a date (YYYY-MM-DD)", "date-time": "a date and time (YYYY-MM-DDTHH:MM:SS)"}
SHOWN_CHOICES = 10


@dataclass(frozen=True)
class Readings:
    """How each cell of a column is read; the masks are (n,) and False where the cell is missing."""

    cells: pa.StringArray
    types: frozenset[str] | None
    numbers: NDArray[np.float64]
    is_number: Mask
    is_boolean: Mask
    is_text: Mask

    @property
    def unread(self) -> Mask:
        """Cells that spell none of the schema's types."""
        return is_valid(self.cells) & ~(self.is_number | self.is_boolean | self.is_text)


def read_cells(cells: pa.StringArray, schema: Mapping[str, Any]) -> Readings:
    """Read a column by the types that its schema allows."""
    types = declared_types(schema)
    has_value = is_valid(cells)
    numbers, bad = parse_numbers(cells)
    spells_number = has_value & ~bad
    lowered = pc.utf8_lower(cells)
    spells_boolean = _mask(pc.is_in(lowered, value_set=from_texts(["true", "false"])))
    if types is None:
        return Readings(cells, None, numbers, spells_number, spells_boolean, has_value)
    if "number" not in types:
        spells_number &= (numbers == np.rint(numbers)) & ("integer" in types)
    is_boolean = spells_boolean & ("boolean" in types)
    is_text = has_value & ~spells_number & ~is_boolean & ("string" in types)
    return Readings(cells, types, numbers, spells_number, is_boolean, is_text)


def declared_types(schema: Mapping[str, Any]) -> frozenset[str] | None:
    """The schema's `type` as a set, or None when it has none."""
    declared = schema.get("type")
    if declared is None:
        return None
    return frozenset([declared] if isinstance(declared, str) else declared)


def allows_missing(schema: Mapping[str, Any]) -> bool:
    """Whether null fits: by `type`, `enum` and `const` as far as they are given."""
    types = declared_types(schema)
    if types is not None and "null" not in types:
        return False
    if "enum" in schema and None not in schema["enum"]:
        return False
    return schema.get("const") is None


def _type(column: Readings, declared: Any) -> tuple[Mask, str]:
    names = [declared] if isinstance(declared, str) else declared
    if {"number", "integer"} <= set(names):
        names = [name for name in names if name != "integer"]
    wanted = [NAMES.get(name, name) for name in names if name != "null"]
    return column.unread, " or ".join(wanted) or NAMES["null"]


def _enum(column: Readings, choices: list[Any]) -> tuple[Mask, str]:
    texts = from_texts([c for c in choices if isinstance(c, str)])
    booleans = [str(c).lower() for c in choices if isinstance(c, bool)]
    numbers = [c for c in choices if _is_number(c)]
    fits = column.is_text & _mask(pc.is_in(column.cells, value_set=texts))
    fits |= column.is_number & np.isin(column.numbers, np.array(numbers, dtype=np.float64))
    lowered = pc.utf8_lower(column.cells)
    fits |= column.is_boolean & _mask(pc.is_in(lowered, value_set=from_texts(booleans)))
    shown = ", ".join(repr(c) for c in choices[:SHOWN_CHOICES])
    more = f", … ({len(choices)} in all)" if len(choices) > SHOWN_CHOICES else ""
    one = "one of " if len(choices) > 1 else ""
    return is_valid(column.cells) & ~column.unread & ~fits, f"{one}{shown}{more}"


def _const(column: Readings, value: Any) -> tuple[Mask, str]:
    return _enum(column, [value])


def _minimum(column: Readings, bound: float) -> tuple[Mask, str]:
    return column.is_number & (column.numbers < bound), f"at least {bound:g}"


def _maximum(column: Readings, bound: float) -> tuple[Mask, str]:
    return column.is_number & (column.numbers > bound), f"at most {bound:g}"


def _exclusive_minimum(column: Readings, bound: float) -> tuple[Mask, str]:
    return column.is_number & (column.numbers <= bound), f"more than {bound:g}"


def _exclusive_maximum(column: Readings, bound: float) -> tuple[Mask, str]:
    return column.is_number & (column.numbers >= bound), f"less than {bound:g}"


def _multiple_of(column: Readings, step: float) -> tuple[Mask, str]:
    quotient = column.numbers / step
    # 0.3 is a multiple of 0.1 for a reader, though not in binary: allow the rounding of both.
    off = np.abs(quotient - np.rint(quotient)) > 1e-9 * np.maximum(1.0, np.abs(quotient))
    return column.is_number & off, f"a multiple of {step:g}"


def _min_length(column: Readings, length: int) -> tuple[Mask, str]:
    return column.is_text & (_lengths(column) < length), f"at least {length} characters"


def _max_length(column: Readings, length: int) -> tuple[Mask, str]:
    return column.is_text & (_lengths(column) > length), f"at most {length} characters"


def _pattern(column: Readings, pattern: str) -> tuple[Mask, str]:
    matches = _mask(pc.match_substring_regex(column.cells, pattern))
    return column.is_text & ~matches, f"text that matches {pattern}"


def _format(column: Readings, name: str) -> tuple[Mask, str]:
    """Dates are checked, as they become numbers; other formats are notes, as in the standard."""
    if name not in DATE_FORMATS:
        return np.zeros(len(column.cells), dtype=np.bool_), ""
    dates = parse_dates(column.cells, find_date_order(column.cells) or "ymd")
    return column.is_text & np.isnat(dates), DATE_FORMATS[name]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_type(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return (
        isinstance(names, list)
        and bool(names)
        and all(n in (*NAMES, "object", "array") for n in names)
    )


def _is_pattern(value: Any) -> bool:
    try:
        re.compile(value)
    except (re.error, TypeError):
        return False
    return True


@dataclass(frozen=True)
class Keyword:
    """Which arguments are well formed; which cells break it, and what was expected of them."""

    accepts: Callable[[Any], bool]
    check: Callable[[Readings, Any], tuple[Mask, str]]


KEYWORDS: Mapping[str, Keyword] = {
    "type": Keyword(_is_type, _type),
    "enum": Keyword(lambda value: isinstance(value, list) and bool(value), _enum),
    "const": Keyword(lambda _: True, _const),
    "minimum": Keyword(_is_number, _minimum),
    "maximum": Keyword(_is_number, _maximum),
    "exclusiveMinimum": Keyword(_is_number, _exclusive_minimum),
    "exclusiveMaximum": Keyword(_is_number, _exclusive_maximum),
    "multipleOf": Keyword(lambda value: _is_number(value) and value > 0, _multiple_of),
    "minLength": Keyword(_is_length, _min_length),
    "maxLength": Keyword(_is_length, _max_length),
    "pattern": Keyword(_is_pattern, _pattern),
    "format": Keyword(lambda value: isinstance(value, str), _format),
}
"""Checked here; every other keyword goes to the jsonschema library, once per distinct cell."""

NOTES = frozenset(
    ("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly")
) | {"$comment", "$schema", "$id"}
"""Keywords that say something and check nothing."""


def _lengths(column: Readings) -> NDArray[np.int64]:
    return to_numpy(pc.utf8_length(column.cells), null=0)


def _mask(values: pa.BooleanArray) -> Mask:
    return to_numpy(values, null=False)
