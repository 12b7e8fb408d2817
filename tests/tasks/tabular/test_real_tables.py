"""The four real tables: read, checked and split as they are, and a recipe for each."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from maquette.recipe import read_recipe
from maquette.recipe.schema import TabularData
from maquette.tasks.tabular.data import check_table, load_table
from maquette.tasks.tabular.suggest import suggest_recipe

pytestmark = pytest.mark.data


def table(name: str) -> str:
    return str(Path(os.environ["MAQUETTE_DATA_MIRROR"]) / "tabular" / f"{name}_train.csv")


def test_adult():
    data = TabularData(path=table("adult"), target_column="income")
    splits = load_table(data, seed=0)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (22793, 4884, 4884)
    columns = {column["name"]: column for column in splits.report.summary["columns"]}
    missing = {name: column["missing"] for name, column in columns.items() if column["missing"]}
    assert missing == {"workclass": 1836, "occupation": 1843, "native_country": 583}
    assert [name for name, column in columns.items() if column["kind"] == "number"] == [
        "age",
        "fnlwgt",
        "education_num",
        "capital_gain",
        "capital_loss",
        "hours_per_week",
    ]
    for part in (splits.train, splits.valid, splits.test):
        assert Counter(part.target.tolist())[">50K"] / len(part) == pytest.approx(0.2408, abs=1e-3)


def test_penguins():
    data = TabularData(
        path=table("penguins"),
        target_column="Species",
        split={"method": "time", "column": "Date Egg"},
        ignore_columns=("Sample Number", "Individual ID", "Comments"),
    )
    splits = load_table(data, seed=0)
    assert list(splits.train.dates) == ["Date Egg"]
    assert splits.train.dates["Date Egg"].min() == np.datetime64("2007-11-09")
    assert splits.train.dates["Date Egg"].max() < splits.test.dates["Date Egg"].min()
    assert "Culmen Length (mm)" in splits.train.numbers
    assert "column 'Region' is 'Anvers' in every row" in " ".join(splits.report.warnings)


def test_penguins_by_weight():
    data = TabularData(path=table("penguins"), target_column="Body Mass (g)")
    report = check_table(data)
    assert report.num_samples == 283
    assert report.summary["target"]["kind"] == "number"
    assert (report.summary["target"]["min"], report.summary["target"]["max"]) == (2700, 6300)


def test_housing():
    data = TabularData(path=table("california_housing"), target_column="median_house_value")
    splits = load_table(data, seed=0)
    bedrooms = np.concatenate(
        [p.numbers["total_bedrooms"] for p in (splits.train, splits.valid, splits.test)]
    )
    assert np.isnan(bedrooms).sum() == 167
    assert set(splits.train.categories) == {"ocean_proximity"}
    assert splits.report.warnings == []


def test_wine_as_classes_and_as_numbers():
    path = table("wine_quality")
    classes = check_table(TabularData(path=path, target_column="quality"))
    assert list(classes.summary["target"]["counts"]) == ["3", "4", "5", "6", "7", "8", "9"]
    numbers = check_table(TabularData(path=path, target_column="quality", target_type="number"))
    assert numbers.summary["target"]["median"] == 6
    assert any("939 rows are copies of others" in warning for warning in numbers.warnings)


@pytest.mark.parametrize(
    ("name", "target", "ignored"),
    [
        ("adult", "income", ()),
        ("penguins", "Species", ("Sample Number", "Region", "Stage", "Individual ID")),
        ("california_housing", "median_house_value", ()),
        ("wine_quality", "quality", ()),
    ],
)
def test_a_recipe_for_each(tmp_path, name, target, ignored):
    (tmp_path / "recipe.yaml").write_text(suggest_recipe(Path(table(name)), target=target))
    data = read_recipe(tmp_path / "recipe.yaml").data.tabular
    assert data.ignore_columns == ignored
    assert not check_table(data).quarantined
