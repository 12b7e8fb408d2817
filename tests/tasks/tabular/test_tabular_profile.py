from __future__ import annotations

import json

import numpy as np
import pytest
from made_tables import make_samples, mixed_samples

from maquette.tasks.tabular import profile
from maquette.tasks.tabular.profile import table_profile


def test_it_is_json_and_covers_every_column():
    samples = mixed_samples(200)
    described = json.loads(json.dumps(table_profile(samples), allow_nan=False))
    assert set(described["numbers"]) == {"age", "income", "since"}
    assert described["dates"] == ["since"]
    assert set(described["categories"]) == {"colour", "postcode"}
    income = described["numbers"]["income"]
    assert income["missing"] == int(np.isnan(samples.numbers["income"]).sum())
    assert income["count"] + income["missing"] == described["num_rows"] == 200
    assert described["target"]["values"].keys() == {"yes", "no"}


def test_bins_hold_about_equal_counts_and_match_a_histogram():
    values = np.random.default_rng(0).normal(size=1000)
    described = table_profile(make_samples(numbers={"x": values}, target=[1.0] * 1000))
    bins = described["numbers"]["x"]
    assert all(abs(count - 100) <= 1 for count in bins["counts"])
    edges = [-np.inf, *np.nextafter(bins["edges"], np.inf), np.inf]
    assert np.histogram(values, edges)[0].tolist() == bins["counts"]
    assert bins["quantiles"][0] == values.min()
    assert bins["quantiles"][50] == pytest.approx(np.median(values))
    assert bins["mean"] == pytest.approx(values.mean())


def test_repeated_values_give_fewer_bins_that_still_count_every_row():
    values = [0.0] * 80 + [1.0] * 15 + [7.0] * 5
    bins = table_profile(make_samples(numbers={"x": values}, target=values))["numbers"]["x"]
    assert bins["edges"] == [0.0, 1.0]
    assert bins["counts"] == [80, 15, 5]


def test_an_empty_column_has_counts_alone():
    samples = make_samples(
        numbers={"x": [np.nan, np.nan]}, categories={"c": [None, None]}, target=["a", "b"]
    )
    described = table_profile(samples)
    assert described["numbers"]["x"] == {"count": 0, "missing": 2}
    assert described["categories"]["c"] == {"count": 0, "missing": 2, "values": {}, "other": 0}


def test_rare_categories_are_counted_together(monkeypatch):
    monkeypatch.setattr(profile, "MAX_CATEGORIES", 2)
    samples = make_samples(categories={"c": ["a", "b", "a", "c", "d", "b", "a"]}, target=["y"] * 7)
    described = table_profile(samples)["categories"]["c"]
    assert described == {"count": 7, "missing": 0, "values": {"a": 3, "b": 2}, "other": 2}
