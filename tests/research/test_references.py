"""Numbers in texts: what is one, when it holds, how it is written anew, where it points."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.errors import DataError
from maquette.research.numbers.references import (
    link,
    look_up,
    pointer,
    read_json,
    read_number,
    split_target,
)


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("0.853", "0.8529"),
        ("0.85", "0.845000"),  # half to even is 0.84, half up is 0.85
        ("0.84", "0.845000"),
        ("85.3 %", "0.8529"),
        ("85 %", "0.8529"),
        ("2.1 % points", "0.021"),
        ("−0.02", "-0.0201"),
        ("-0.02", "-0.0201"),
        ("+1.5", "1.5"),
        ("32 561", "32561"),
        ("32,561", "32561"),
        ("1 234 567.8", "1234567.84"),
        ("2.9 min", "2.91"),
        ("1.19 ×", "1.187"),
        ("12s", "12.2"),
        ("1.5e-4", "0.000152"),
        ("0.00", "-0.0001"),
        ("+0.00", "0"),
        ("−0.00", "-0.0001"),
        ("100000000000000000000000000000001", "100000000000000000000000000000001"),
    ],
)
def test_a_number_that_holds(text: str, recorded: str) -> None:
    shown = read_number(text)
    assert shown is not None
    assert shown.holds(Decimal(recorded))


@pytest.mark.parametrize(
    ("text", "recorded", "expected"),
    [
        ("0.853", "0.8541", "0.854"),
        ("85.3 %", "0.8541", "85.4 %"),
        ("85.3%", "-0.8541", "−85.4%"),
        ("+0.02", "-0.021", "−0.02"),
        ("+0.02", "0.031", "+0.03"),
        ("+0.00", "-0.0001", "−0.00"),
        ("−0.02", "0.031", "0.03"),
        ("-0.02", "-0.031", "-0.03"),
        ("1 234", "1234567", "1 234 567"),
        ("1,234", "1235", "1,235"),
        ("2.9 min", "3", "3.0 min"),
        ("1.5e-4", "3.26e-7", "3.3e-7"),
        ("1.5e-4", "0", "0.0e0"),
        ("12", "1e300", "1" + "0" * 300),
    ],
)
def test_a_stale_number_is_written_anew_in_its_own_way(
    text: str, recorded: str, expected: str
) -> None:
    shown = read_number(text)
    assert shown is not None
    assert not shown.holds(Decimal(recorded))
    anew = shown.written(Decimal(recorded))
    assert anew == expected
    again = read_number(anew)
    assert again is not None
    assert again.holds(Decimal(recorded))


@pytest.mark.parametrize(
    "text",
    ["", "v1", "0,85", "12 34", "1,234 567", "0.85 ± 0.01", "5 of 5", "about 3", "1.2.3", "5 to 6"],
)
def test_what_is_not_one_number(text: str) -> None:
    assert read_number(text) is None


@settings(max_examples=50)
@given(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12),
    st.integers(0, 8),
    st.booleans(),
    st.sampled_from(["", " %", " s", "×"]),
)
def test_every_written_number_holds(value: float, decimals: int, signed: bool, suffix: str) -> None:
    written = link(value, "r.json", "a", decimals=decimals, suffix=suffix, signed=signed)
    shown = read_number(written[1 : written.index("]")])
    assert shown is not None
    assert shown.holds(Decimal(repr(value)))


@settings(max_examples=50)
@given(st.lists(st.text(max_size=5) | st.integers(0, 3), min_size=1, max_size=4))
def test_a_pointer_leads_back_to_its_place(place: list[str | int]) -> None:
    document: object = Decimal(7)
    for key in reversed(place):
        document = [Decimal(0)] * key + [document] if isinstance(key, int) else {key: document}
    assert look_up(document, pointer(*place)) == 7


def test_a_link_escapes_the_place() -> None:
    written = link(0.5, "a b.json", "x/y~z", "(|)", 0, decimals=1)
    assert written == "[0.5](a%20b.json#/x~1y~0z/%28%7C%29/0)"
    assert split_target(written[6:-1]) == ("a b.json", "/x~1y~0z/(|)/0")


def test_a_small_number_is_written_with_a_power_of_ten() -> None:
    assert link(1.5e-7, "r.json", "a", decimals=2, scientific=True) == "[1.50e-7](r.json#/a)"


@pytest.mark.parametrize(
    "target", ["https://example.org/r.json#/a", "//example.org/r.json", "a.md#/b", "file:r.json"]
)
def test_other_links_are_left_alone(target: str) -> None:
    assert split_target(target) is None


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("a", "'a' is not a place in a record: a place begins with /"),
        ("/trainigs/0", "the record has no 'trainigs'. Did you mean 'trainings'?"),
        ("/trainings/0/xyz", "/trainings/0 has no 'xyz': it has loss, big, no, words, flag"),
        ("/trainings/1", "/trainings has 1 entries, numbered from 0; there is no 1"),
        ("/trainings/00", "/trainings is a list: a position is expected, not '00'"),
        ("/trainings/-", "/trainings is a list: a position is expected, not '-'"),
        ("/trainings/0/loss/x", "/trainings/0/loss is a number: nothing lies below it"),
        ("/trainings", "/trainings is a list, not a number"),
        ("/trainings/0", "/trainings/0 is an object, not a number"),
        ("/trainings/0/no", "/trainings/0/no is null, not a number"),
        ("/trainings/0/flag", "/trainings/0/flag is true, not a number"),
        ("/trainings/0/words", "/trainings/0/words is the text 'five', not a number"),
        ("/trainings/0/big", "/trainings/0/big is larger than a number of double precision can be"),
        ("/none/x", "/none has no 'x': it has nothing"),
    ],
)
def test_a_place_without_a_number(place: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(
        '{"trainings": [{"loss": 0.5, "big": 1e999999999, "no": null, "words": "five",'
        ' "flag": true}], "none": {}}'
    )
    with pytest.raises(DataError) as caught:
        look_up(read_json(file), place)
    assert str(caught.value) == message


def test_a_record_keeps_every_digit(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"a": 0.1}))
    assert look_up(read_json(tmp_path / "r.json"), "/a") == Decimal("0.1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON: Expecting property name"),
        ('{"a": NaN}', "it holds NaN, which JSON does not know; write null"),
        ("\xff", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_record_that_is_none(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read_json(file)
    with pytest.raises(DataError, match=r"could not read .*absent\.json: No such file"):
        read_json(tmp_path / "absent.json")
