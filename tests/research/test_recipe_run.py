"""`maquette validate RECIPE`: a real short run of each kind of recipe, judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from maquette.cli import main
from maquette.data.catalogue import CATALOGUE
from maquette.errors import RecipeError, UsageError
from maquette.recipe import read_recipe
from maquette.research.judging.metric_checks import expected_sha256
from maquette.research.running.sandbox import Limits
from maquette.research.validating.recipe_run import (
    METRICS,
    _changes,
    _digest,
    _plan,
    data_source,
    run_record,
    validate_recipe,
)
from maquette.runs import RunFolder

ROOT = Path(__file__).resolve().parents[2]
IRIS = ROOT / "configs" / "iris.yaml"


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    """Shipped recipes name their data relative to the checkout."""
    monkeypatch.chdir(ROOT)


def failed(found) -> dict[str, str]:
    return {verdict.check: verdict.found for verdict in found.verdicts if not verdict.passed}


def test_a_shipped_recipe_passes(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        main(["validate", str(IRIS), "training.batch_size=8"])

    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert out.splitlines()[-1] == f"{IRIS} passed"
    assert "optimiser steps" in out
    assert not (ROOT / "runs").exists() or not list((ROOT / "runs").glob("*-iris-*"))


def test_a_recipe_that_diverges_fails_with_the_trainers_words(capsys):
    found = validate_recipe(IRIS, ["training.learning_rate=1e30"])

    assert "run ends" in failed(found)
    assert "Try training.learning_rate=1e+29" in (found.diagnosis or "")
    assert not found.passed
    assert found.lines()[-1].startswith(f"{IRIS} failed, ")


def test_a_recipe_that_takes_too_long_is_ended():
    found = validate_recipe(IRIS, limits=Limits(seconds=0.2))

    assert failed(found)["run ends"] == "stopped at the time limit"
    assert failed(found)["record"] == "the run left no summary.json"


def test_wrong_recipes_are_refused_before_anything_runs():
    with pytest.raises(RecipeError, match="Did you mean 'training'"):
        validate_recipe(IRIS, ["trainng.epochs=3"])
    with pytest.raises(UsageError, match="--epochs is 1, expected 2 at least"):
        validate_recipe(IRIS, epochs=1)


def test_the_record_of_a_table(iris_run):
    record = run_record(RunFolder(iris_run.folder), "maquette train")
    [training] = record.trainings

    assert record.datasets["iris"].samples == 150
    assert record.datasets["iris"].sha256 == "not taken"
    assert len(training.losses) == record.epochs == 30
    assert training.baseline["accuracy"] < training.metrics["accuracy"]
    assert training.model_extra == {"test_samples": iris_run.summary["samples"]["test"]}


def test_the_record_of_images(colours_run):
    [training] = run_record(RunFolder(colours_run.folder), "maquette train").trainings

    assert training.baseline["accuracy"] > 0
    assert set(METRICS) & set(training.metrics) == {"accuracy"}


def test_the_record_of_pairs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "tasks" / "image_text"))
    from shape_pairs import shape_manifest, shape_recipe

    from maquette.lifecycle import train

    manifest = shape_manifest(tmp_path / "pairs", 30)
    run = train(shape_recipe(tmp_path / "runs", manifest, training__epochs=2))

    record = run_record(RunFolder(run.folder), "maquette train")
    [training] = record.trainings

    assert 0 < training.baseline["mean_recall"] < 1
    assert "mean_recall" in training.metrics
    assert len(next(iter(record.datasets.values())).sha256) == 64


def test_the_catalogue_gives_the_checksum():
    recipe = read_recipe(ROOT / "configs" / "adult.yaml")

    assert data_source(recipe) == "catalogue:adult"
    assert _digest(recipe, {}) == CATALOGUE["adult"].sha256


@pytest.mark.parametrize("name", ["digits", "adult", "pcb_defects"])
def test_data_of_the_catalogue_are_checked_where_they_come_in(name):
    """An archive is unpacked once, so no later run reads the file that has the checksum."""
    recipe = read_recipe(ROOT / "configs" / f"{name}.yaml", [])
    (item,) = _plan(Path("recipe.yaml"), recipe, None).of_kind("dataset")
    assert expected_sha256(item) == (None, True)


def test_warm_up_shrinks_with_the_epochs():
    changes = _changes(IRIS, ["training.warmup_epochs=3"], 2, Path("runs"))

    assert "training.warmup_epochs=0.1" in changes
    read_recipe(IRIS, ["training.warmup_epochs=3", *changes])
