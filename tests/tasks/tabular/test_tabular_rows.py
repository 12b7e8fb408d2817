"""Every message a caller can reach, and the readings that are accepted."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest

from maquette.errors import RequestError
from maquette.recipe.schema import TabularPreprocessing
from maquette.tasks.tabular.categories import CategoryColumn
from maquette.tasks.tabular.encoders import DateColumn, NumberColumn
from maquette.tasks.tabular.rows import RowReader, parse_date, parse_number

SETTINGS = TabularPreprocessing()
STRICT = TabularPreprocessing(handle_missing="error")
DAYS = np.array(["2024-01-01", "2024-02-01"], dtype="datetime64[ms]")


def number(name: str, settings: TabularPreprocessing = SETTINGS) -> NumberColumn:
    return NumberColumn.fit(name, np.array([1.0, 2.0]), settings)


PLAIN = RowReader(
    columns=("width", "height"),
    numbers=[number("width"), number("height")],
    dates=(),
    categories=(),
    target_name="species",
)
MIXED = RowReader(
    columns=("colour", "width", "since", "height"),
    numbers=[number("width"), number("height", STRICT)],
    dates=[DateColumn.fit("since", DAYS, SETTINGS, order="dmy")],
    categories=(
        CategoryColumn.fit(
            "colour", np.array(["red", "blue", "7"], dtype=object), max_categories=9
        ),
    ),
    target_name="species",
)
MIXED_ROW = {"colour": "red", "width": 1.5, "since": "2024-05-31", "height": 2}


def refusal(reader: RowReader, rows: list[object]) -> str:
    with pytest.raises(RequestError) as caught:
        reader.read(rows)
    assert caught.value.http_status == 422
    return str(caught.value)


def test_lists_tuples_mappings_and_arrays_read_alike():
    expected = [[1.0, 2.5], [3.0, -4.0]]
    for rows in (
        [[1, 2.5], [3.0, -4]],
        [(1, 2.5), [3.0, -4]],
        [{"width": 1, "height": 2.5}, {"height": -4, "width": 3.0}],
        [{"width": 1, "height": 2.5}, [3, -4]],
        np.array(expected),
        [["1", " 2.5"], [np.float32(3), np.int64(-4)]],
    ):
        np.testing.assert_array_equal(PLAIN.read(rows).numbers, expected)


def test_a_mixed_row():
    cells = MIXED.read([MIXED_ROW, ["green", None, None, "3e1"]])
    np.testing.assert_array_equal(cells.numbers, [[1.5, 2], [np.nan, 30]])
    np.testing.assert_array_equal(cells.slots, [[3], [0]])
    assert cells.dates[0, 0] == np.datetime64("2024-05-31")
    assert np.isnat(cells.dates[1, 0])


def test_an_empty_batch_has_the_right_shapes():
    for reader, num_numbers, num_categories in ((PLAIN, 2, 0), (MIXED, 2, 1)):
        cells = reader.read([])
        assert cells.numbers.shape == (0, num_numbers)
        assert cells.slots.shape == (0, num_categories)


def test_null_is_a_missing_number():
    np.testing.assert_array_equal(PLAIN.read([[None, 1.0]]).numbers, [[np.nan, 1]])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("tall", "'tall'"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ("NaN", "'NaN'"),
        ("", "''"),
        (True, "True"),
        ([1], r"[1]"),
        (10**400, None),
        (Decimal("1.5"), "Decimal('1.5')"),
    ],
)
def test_what_is_not_a_number_is_named_with_row_field_and_value(value, shown):
    message = refusal(PLAIN, [[1.0, 2.0], [3.0, value]])
    assert message.startswith("Row 1 (counting from 0), field 'height': got ")
    assert message.endswith("expected a finite number, or null for a missing value.")
    assert shown is None or f"got {shown}," in message
    assert len(message) < 200


def test_a_missing_value_is_refused_where_the_model_takes_none():
    assert refusal(MIXED, [MIXED_ROW | {"height": None}]) == (
        "Row 0 (counting from 0), field 'height': got None, expected a value; "
        "this model does not take missing ones."
    )


def test_too_few_cells():
    assert refusal(PLAIN, [[1.0]]) == (
        "Row 0 (counting from 0) has 1 cells, expected 2 in this order: width, height."
    )
    assert "Row 1 (counting from 0) has 3 cells" in refusal(PLAIN, [[1.0, 2.0], [1.0, 2.0, 3.0]])


def test_a_field_too_few():
    assert refusal(PLAIN, [{"width": 1.0}]) == (
        "Row 0 (counting from 0) has no field 'height'. Give every field, null where the value "
        "is missing: width, height."
    )


def test_an_unknown_field_with_the_nearest():
    assert refusal(PLAIN, [{"width": 1.0, "heigth": 1.0}]) == (
        "Row 0 (counting from 0) has the unknown field 'heigth'. Did you mean 'height'? "
        "Fields: width, height."
    )


def test_the_target_as_a_field():
    assert refusal(PLAIN, [{"width": 1.0, "height": 1.0, "species": "a"}]) == (
        "Row 0 (counting from 0) has the field 'species', which is what the model predicts; "
        "remove it."
    )


@pytest.mark.parametrize("row", [5, "1,2", None, b"x"])
def test_what_is_not_a_row(row):
    assert refusal(PLAIN, [row]) == (
        f"Row 0 (counting from 0) is {row!r}, expected a list of 2 cells or an object with the "
        "fields width, height."
    )


@pytest.mark.parametrize("cell", [["red"], {"a": 1}, float("nan"), date(2024, 1, 1)])
def test_what_is_not_a_category(cell):
    message = refusal(MIXED, [MIXED_ROW | {"colour": cell}])
    assert message == (
        f"Row 0 (counting from 0), field 'colour': got {cell!r}, "
        "expected text, or null for a missing value."
    )


@pytest.mark.parametrize("cell", ["05/31/2024", "soon", 20240531, float("nan"), ""])
def test_what_is_not_a_date(cell):
    message = refusal(MIXED, [MIXED_ROW | {"since": cell}])
    assert 'expected a date such as "2024-05-31" or "2024-05-31T14:30:00", or null.' in message


@pytest.mark.parametrize(
    "cell",
    [
        "2024-05-31T14:30",
        "2024-05-31 14:30:00",
        "2024-05-31T14:30:00Z",
        "2024-05-31T16:30:00+02:00",
        datetime(2024, 5, 31, 14, 30),
        datetime(2024, 5, 31, 16, 30, tzinfo=timezone(timedelta(hours=2))),
        np.datetime64("2024-05-31T14:30"),
    ],
)
def test_dates_are_read_in_utc(cell):
    assert parse_date(cell) == np.datetime64("2024-05-31T14:30")


def test_dates_spelled_as_in_the_training_file_are_read_in_its_order():
    rows = [MIXED_ROW | {"since": cell} for cell in ("03.04.2024", "2024-04-03", " 3/4/2024 9:30")]
    expected = np.array(["2024-04-03", "2024-04-03", "2024-04-03T09:30"], dtype="datetime64[ms]")
    np.testing.assert_array_equal(MIXED.read(rows).dates[:, 0], expected)


def test_a_plain_date_is_its_midnight():
    assert parse_date(date(2024, 5, 31)) == parse_date("2024-05-31") == np.datetime64("2024-05-31")


def test_long_values_and_long_field_lists_are_cut():
    wide = RowReader(
        columns=[f"x{j}" for j in range(200)],
        numbers=[number(f"x{j}") for j in range(200)],
        dates=(),
        categories=(),
        target_name="y",
    )
    message = refusal(wide, [[1.0]])
    assert message.endswith("x10, x11, … (200 in all).")
    message = refusal(PLAIN, [["a" * 500, 1.0]])
    assert "aaa...," in message
    assert len(message) < 200


def test_numbers_of_numpy_are_numbers():
    assert parse_number(np.float32(0.5)) == 0.5
    assert parse_number(np.int16(3)) == 3
