"""Splits: complete, disjoint, deterministic, in proportion, and never across a group or a time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.data.splits import SPLITS, split_rows
from maquette.errors import DataError

RATIOS = (0.7, 0.15, 0.15)
ratios = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)).map(
    lambda parts: tuple(part / sum(parts) for part in parts)
)


def check_parts(parts: dict[str, np.ndarray], num_rows: int) -> None:
    assert tuple(parts) == SPLITS
    joined = np.concatenate(list(parts.values()))
    assert sorted(joined.tolist()) == list(range(num_rows))
    for rows in parts.values():
        assert rows.dtype == np.int64
        assert len(rows) > 0
        assert (np.diff(rows) > 0).all()


def shares(parts: dict[str, np.ndarray]) -> list[int]:
    return [len(rows) for rows in parts.values()]


@settings(deadline=None)
@given(st.integers(3, 200), ratios, st.integers(0, 2**40))
def test_random(num_rows, ratios, seed):
    parts = split_rows(num_rows, ratios=ratios, method="random", seed=seed)
    check_parts(parts, num_rows)
    again = split_rows(num_rows, ratios=ratios, method="auto", seed=seed)
    assert all((parts[name] == again[name]).all() for name in SPLITS)
    for size, ratio in zip(shares(parts), ratios, strict=True):
        assert abs(size - num_rows * ratio) < 2 or size == 1


def test_the_seed_decides():
    one, other = (split_rows(100, ratios=RATIOS, method="random", seed=seed) for seed in (0, 1))
    assert (one["test"] != other["test"]).any()
    assert one["test"][:5].tolist() == [6, 11, 14, 28, 31], "splits of old runs must stay"


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=3, max_size=120), ratios, st.integers(0, 9))
def test_stratified(labels, ratios, seed):
    counts = Counter(labels)
    if min(counts.values()) == 1:
        labels = labels * 2
        counts = Counter(labels)
    parts = split_rows(len(labels), ratios=ratios, method="stratified", labels=labels, seed=seed)
    check_parts(parts, len(labels))
    names = np.array(labels)
    assert set(names[parts["train"]]) == set(labels)


@settings(deadline=None)
@given(st.lists(st.integers(20, 60), min_size=1, max_size=30), ratios)
def test_stratified_keeps_the_shares_of_classes_and_of_splits(sizes, ratios):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    parts = split_rows(len(labels), ratios=ratios, method="stratified", labels=labels, seed=0)
    for name, ratio in zip(SPLITS, ratios, strict=True):
        counts = np.bincount(labels[parts[name]], minlength=len(sizes))
        assert (np.abs(counts - np.array(sizes) * ratio) <= 2).all()
        assert abs(len(parts[name]) - len(labels) * ratio) <= 3


def test_stratified_iris():
    labels = np.repeat(["setosa", "versicolor", "virginica"], 50)
    parts = split_rows(150, ratios=RATIOS, method="auto", labels=labels, seed=0)
    assert [Counter(labels[rows].tolist()) for rows in parts.values()] == [
        {"setosa": 35, "versicolor": 35, "virginica": 35},
        {"setosa": 8, "versicolor": 7, "virginica": 8},
        {"setosa": 7, "versicolor": 8, "virginica": 7},
    ]


def test_many_small_classes_do_not_starve_a_split():
    labels = np.repeat(np.arange(100), 3)  # rounding alike would give 2, 1, 0 to each class
    parts = split_rows(300, ratios=RATIOS, method="stratified", labels=labels, seed=0)
    assert shares(parts) == [210, 45, 45]
    assert set(labels[parts["train"]]) == set(range(100))


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=3, max_size=100), ratios, st.integers(0, 9))
def test_grouped(groups, ratios, seed):
    if len(set(groups)) < 3:
        groups = [*groups, 10, 11, 12]
    parts = split_rows(len(groups), ratios=ratios, method="grouped", groups=groups, seed=seed)
    check_parts(parts, len(groups))
    homes = [set(np.array(groups)[rows]) for rows in parts.values()]
    assert sum(map(len, homes)) == len(set(groups))


def test_grouped_follows_the_ratios():
    groups = np.repeat(np.arange(100), 7)
    parts = split_rows(700, ratios=RATIOS, method="grouped", groups=groups, seed=0)
    assert shares(parts) == [490, 105, 105]


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=3, max_size=100), ratios)
def test_time(times, ratios):
    if len(set(times)) < 3:
        times = [*times, 31, 32, 33]
    values = np.array(times)
    parts = split_rows(len(times), ratios=ratios, method="time", times=values, seed=0)
    check_parts(parts, len(times))
    train, valid, test = (values[rows] for rows in parts.values())
    assert train.max() < valid.min()
    assert valid.max() < test.min()


def test_time_as_text_dates_and_numbers():
    days = np.arange("2024-01-25", "2024-02-04", dtype="datetime64[D]")
    expected = split_rows(10, ratios=(0.6, 0.2, 0.2), method="time", times=days, seed=0)
    assert expected["test"].tolist() == [8, 9]
    for times in (days.astype(str), [f"{d:02d}.{m}.2024" for m, d in _day_pairs(days)]):
        parts = split_rows(10, ratios=(0.6, 0.2, 0.2), method="time", times=times, seed=0)
        assert all((parts[name] == expected[name]).all() for name in SPLITS)


def _day_pairs(days: np.ndarray) -> list[tuple[int, int]]:
    return [(day.month, day.day) for day in days.tolist()]


def test_time_that_is_none():
    with pytest.raises(DataError, match=r"The time column holds 'soon', expected dates such as"):
        split_rows(4, ratios=RATIOS, method="time", times=["1", "2", "soon", "later"], seed=0)


def test_column():
    assigned = ["train", "Training", "val", "validation", "valid", "TEST", "testing", "dev"]
    parts = split_rows(8, ratios=RATIOS, method="column", assigned=assigned, seed=0)
    assert {name: rows.tolist() for name, rows in parts.items()} == {
        "train": [0, 1],
        "valid": [2, 3, 4, 7],
        "test": [5, 6],
    }


@pytest.mark.parametrize("with_labels", [False, True])
def test_column_without_validation(with_labels):
    assigned = ["train"] * 80 + ["test"] * 20
    labels = (["a"] * 60 + ["b"] * 20 + ["a"] * 20) if with_labels else None
    parts = split_rows(
        100, ratios=(0.6, 0.2, 0.2), method="column", assigned=assigned, labels=labels, seed=0
    )
    check_parts(parts, 100)
    assert shares(parts) == [60, 20, 20]
    assert parts["test"].tolist() == list(range(80, 100))
    if with_labels:
        assert Counter(np.array(labels)[parts["valid"]].tolist()) == {"a": 15, "b": 5}


def test_column_without_validation_keeps_a_lonely_class_in_train():
    assigned = ["train"] * 9 + ["test"] * 3
    for labels in (["a"] * 8 + ["b"] + ["b"] * 3, list("abcdefghiabc")):
        parts = split_rows(
            12, ratios=RATIOS, method="column", assigned=assigned, labels=labels, seed=0
        )
        check_parts(parts, 12)
    first = split_rows(
        12, ratios=RATIOS, method="column", assigned=assigned, labels=["a"] * 8 + ["b"] * 4, seed=0
    )
    assert 8 in first["train"]


# What cannot be dealt


def test_too_few_samples():
    with pytest.raises(
        DataError, match=r"2 samples cannot fill train, validation and test; at lea"
    ):
        split_rows(2, ratios=RATIOS, method="random", seed=0)


def test_two_samples_of_two_classes_are_enough():
    parts = split_rows(4, ratios=(0.9, 0.05, 0.05), method="auto", labels=list("abba"), seed=0)
    assert shares(parts) == [2, 1, 1]


def test_a_class_with_one_sample():
    with pytest.raises(DataError) as caught:
        split_rows(
            5,
            ratios=RATIOS,
            method="stratified",
            labels=list("aabac"),
            ids=[f"row {line}" for line in range(2, 7)],
            seed=0,
        )
    assert str(caught.value) == (
        "2 classes have one sample only: 'b' (row 4), 'c' (row 6). One sample cannot be both "
        "learned and tested. Merge the class with another, remove it, add samples, or set "
        "split.method: random."
    )


def test_classes_with_one_sample_are_counted_past_ten():
    labels = [str(number) for number in range(12)]
    with pytest.raises(DataError, match=r"12 classes have one sample only: .*'7' and 2 more\. One"):
        split_rows(12, ratios=RATIOS, method="stratified", labels=labels, seed=0)


def test_stratified_without_classes():
    with pytest.raises(
        DataError, match=r"needs classes, but the target is a number\. Use split\.me"
    ):
        split_rows(9, ratios=RATIOS, method="stratified", seed=0)


def test_two_groups():
    with pytest.raises(
        DataError, match=r"The group column has 2 groups \('x', 'y'\), which cannot"
    ):
        split_rows(4, ratios=RATIOS, method="grouped", groups=list("xxyy"), seed=0)


def test_two_times():
    with pytest.raises(
        DataError, match=r"The time column has 2 different values; three splits in o"
    ):
        split_rows(4, ratios=RATIOS, method="time", times=np.array([1, 1, 2, 2]), seed=0)


def test_column_with_an_unknown_name():
    with pytest.raises(DataError) as caught:
        split_rows(
            4, ratios=RATIOS, method="column", assigned=["train", "test", "tset", "all"], seed=0
        )
    assert str(caught.value) == (
        "The split column holds 'all', 'tset', which names no split. Expected: train, training, "
        "valid, validation, val, dev, test, testing."
    )


def test_column_without_test():
    with pytest.raises(
        DataError, match=r"The split column says 'test' for no row; all three splits"
    ):
        split_rows(3, ratios=RATIOS, method="column", assigned=["train", "train", "val"], seed=0)


def test_column_without_validation_and_without_a_share_for_it():
    with pytest.raises(
        DataError, match=r"says 'valid' for no row\. Mark some rows so, or give val"
    ):
        split_rows(
            3, ratios=(0.8, 0, 0.2), method="column", assigned=["train", "train", "test"], seed=0
        )
