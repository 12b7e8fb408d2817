"""Registered bundles through MLflow's own way of loading a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import maquette
from maquette.lifecycle import Run, train
from maquette.track.store import tracking_uri

SAMPLES = Path(__file__).parents[2] / "data" / "sample"


def quick_run(runs_dir: Path, recipe: dict[str, Any]) -> Run:
    quick = {"bootstrap": 0, "baselines": False}
    return train({**recipe, "runs_dir": str(runs_dir), "evaluation": quick})


def load(uri: str, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from mlflow.pyfunc import load_model

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(runs_dir))
    return load_model(uri)


def test_a_table(runs_dir: Path, monkeypatch: pytest.MonkeyPatch):
    run = quick_run(
        runs_dir,
        {
            "name": "iris",
            "data": {"tabular": {"path": str(SAMPLES / "iris.csv"), "target_column": "species"}},
            "model": {"type": "tabular", "name": "mlp"},
            "training": {"epochs": 2},
        },
    )
    rows = pd.read_csv(SAMPLES / "iris.csv").drop(columns="species").iloc[::40]
    rows.iloc[1, 3] = None
    answers = load("models:/iris@champion", runs_dir, monkeypatch).predict(rows)

    expected = maquette.load(run.bundle).predict(rows)
    assert list(answers.columns) == [
        "prediction",
        "probability_setosa",
        "probability_versicolor",
        "probability_virginica",
    ]
    assert answers["prediction"].tolist() == expected.values
    np.testing.assert_allclose(answers.iloc[:, 1:], expected.probabilities)


def test_images(runs_dir: Path, monkeypatch: pytest.MonkeyPatch):
    run = quick_run(
        runs_dir,
        {
            "name": "colours",
            "data": {"image": {"path": str(SAMPLES / "images"), "image_size": [8, 8]}},
            "model": {"type": "vision", "name": "resnet18", "architecture": {"base_width": 8}},
            "training": {"epochs": 1},
        },
    )
    images = [path.read_bytes() for path in sorted(SAMPLES.glob("images/*/00.png"))]
    model = load("models:/colours@champion", runs_dir, monkeypatch)
    answers = model.predict(pd.DataFrame({"image": images}))

    expected = maquette.load(run.bundle).predict(images)
    assert answers["prediction"].tolist() == expected.values
    np.testing.assert_allclose(answers.iloc[:, 1:], expected.probabilities)
    assert isinstance(model.input_example["image"][0], bytes)
