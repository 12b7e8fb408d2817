"""Read a JSON Schema file, and say what is wrong with one that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maquette.data.schema_keywords import KEYWORDS, NOTES
from maquette.data.table_schema import ROOT_KEYWORDS, Schema, make_validator
from maquette.errors import DataError, nearest


def read_schema(path: str | Path) -> Schema:
    """Read a JSON Schema file.

    Raises:
        DataError: missing, not JSON, not a valid schema, or not the schema of a row.
    """
    path = Path(path)
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.json")]
        raise DataError(
            f"There is no schema {path}.{nearest(path.name, siblings)} "
            "`maquette check DATA.csv --infer-schema FILE` writes one."
        ) from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: the schema is not JSON: {error.msg} (column {error.colno})."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The schema {path} cannot be read: {error}.") from None
    _refuse_broken(path, schema)
    return schema  # type: ignore[no-any-return]


def _refuse_broken(path: Path, schema: Any) -> None:
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        found = schema.get("type") if isinstance(schema, dict) else type(schema).__name__
        raise DataError(
            f"{path} describes {found!r}; expected the schema of one row: "
            '{"type": "object", "properties": {"COLUMN": {"type": "number"}, …}}.'
        )
    if not _is_plainly_valid(schema):
        _refuse_invalid(path, schema)
        _refuse_misspelled(path, schema)


def _is_plainly_valid(schema: Schema) -> bool:
    """Tell the usual schema without the library, whose import takes longer than most checks."""
    columns = schema.get("properties", {})
    required = schema.get("required", [])
    return (
        set(schema) <= ROOT_KEYWORDS | NOTES
        and isinstance(columns, dict)
        and isinstance(required, list)
        and all(isinstance(name, str) for name in required)
        and isinstance(schema.get("additionalProperties", True), bool)
        and "$defs" not in schema
        and all(_is_plain_column(column) for column in columns.values())
    )


def _is_plain_column(column: Any) -> bool:
    if not isinstance(column, dict):
        return isinstance(column, bool)
    return all(
        key in NOTES or (key in KEYWORDS and KEYWORDS[key].accepts(argument))
        for key, argument in column.items()
    )


def _refuse_invalid(path: Path, schema: Schema) -> None:
    from jsonschema.exceptions import SchemaError

    try:
        type(make_validator(schema)).check_schema(schema)
    except SchemaError as error:
        where = ".".join(map(str, error.path)) or "its root"
        raise DataError(
            f"{path} is not a valid JSON Schema: at {where}: {error.message}."
        ) from None


def _refuse_misspelled(path: Path, schema: Schema) -> None:
    """The standard ignores unknown keywords, so "minumum" would check nothing and tell nobody."""
    vocabulary = type(make_validator(schema)).VALIDATORS
    known = {*KEYWORDS, *NOTES, *vocabulary, "then", "else", "$defs", "$anchor"}
    for name, column in schema.get("properties", {}).items():
        for key in column if isinstance(column, dict) else ():
            if key not in known and (near := nearest(key, known)):
                raise DataError(f"{path}: column {name!r} has the unknown keyword {key!r}.{near}")
