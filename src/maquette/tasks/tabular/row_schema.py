"""What a raw row looks like to a caller: its JSON Schema, and one example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maquette.tasks.base import Json
from maquette.tasks.tabular.categories import CategoryColumn, as_number
from maquette.tasks.tabular.encoders import DateColumn, NumberColumn
from maquette.tasks.tabular.rows import listed


def row_schema(
    columns: Sequence[str],
    numbers: Sequence[NumberColumn],
    dates: Sequence[DateColumn],
    categories: Sequence[CategoryColumn],
) -> Json:
    """JSON Schema of one row given by name.

    Ranges and known values are told, not enforced: values beyond them are answered too.
    """
    fields = {column.name: _number(column) for column in numbers}
    fields |= {column.name: _date(column) for column in dates}
    fields |= {column.name: _category(column) for column in categories}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {name: fields[name] for name in columns},
        "required": list(columns),
        "additionalProperties": False,
    }


def example_row(
    columns: Sequence[str],
    numbers: Sequence[NumberColumn],
    dates: Sequence[DateColumn],
    categories: Sequence[CategoryColumn],
) -> Json:
    """One row that `encode` accepts: medians and most frequent values of the training rows."""
    cells: Json = {column.name: column.typical for column in numbers}
    cells |= {column.name: _day_text(column.days.typical) for column in dates}
    cells |= {column.name: column.typical for column in categories}
    return {name: cells[name] for name in columns}


def date_text(date: np.datetime64) -> str:
    """ISO 8601: the day alone at midnight, otherwise to the millisecond."""
    is_midnight = date == date.astype("datetime64[D]")
    return str(np.datetime_as_string(date, unit="D" if is_midnight else "ms"))


def _number(column: NumberColumn) -> Json:
    return {
        "type": "number" if column.fill is None else ["number", "null"],
        "description": f"{column.low:g} to {column.high:g} in the training rows",
        "examples": [column.typical],
    }


def _date(column: DateColumn) -> Json:
    first, last = _day_text(column.days.low), _day_text(column.days.high)
    return {
        "type": "string" if column.days.fill is None else ["string", "null"],
        "description": f"ISO 8601 date; {first} to {last} in the training rows",
        "examples": [_day_text(column.days.typical)],
    }


def _category(column: CategoryColumn) -> Json:
    reads_as_number = column.values and all(as_number(v) is not None for v in column.values)
    return {
        "type": ["string", "number", "null"] if reads_as_number else ["string", "null"],
        "description": f"known: {listed(column.values)}; anything else counts as unknown",
        "examples": [column.typical],
    }


def _day_text(days: float) -> str:
    return str(np.datetime64(int(np.floor(days)), "D"))
