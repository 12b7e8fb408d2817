"""Schemas of rows: inferred, honoured keyword by keyword, and fast."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.data.arrow import from_texts
from maquette.data.schema_file import read_schema
from maquette.data.table_schema import Violation, column_kind, infer_schema, violations
from maquette.data.tables import Table
from maquette.errors import DataError


def table(**columns: list[str | None]) -> Table:
    size = len(next(iter(columns.values())))
    return Table(
        source=Path("table.csv"),
        cells={name: from_texts(cells) for name, cells in columns.items()},
        lines=np.arange(2, size + 2),
    )


def column_schema(schema: dict[str, object], **root: object) -> dict[str, object]:
    return {"type": "object", "properties": {"x": schema}, **root}


def broken(cells: list[str | None], schema: dict[str, object], **root: object) -> list[str]:
    """What each violation says, with its row."""
    found = violations(table(x=cells), column_schema(schema, **root))
    return [str(violation).replace(", column 'x'", "") for violation in found]


# Inferring


def test_inferred_schema():
    rows = table(
        age=["1", "2.5", None], town=["x", None, "y"], born=["2024-01-31"] * 3, kind=["a", "b", "a"]
    )
    schema = infer_schema(rows, target="kind", ignore_columns=["town"])
    assert schema == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "age": {"type": ["number", "null"]},
            "town": {"description": "ignored"},
            "born": {"type": ["string", "null"], "format": "date"},
            "kind": {"type": "string"},
        },
        "required": ["age", "town", "born", "kind"],
        "additionalProperties": False,
    }
    jsonschema.Draft202012Validator.check_schema(schema)
    assert violations(rows, schema) == []
    assert [column_kind(schema, name) for name in rows.columns] == [
        "number",
        None,
        "date",
        "category",
    ]


def test_numbers_named_as_categories():
    schema = infer_schema(table(zip=["1", "2"]), categorical_columns=["zip"])
    assert schema["properties"]["zip"] == {"type": ["string", "null"]}


def test_one_bad_cell_does_not_change_the_kind():
    rows = table(age=["1"] * 20 + ["abc"], kind=["a"] * 21)
    found = violations(rows, infer_schema(rows, target="kind"))
    assert list(map(str, found)) == ["row 22, column 'age': 'abc', expected a number"]


def test_a_missing_target_is_a_violation():
    rows = table(age=["1", "2"], kind=["a", None])
    found = violations(rows, infer_schema(rows, target="kind"))
    expected = "row 3, column 'kind': nothing, expected a value: the schema requires one"
    assert list(map(str, found)) == [expected]


# Keywords


@pytest.mark.parametrize(
    ("cell", "schema", "expected"),
    [
        ("abc", {"type": "number"}, "a number"),
        ("inf", {"type": "number"}, "a number (finite)"),
        ("NaN", {"type": "number"}, "a number (finite)"),
        ("1.5", {"type": "integer"}, "a whole number"),
        ("x", {"type": ["integer", "boolean"]}, "a whole number or true or false"),
        ("yes", {"type": "boolean"}, "true or false"),
        ("1", {"type": "object"}, "object"),
        ("x", {"type": "null"}, "nothing"),
        ("c", {"enum": ["a", "b"]}, "one of 'a', 'b'"),
        ("3", {"enum": [1, 2]}, "one of 1, 2"),
        ("b", {"const": "a"}, "'a'"),
        ("-0.5", {"type": "number", "minimum": 0}, "at least 0"),
        ("3", {"maximum": 2.5}, "at most 2.5"),
        ("0", {"exclusiveMinimum": 0}, "more than 0"),
        ("1", {"exclusiveMaximum": 1}, "less than 1"),
        ("0.25", {"multipleOf": 0.1}, "a multiple of 0.1"),
        ("ab", {"pattern": "^[0-9]+$"}, "text that matches ^[0-9]+$"),
        ("ab", {"pattern": "^(?!a)"}, "what the schema asks: 'ab' does not match '^(?!a)'"),
        ("ä", {"minLength": 2}, "at least 2 characters"),
        ("äöü", {"maxLength": 2}, "at most 2 characters"),
        ("31.2.2024", {"type": "string", "format": "date"}, "a date (YYYY-MM-DD)"),
        (
            "5",
            {"not": {"const": 5}},
            "what the schema asks: 5 should not be valid under {'const': 5}",
        ),
    ],
)
def test_a_cell_that_breaks_a_keyword(cell, schema, expected):
    assert broken([cell], schema) == [f"row 2: {cell!r}, expected {expected}"]


@pytest.mark.parametrize(
    ("cell", "schema"),
    [
        ("1e3", {"type": "number"}),
        ("2.0", {"type": "integer"}),
        ("12", {"type": "string"}),
        ("TRUE", {"type": "boolean"}),
        ("x", {"type": ["number", "string"]}),
        ("a", {"enum": ["a", 1]}),
        ("1.0", {"enum": ["a", 1]}),
        ("true", {"type": "boolean", "enum": [True]}),
        ("0.3", {"multipleOf": 0.1}),
        ("abc", {"minimum": 5}),
        ("12", {"type": "number", "minLength": 9}),
        ("äöü", {"maxLength": 3}),
        ("x", {"format": "email"}),
        ("2024-05-31T10:00", {"format": "date-time"}),
        ("12345", {"anyOf": [{"type": "string", "pattern": "^[0-9]{5}$"}, {"const": "none"}]}),
        ("true", {"anyOf": [{"type": "boolean"}]}),
        ("x", {}),
        ("x", {"title": "a note", "x-unit": "cm"}),
    ],
)
def test_a_cell_that_fits(cell, schema):
    assert broken([cell], schema) == []


def test_missing_cells():
    assert broken([None], {"type": "number"}) == []
    required = {"required": ["x"]}
    assert broken([None], {"type": ["number", "null"]}, **required) == []
    assert broken([None], {"enum": ["a", None]}, **required) == []
    assert broken([None], {"minimum": 1}, **required) == []
    for schema in ({"type": "number"}, {"enum": ["a"]}, {"const": 1}):
        assert broken([None], schema, **required) == [
            "row 2: nothing, expected a value: the schema requires one"
        ]


def test_references_into_the_schema():
    schema = {"$ref": "#/$defs/positive"}
    positive = {"positive": {"type": "number", "exclusiveMinimum": 0}}
    (message,) = broken(["1", "-1", "1"], schema, **{"$defs": positive})
    assert message.startswith("row 3: '-1', expected what the schema asks: -1 is less than")


def test_rules_between_columns():
    rows = table(low=["1", "2", None], high=["5", None, None])
    schema = {
        "properties": {"low": {"type": "number"}, "high": {"type": "number"}},
        "dependentRequired": {"low": ["high"]},
    }
    (found,) = violations(rows, schema)
    assert str(found) == (
        "row 3, column '(the row)': nothing, expected what the schema asks: "
        "'high' is a dependency of 'low'"
    )
    by_name = {"patternProperties": {"^h": {"maximum": 4}}, "properties": schema["properties"]}
    (found,) = violations(rows, by_name)
    assert str(found).startswith("row 2, column 'high': '5', expected what the schema asks: 5 is")


def test_columns_that_should_not_or_should_be_there():
    schema = column_schema({}, required=["x", "weight"], additionalProperties=False)
    found = violations(table(x=["1"], weigth=["2"]), schema)
    assert list(map(str, found)) == [
        "the header, column 'weigth': 'weigth', expected a column that the schema knows.",
        "the header, column 'weight': nothing, expected a column of this name, which is required."
        " Did you mean 'weigth'?",
    ]
    ignored = violations(table(x=["1"], weigth=["2"]), schema, ignore_columns=["weigth", "weight"])
    assert ignored == []


def test_the_schema_of_other_columns():
    schema = column_schema({}, additionalProperties={"type": "number"})
    (found,) = violations(table(x=["a"], y=["b"]), schema)
    assert found == Violation(2, "y", "b", "a number")


def test_file_order():
    rows = table(a=["x", "1", "x"], b=["1", "x", "x"])
    schema = {"properties": {"b": {"type": "number"}, "a": {"type": "number"}}}
    assert [(v.line, v.column) for v in violations(rows, schema)] == [
        (2, "a"),
        (3, "b"),
        (4, "a"),
        (4, "b"),
    ]


NUMBERS = st.integers(-6, 6).map(lambda n: n / 2)
SCHEMAS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["number", "integer", ["number", "null"]]),
        "minimum": NUMBERS,
        "maximum": NUMBERS,
        "exclusiveMinimum": NUMBERS,
        "exclusiveMaximum": NUMBERS,
        "multipleOf": st.sampled_from([0.5, 1, 2]),
        "enum": st.lists(NUMBERS, min_size=1),
        "const": NUMBERS,
    },
)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1), SCHEMAS)
def test_numbers_fare_as_with_the_reference_library(numbers, schema):
    validator = jsonschema.Draft202012Validator(schema)
    expected = {row + 2 for row, number in enumerate(numbers) if not validator.is_valid(number)}
    found = violations(table(x=[repr(n) for n in numbers]), column_schema(schema))
    assert {violation.line for violation in found} == expected


TEXT_SCHEMAS = st.fixed_dictionaries(
    {"type": st.just("string")},
    optional={
        "minLength": st.integers(0, 3),
        "maxLength": st.integers(0, 3),
        "pattern": st.sampled_from(["a", "^b", "a$", "[ab]{2}", "(?=a)"]),
        "enum": st.lists(st.text("abé", max_size=3), min_size=1),
    },
)


@settings(deadline=None)
@given(st.lists(st.text("abé", max_size=3), min_size=1), TEXT_SCHEMAS)
def test_texts_fare_as_with_the_reference_library(texts, schema):
    validator = jsonschema.Draft202012Validator(schema)
    expected = {row + 2 for row, text in enumerate(texts) if not validator.is_valid(text)}
    found = violations(table(x=texts), column_schema(schema))
    assert {violation.line for violation in found} == expected


def test_one_bad_cell_in_200_columns_is_found():
    good = from_texts([f"{number}" for number in range(20_000)])
    cells = {f"column_{index}": good for index in range(200)}
    texts = good.to_pylist()
    texts[12_344] = "12o4"
    cells["column_137"] = from_texts(texts)
    rows = Table(source=Path("wide.csv"), cells=cells, lines=np.arange(2, 20_002))
    found = violations(rows, infer_schema(rows))
    assert list(map(str, found)) == ["row 12346, column 'column_137': '12o4', expected a number"]


# Schema files


def schema_refusal(folder: Path, content: object) -> str:
    path = folder / "schema.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_schema(path)
    return str(caught.value).replace(f"{folder}/", "")


def test_schema_is_read(tmp_path):
    schema = column_schema({"type": "number", "minimum": 0}, required=["x"])
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    assert read_schema(path) == schema


def test_schema_missing(tmp_path):
    (tmp_path / "iris.json").write_text("{}")
    with pytest.raises(
        DataError, match=r"There is no schema .*iri\.json\. Did you mean 'iris\.json'"
    ):
        read_schema(tmp_path / "iri.json")


def test_schema_folder(tmp_path):
    with pytest.raises(DataError, match=r"The schema .* cannot be read"):
        read_schema(tmp_path)


def test_schema_not_json(tmp_path):
    assert schema_refusal(tmp_path, '{"type":\n "object",}').startswith(
        "schema.json:2: the schema is not JSON: "
    )


@pytest.mark.parametrize(("content", "found"), [([], "'list'"), ({"type": "array"}, "'array'")])
def test_schema_of_something_else(tmp_path, content, found):
    assert schema_refusal(tmp_path, content).startswith(
        f"schema.json describes {found}; expected the schema of one row: "
    )


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "nummer"}, "at properties.x.type: 'nummer' is not valid under any of"),
        ({"minimum": "0"}, "at properties.x.minimum: '0' is not of type 'number'"),
        ({"multipleOf": 0}, "at properties.x.multipleOf: 0 is less than or equal to the minimum"),
        ({"minLength": -1}, "at properties.x.minLength: -1 is less than the minimum of 0"),
        ({"pattern": "("}, "at properties.x.pattern: '(' is not a 'regex'"),
        ({"anyOf": []}, "at properties.x.anyOf: [] should be non-empty"),
    ],
)
def test_schema_invalid(tmp_path, schema, message):
    text = schema_refusal(tmp_path, column_schema(schema))
    assert text.startswith("schema.json is not a valid JSON Schema: " + message)


def test_schema_root_invalid(tmp_path):
    text = schema_refusal(tmp_path, {"required": "x"})
    assert text == (
        "schema.json is not a valid JSON Schema: at required: 'x' is not of type 'array'."
    )


def test_schema_with_a_misspelled_keyword(tmp_path):
    assert schema_refusal(tmp_path, column_schema({"minumum": 0})) == (
        "schema.json: column 'x' has the unknown keyword 'minumum'. Did you mean 'minimum'?"
    )
