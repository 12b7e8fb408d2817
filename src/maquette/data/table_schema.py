"""JSON Schema (draft 2020-12) of one row of a table: infer it, read it, and list what breaks it.

    schema = infer_schema(table, target="species")      or read_schema("iris.json"), schema_file.py
    for violation in violations(table, schema): print(violation)
    row 17, column 'age': 'abc', expected a number

A row is an object with one key per column. A missing cell is an absent key that may also be read as
null: it breaks the schema when its column is `required` and the column's schema allows no null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from maquette.data.arrow import is_valid, to_numpy, to_texts
from maquette.data.cells import Kind, find_kind
from maquette.data.schema_keywords import (
    DATE_FORMATS,
    KEYWORDS,
    NOTES,
    Readings,
    allows_missing,
    declared_types,
    read_cells,
)
from maquette.data.tables import Table
from maquette.errors import nearest

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ROOT_KEYWORDS = frozenset(("type", "properties", "required", "additionalProperties", "$defs"))
"""Checked by column; other keywords of the root are checked row by row, which is slow."""


@dataclass(frozen=True)
class Violation:
    """One cell that does not fit, or one column."""

    line: int
    """The cell's row in the file; 0 for the header, whatever the format."""
    column: str
    value: str | None
    """The cell as the file spells it; None when it is missing."""
    expected: str

    def __str__(self) -> str:
        where = f"row {self.line}" if self.line else "the header"
        return f"{where}, column {self.column!r}: {self.reason}"

    @property
    def reason(self) -> str:
        """What was found and what was expected, without the place."""
        given = "nothing" if self.value is None else repr(self.value)
        return f"{given}, expected {self.expected}"


def infer_schema(
    table: Table,
    *,
    target: str | None = None,
    categorical_columns: Sequence[str] = (),
    ignore_columns: Sequence[str] = (),
) -> Schema:
    """Describe the rows of a table by the kinds of its columns.

    Every column is required, every cell but the target's may be missing, and no other column is
    allowed. There are no bounds and no lists of categories: a value that these rows happen not to
    hold is news for monitoring, not an error. Ignored columns may hold anything.
    """
    properties: Schema = {}
    for name, cells in table.cells.items():
        if name in ignore_columns:
            properties[name] = {"description": "ignored"}
            continue
        kind = "category" if name in categorical_columns else find_kind(cells)
        column: Schema = {"type": "number" if kind == "number" else "string"}
        if kind == "date":
            column["format"] = "date"
        if name != target:
            column["type"] = [column["type"], "null"]
        properties[name] = column
    return {
        "$schema": DIALECT,
        "type": "object",
        "properties": properties,
        "required": list(table.columns),
        "additionalProperties": False,
    }


def column_kind(schema: Mapping[str, Any], column: str) -> Kind | None:
    """Return what a schema makes of a column, or None when it leaves that open."""
    described = schema.get("properties", {}).get(column)
    types = declared_types(described) if isinstance(described, Mapping) else None
    if not types or types <= {"null"}:
        return None
    if types <= {"number", "integer", "null"}:
        return "number"
    return "date" if described.get("format") in DATE_FORMATS else "category"


def violations(
    table: Table, schema: Mapping[str, Any], *, ignore_columns: Sequence[str] = ()
) -> list[Violation]:
    """List every cell that breaks the schema, in file order; ignored columns are not looked at."""
    found = list(_header_violations(table, schema, ignore_columns))
    required = schema.get("required", ())
    for name, cells in table.cells.items():
        described = schema.get("properties", {}).get(name, schema.get("additionalProperties", True))
        if name in ignore_columns or not isinstance(described, Mapping):
            continue
        found += _missing_cells(table, name, described, is_required=name in required)
        found += _bad_cells(table, name, cells, described, schema)
    if not set(schema) <= ROOT_KEYWORDS | NOTES:
        found += _bad_rows(table, schema, ignore_columns)
    place = {name: index for index, name in enumerate(table.cells)}
    return sorted(found, key=lambda v: (v.line, place.get(v.column, len(place))))


def _header_violations(
    table: Table, schema: Mapping[str, Any], ignore_columns: Sequence[str]
) -> Iterator[Violation]:
    for name in schema.get("required", ()):
        if name not in table.cells and name not in ignore_columns:
            expected = f"a column of this name, which is required.{nearest(name, table.cells)}"
            yield Violation(0, name, None, expected)
    if schema.get("additionalProperties", True) is not False:
        return
    known = schema.get("properties", {})
    for name in table.cells:
        if name not in known and name not in ignore_columns:
            expected = f"a column that the schema knows.{nearest(name, known)}"
            yield Violation(0, name, name, expected)


