"""YAML becomes typed settings and back; whatever does not fit is named by its dotted key."""

import math
from dataclasses import dataclass, field
from typing import Literal

import pytest
import yaml

from paraformer_asr.errors import AsrError
from paraformer_asr.settings import as_plain, as_settings, load_yaml, nearest, set_key


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    pair: tuple[int, float] = (1, 2.0)
    many: tuple[float, ...] = (1.0,)
    limit: float | None = 3.0


@dataclass(frozen=True, kw_only=True)
class Outer:
    title: str
    count: int = 1
    on: bool = True
    kind: Literal["a", "b", 3] = "a"
    inner: Inner = field(default_factory=Inner)
    other: Inner | None = None


def read(**values) -> Outer:
    return as_settings(Outer, {"title": "t"} | values)


def mistake(**values) -> str:
    with pytest.raises(AsrError) as caught:
        read(**values)
    return str(caught.value)


def test_values_become_their_types_all_the_way_down():
    outer = read(kind=3, inner={"rate": 2, "pair": [3, 4], "many": [], "limit": None}, other={})
    assert outer == Outer(
        title="t",
        kind=3,
        inner=Inner(rate=2.0, pair=(3, 4.0), many=(), limit=None),
        other=Inner(),
    )
    assert type(outer.inner.rate) is float
    assert type(outer.inner.pair[1]) is float


def test_settings_survive_yaml():
    outer = read(other={"many": [0.1, 2.5], "pair": [7, 0.5]}, on=False)
    text = yaml.safe_dump(as_plain(outer))
    assert "python/tuple" not in text
    assert as_settings(Outer, yaml.safe_load(text)) == outer


def test_a_float_may_be_written_without_its_point():
    assert read(inner={"rate": yaml.safe_load("1e-3")}).inner.rate == 0.001
    assert math.isinf(read(inner={"rate": math.inf}).inner.rate)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 1.5}, "count is 1.5; expected a whole number."),
        ({"count": True}, "count is True; expected a whole number."),
        ({"count": None}, "count is None; expected a whole number."),
        ({"on": 1}, "on is 1; expected true or false."),
        ({"title": 5}, "title is 5; expected text."),
        ({"inner": {"rate": "fast"}}, "inner.rate is 'fast'; expected a number."),
        ({"inner": {"rate": True}}, "inner.rate is True; expected a number."),
        ({"inner": {"rate": math.nan}}, "inner.rate is nan; expected a number."),
        ({"inner": {"rate": "nan"}}, "inner.rate is nan; expected a number."),
        ({"inner": 3}, "inner is 3; expected keys and values under it."),
        ({"inner": None}, "inner is None; expected keys and values under it."),
        ({"inner": {"pair": 3}}, "inner.pair is 3; expected a list such as [1, 2]."),
        ({"inner": {"pair": "12"}}, "inner.pair is '12'; expected a list such as [1, 2]."),
        ({"inner": {"pair": [1]}}, "inner.pair lists 1 values; expected 2."),
        ({"inner": {"pair": [1, "x"]}}, "inner.pair.1 is 'x'; expected a number."),
        ({"inner": {"many": [1, []]}}, "inner.many.1 is []; expected a number."),
        ({"kind": "c"}, "kind='c' is none of: a, b, 3."),
        ({"kind": True}, "kind=True is none of: a, b, 3."),
        ({"kind": ["a"]}, "kind=['a'] is none of: a, b, 3."),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_its_key(values, message):
    assert mistake(**values).startswith(message)


def test_a_key_that_is_none_is_told_with_the_nearest_and_all_others():
    assert mistake(cuont=1) == (
        "cuont is no setting. Did you mean count? Settings here: title, count, on, kind, inner, "
        "other."
    )
    assert mistake(inner={"zzz": 1}) == (
        "inner.zzz is no setting. Settings here: rate, pair, many, limit."
    )
    assert mistake(**{"3": 1}).startswith("3 is no setting.")


def test_a_key_without_a_default_is_needed():
    with pytest.raises(AsrError, match=r"^title is needed and has no default; add it\.$"):
        as_settings(Outer, {})


def test_the_top_has_a_name_too():
    with pytest.raises(AsrError, match="the configuration is 3; expected keys and values"):
        as_settings(Outer, 3)


def test_nearest_is_silent_about_strangers():
    assert nearest("dim", ["dims", "heads"]) == " Did you mean dims?"
    assert nearest("xyz", ["dims", "heads"]) == ""


def test_assignments_make_the_sections_they_need():
    values = {"a": 1, "empty": None}
    for assignment in ("a=2", "b.c.d=[1, 2]", "empty.x=yes", "t=a=b", "n=null", "e="):
        set_key(values, assignment)
    assert values == {
        **{"a": 2, "b": {"c": {"d": [1, 2]}}, "empty": {"x": True}},
        **{"t": "a=b", "n": None, "e": None},
    }


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.steps", "'train.steps' sets nothing; write key=value, such as train.steps=100."),
        ("=3", "'=3' sets nothing; write key=value, such as train.steps=100."),
        ("a=[1", "'a=[1': '[1' is no YAML value; quote it."),
        ("a.b=1", "'a.b=1': a is a value and has no keys under it."),
    ],
)
def test_an_assignment_that_is_none_is_told(assignment, message):
    with pytest.raises(AsrError) as caught:
        set_key({"a": 7}, assignment)
    assert str(caught.value) == message


def test_an_empty_file_is_an_empty_mapping(tmp_path):
    (tmp_path / "a.yaml").write_text("# nothing\n", "utf-8")
    assert load_yaml(tmp_path / "a.yaml") == {}


def test_a_file_that_is_not_there_is_told_with_its_neighbours(tmp_path):
    with pytest.raises(AsrError) as caught:
        load_yaml(tmp_path / "tiny.yml")
    assert str(caught.value) == f"{tmp_path / 'tiny.yml'}: there is no such file."
    for name in ("b.yaml", "a.yaml"):
        (tmp_path / name).write_text("", "utf-8")
    with pytest.raises(AsrError) as caught:
        load_yaml(tmp_path / "tiny.yml")
    assert str(caught.value) == (
        f"{tmp_path / 'tiny.yml'}: there is no such file. Did you mean one of: "
        f"{tmp_path / 'a.yaml'}, {tmp_path / 'b.yaml'}?"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: [1,\n", ":3: not YAML ("),
        (b"a: 1\n\tb: 2\n", ":2: not YAML ("),
        (b"a: \xff\n", ": byte 3 is not UTF-8; save the file as UTF-8."),
        (b"a: \x00\n", ": not YAML ("),
        (b"- 1\n", ": expected keys with values, such as 'seed: 0'; found [1]."),
        (b"a: !!python/object:os.system {}\n", ":1: not YAML ("),
    ],
)
def test_what_is_no_mapping_in_yaml_is_told_with_its_place(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(AsrError) as caught:
        load_yaml(path)
    assert str(caught.value).startswith(f"{path}{message}")
