"""Numbers, dates and kinds of columns."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.data.arrow import from_texts
from maquette.data.cells import find_kind, is_whole, parse_numbers, parse_times
from maquette.data.dates import find_date_order, parse_dates


def texts(*cells: str | None) -> pa.StringArray:
    return from_texts(cells)


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_every_float_is_read_back_exactly(numbers):
    values, bad = parse_numbers(texts(*map(repr, numbers)))
    assert values.tolist() == numbers
    assert not bad.any()


@pytest.mark.parametrize("cell", ["1", "-1", "+1", "1.", ".5", "1e3", "1E-3", "007"])
def test_numbers(cell):
    for cells in (texts(cell), texts(cell, "x")):  # alone, and where the quick way fails
        values, bad = parse_numbers(cells)
        assert values[0] == float(cell)
        assert not bad[0]


@pytest.mark.parametrize(
    "cell",
    ["x", "", "1,5", "1 000", "1_0", "0x1", "inf", "-inf", "nan", "Infinity", "1e999", "--1"],
)
def test_bad_numbers(cell):
    for cells in (texts(cell), texts(cell, "x")):
        values, bad = parse_numbers(cells)
        assert np.isnan(values[0])
        assert bad[0]


def test_missing_numbers_are_not_bad():
    values, bad = parse_numbers(texts("1", None, "x"))
    assert np.isnan(values).tolist() == [False, True, True]
    assert bad.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2.5", None], "number"),
        (["1"] * 8 + ["x", "y"], "number"),
        (["1"] * 7 + ["x", "y", "z"], "category"),
        (["1", "2", "-", "-"], "number"),
        (["1", "-", "-"], "category"),
        (["true", "False"], "category"),
        ([None, None], "category"),
        (["2024-01-01", None], "date"),
        (["2024"], "number"),
        (["1.5.2024", "17.5.2024"], "date"),
        (["inf", "-Infinity", "NaN", "x"] + ["1"] * 2, "number"),
    ],
)
def test_kinds(cells, kind):
    assert find_kind(texts(*cells)) == kind


def test_whole():
    assert is_whole(np.array([1.0, np.nan, -3.0]))
    assert not is_whole(np.array([1.0, 1.5]))


@settings(deadline=None)
@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))
def test_iso_dates_are_read_as_python_reads_them(moment):
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    spelled = texts(moment.isoformat(), moment.isoformat(" "), moment.strftime("%Y-%m-%d"))
    first, second, day = parse_dates(texts(*spelled.to_pylist()), "ymd")
    assert first == second == np.datetime64(moment, "ms")
    if moment.year >= 1000:  # strftime does not pad years
        assert day == np.datetime64(moment.date(), "ms")


@settings(deadline=None)
@given(
    st.datetimes(min_value=datetime(1000, 1, 2), max_value=datetime(9999, 12, 30)),
    st.integers(-14 * 60, 14 * 60),
)
def test_zones_become_utc(moment, minutes):
    sign, size = ("-" if minutes < 0 else "+"), abs(minutes)
    text = f"{moment:%Y-%m-%dT%H:%M:%S}{sign}{size // 60:02d}:{size % 60:02d}"
    expected = datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
    assert parse_dates(texts(text), "ymd")[0] == np.datetime64(expected, "ms")


@pytest.mark.parametrize(
    ("text", "order", "expected"),
    [
        ("31.05.2024", "dmy", "2024-05-31"),
        ("1.2.2024", "dmy", "2024-02-01"),
        ("5/31/2024", "mdy", "2024-05-31"),
        ("2024/5/31", "ymd", "2024-05-31"),
        ("5/31/2024 2:05 PM", "mdy", "2024-05-31T14:05"),
        ("5/31/2024 12:00 am", "mdy", "2024-05-31T00:00"),
        ("31.05.2024, 14:05:09", "dmy", "2024-05-31T14:05:09"),
        ("2024-05-31 14:05:09.123456", "ymd", "2024-05-31T14:05:09.123"),
        ("2024-05-31T14:05Z", "ymd", "2024-05-31T14:05"),
    ],
)
def test_spellings(text, order, expected):
    assert parse_dates(texts(text, None), order)[0] == np.datetime64(expected, "ms")


NO_DATES = """2024-02-30,2024-13-01,2024-00-10,2024-01-00,2024-01-01 24:00,x,2024,24-01-01,
2024-01-01 13:00 PM,2024-01-01 10:60,2024-01-01 10:00:60"""


@pytest.mark.parametrize("text", NO_DATES.replace("\n", "").split(","))
def test_no_dates(text):
    assert np.isnat(parse_dates(texts(text), "ymd")[0])


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["2024-01-31"], "ymd"),
        (["31/1/2024", "1/2/2024"], "dmy"),
        (["1/31/2024", "1/2/2024"], "mdy"),
        (["1/2/2024"], "mdy"),
        (["1.2.2024"], "dmy"),
        (["x", None], None),
        ([], None),
    ],
)
def test_date_orders(cells, order):
    assert find_date_order(texts(*cells)) == order


def test_times_are_numbers_or_dates():
    numbers, bad = parse_times(texts("2", "1"))
    assert numbers.tolist() == [2.0, 1.0]
    assert not bad.any()
    dates, bad = parse_times(texts(*["2024-01-01"] * 10, "x", None))
    assert dates.dtype == "datetime64[ms]"
    assert np.flatnonzero(bad).tolist() == [10]