def _missing_cells(
    table: Table, name: str, schema: Mapping[str, Any], *, is_required: bool
) -> Iterator[Violation]:
    if not is_required or allows_missing(schema):
        return
    expected = "a value: the schema requires one"
    for row in np.flatnonzero(~is_valid(table.cells[name])):
        yield Violation(int(table.lines[row]), name, None, expected)


def _bad_cells(
    table: Table,
    name: str,
    cells: pa.StringArray,
    schema: Mapping[str, Any],
    root: Mapping[str, Any],
) -> Iterator[Violation]:
    column = read_cells(cells, schema)
    left_over = set(schema) - set(KEYWORDS) - NOTES
    for keyword in (key for key in KEYWORDS if key in schema):
        try:
            bad, expected = KEYWORDS[keyword].check(column, schema[keyword])
        except pa.ArrowInvalid:  # a pattern with look-around, which only Python's `re` knows
            left_over.add(keyword)
            continue
        for row in np.flatnonzero(bad):
            value = cells[int(row)].as_py()
            finite = " (finite)" if keyword == "type" and _is_not_finite(value) else ""
            yield Violation(int(table.lines[row]), name, value, expected + finite)
    if left_over:
        kept = {key: schema[key] for key in left_over | ({"type"} & schema.keys())}
        yield from _bad_by_library(table, name, column, kept, root)


def _bad_by_library(
    table: Table, name: str, column: Readings, schema: Schema, root: Mapping[str, Any]
) -> Iterator[Violation]:
    """Check each distinct cell once, with every keyword that is not in `KEYWORDS`."""
    validator = make_validator({**schema, "$defs": root.get("$defs", {})})
    encoded = column.cells.dictionary_encode()
    codes = to_numpy(encoded.indices, null=-1)
    values = _json_values(encoded.dictionary, schema)
    for code, text in enumerate(encoded.dictionary.to_pylist()):
        errors = list(validator.iter_errors(values[code]))
        if "type" not in schema and any(map(_asks_for_a_type, errors)):
            errors = list(validator.iter_errors(text))
        if not errors:
            continue
        for row in np.flatnonzero((codes == code) & ~column.unread):
            expected = f"what the schema asks: {errors[0].message}"
            yield Violation(int(table.lines[row]), name, text, expected)


def _asks_for_a_type(error: Any) -> bool:
    """Whether a cell that was read as a number may fit as the text it is."""
    return error.validator in ("type", "enum", "const") or any(
        map(_asks_for_a_type, error.context or ())
    )


def _bad_rows(
    table: Table, schema: Mapping[str, Any], ignore_columns: Sequence[str]
) -> Iterator[Violation]:
    """Check keywords that tie columns together (allOf, if, dependentRequired, …) on whole rows."""
    kept = {
        key: value for key, value in schema.items() if key not in ROOT_KEYWORDS or key == "$defs"
    }
    validator = make_validator(kept)
    names = [name for name in table.cells if name not in ignore_columns]
    properties = schema.get("properties", {})
    values = [_json_values(table.cells[name], properties.get(name, {})) for name in names]
    for line, cells in zip(table.lines, zip(*values, strict=True), strict=True):
        row = {name: cell for name, cell in zip(names, cells, strict=True) if cell is not None}
        for error in validator.iter_errors(row):
            column = str(error.path[0]) if error.path else "(the row)"
            value = None if column not in row else str(row[column])
            yield Violation(int(line), column, value, f"what the schema asks: {error.message}")


def _json_values(cells: pa.StringArray, schema: Any) -> list[Any]:
    """Read each cell as the JSON value that its column's schema makes of it."""
    column = read_cells(cells, schema if isinstance(schema, Mapping) else {})
    values = to_texts(cells)
    numbers = column.numbers[column.is_number].tolist()
    values[column.is_number] = [int(n) if n.is_integer() else n for n in numbers]
    values[column.is_boolean] = [text.lower() == "true" for text in values[column.is_boolean]]
    return list(values)


def _is_not_finite(text: str) -> bool:
    return text.lower().lstrip("+-") in ("inf", "infinity", "nan")


def make_validator(schema: Mapping[str, Any]) -> Any:
    """Return the jsonschema library's validator of a schema."""
    from jsonschema.validators import validator_for  # costs more than reading a small table

    return validator_for(schema, default=validator_for({"$schema": DIALECT}))(schema)
