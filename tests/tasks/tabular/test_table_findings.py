"""Warnings: each fires on the table it is for, and a plain table has none."""

from __future__ import annotations

import numpy as np
import pytest

from maquette.tasks.tabular.findings import (
    copy_warnings,
    find_warnings,
    identifier_reason,
    summarise,
)
from maquette.tasks.tabular.samples import TableSamples

N = 60


def samples(target: list[object] | None = None, **columns: list[object]) -> TableSamples:
    size = len(next(iter(columns.values()))) if columns else N
    target = target or ["ab"[i % 2] for i in range(size)]
    kinds: dict[str, dict[str, np.ndarray]] = {"f": {}, "M": {}, "O": {}}
    for name, values in columns.items():
        array = np.array(values)
        array = array.astype(object) if array.dtype.kind in "UO" else array
        array = array.astype(np.float64) if array.dtype.kind == "i" else array
        array = array.astype("datetime64[ms]") if array.dtype.kind == "M" else array
        kinds[array.dtype.kind][name] = array
    is_class = isinstance(target[0], str)
    return TableSamples(
        numbers=kinds["f"],
        dates=kinds["M"],
        categories=kinds["O"],
        columns=tuple(columns),
        target=np.array(target, dtype=object if is_class else np.float64),
        target_name="kind",
        lines=np.arange(2, size + 2),
        date_orders=dict.fromkeys(kinds["M"], "mdy"),
    )


def noise(seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).normal(size=N).tolist()


def test_a_plain_table_has_no_warnings():
    days = np.datetime64("2024-01-01") + np.arange(N)
    plain = samples(x=noise(), word=[str(i % 7) for i in range(N)], day=list(days))
    assert find_warnings(plain) == []
    assert copy_warnings(plain, {"train": np.arange(N), "valid": [], "test": []}) == []


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("who", [f"p{i}" for i in range(N)], "every row has another text"),
        ("who", [f"p{i // 2 if i < 40 else i}" for i in range(N)], "40 different texts in 60 rows"),
        ("n", list(range(N)), "it counts the rows"),
        ("PassengerId", [3 * i % 59 for i in range(N)], "its name and its whole numbers look like"),
        ("order_no", [3 * i % 59 for i in range(N)], "its name and its whole numbers look like"),
        ("age", [3 * i % 59 for i in range(N)], None),
        ("id", [i % 5 for i in range(N)], None),
        ("id", noise(), None),
        ("who", [f"p{i % 9}" for i in range(N)], None),
        ("id", ["x", "y"], None),
    ],
)
def test_identifiers(name, values, reason):
    found = identifier_reason(
        np.array(values, dtype=object if isinstance(values[0], str) else np.float64), name
    )
    assert found == reason or (
        reason is not None and found is not None and found.startswith(reason)
    )


@pytest.mark.parametrize(
    ("columns", "warning"),
    [
        (
            {"who": [f"p{i}" for i in range(N)]},
            "column 'who' looks like an identifier or free text (every row has another text); add "
            "it to ignore_columns if it says nothing about the target",
        ),
        ({"x": [2.0] * N}, "column 'x' is 2.0 in every row; the network will not see it"),
        ({"x": ["u"] * N}, "column 'x' is 'u' in every row; the network will not see it"),
        ({"x": [None] * N}, "column 'x' has no value in any row; the network will not see it"),
        (
            {"x": [*([np.nan] * 45), *noise()[:15]]},
            "column 'x' has no value in 75% of the rows",
        ),
        (
            {"x": [f"{i % 9},5" for i in range(N)]},
            "column 'x' holds numbers with a decimal comma, such as '0,5', and is read as "
            "categories; write them with a point",
        ),
        (
            {"x": [f"{i % 7}" if i % 3 else "uvw"[i % 2] for i in range(N)]},
            "column 'x' is read as categories, because 33% of its values are not numbers, such as "
            "'u'",
        ),
        (
            {"x": ["uv"[i % 2] for i in range(N)]},
            "column 'x' tells the target exactly; if it is not known at prediction time, add it to "
            "ignore_columns",
        ),
        (
            {"x": [np.datetime64("2024-01-02") + 31 * (i % 3) for i in range(N)]},
            "column 'x' is read with the month first; YYYY-MM-DD would leave no doubt",
        ),
    ],
)
def test_column_warnings(columns, warning):
    assert find_warnings(samples(**columns)) == [warning]


def test_a_column_that_is_the_target_in_another_unit():
    target = noise()
    leaked = samples(target, x=[3 * value - 1 for value in target], y=noise(1))
    assert find_warnings(leaked) == [
        "column 'x' tells the target exactly; if it is not known at prediction time, add it to "
        "ignore_columns"
    ]


def test_rare_classes():
    target = ["common"] * 57 + ["rare"] * 2 + ["Rare "]
    assert find_warnings(samples(target, x=noise())) == [
        "class 'Rare ' has 1 rows and class 'common' has 57; training.class_weights: balanced "
        "gives rare classes more say",
        "classes 'rare' and 'Rare ' differ in case or spaces only",
    ]


def test_copies_across_splits():
    copied = samples(x=[1.0, 1.0, 2.0, 3.0, 3.0, 4.0], word=list("aabccd"), target=list("aabccd"))
    parts = {"train": np.array([0, 2, 3, 4]), "valid": np.array([1]), "test": np.array([5])}
    assert copy_warnings(copied, parts) == [
        "2 rows are copies of others; 1 of valid and test are also in train"
    ]
    parts = {"train": np.array([0, 1, 2, 5]), "valid": np.array([3]), "test": np.array([4])}
    assert copy_warnings(copied, parts) == ["2 rows are copies of others"]


def test_missing_cells_in_copies_are_equal():
    copied = samples(x=[np.nan, np.nan, 1.0], word=[None, None, "a"], target=list("aab"))
    parts = {"train": np.array([0, 2]), "valid": np.array([1]), "test": np.array([], dtype=int)}
    assert copy_warnings(copied, parts) == [
        "1 row is a copy of another; 1 of valid and test are also in train"
    ]


def test_an_empty_column_in_the_summary():
    (column,) = summarise(samples(x=[np.nan] * N))["columns"]
    assert column == {"name": "x", "kind": "number", "missing": N}
