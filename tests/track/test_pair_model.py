"""A registered image-text bundle through MLflow's own way of loading a model."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

import maquette
from maquette.lifecycle import train
from maquette.track.store import tracking_uri

sys.path.append(str(Path(__file__).parents[1] / "tasks" / "image_text"))
from shape_pairs import colour_folders, shape_manifest, shape_recipe


def test_pairs_and_classes(runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    manifest = shape_manifest(tmp_path / "pairs")
    quick = {"training__epochs": 1, "tracking": {"enabled": True}}
    run = train(shape_recipe(runs_dir, manifest, **quick))
    assert "registered as" in run.tracked
    from mlflow import MlflowClient
    from mlflow.pyfunc import load_model

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(runs_dir))
    image = (manifest.parent / "images/000.png").read_bytes()
    table = pd.DataFrame({"image": [image, image], "text": ["a red disc", "a blue cross"]})
    answers = load_model("models:/shapes@champion").predict(table)
    pairs = [{"image": image, "text": text} for text in table["text"]]
    assert answers["prediction"].tolist() == pytest.approx(
        maquette.load(run.bundle).predict(pairs).values, abs=1e-5
    )

    client = MlflowClient(tracking_uri(runs_dir))
    version = client.get_model_version_by_alias("shapes", "champion")
    assert version.tags["domain"] == "general"
    assert version.tags["loss"] == "infonce"
    mirrored = client.get_run(version.run_id)
    assert mirrored.data.metrics["system/peak_memory_mib"] > 0
    assert "valid/temperature" in mirrored.data.metrics
    names = {file.path for file in client.list_artifacts(version.run_id, "figures")}
    assert "figures/recall.svg" in names

    folders = colour_folders(tmp_path / "colours", 18)
    train(shape_recipe(runs_dir, folders, name="colours", **quick))
    classified = load_model("models:/colours@champion").predict(pd.DataFrame({"image": [image]}))
    assert classified["prediction"][0] in ("red", "green", "blue")
    assert classified.filter(like="probability_").sum(axis=1)[0] == pytest.approx(1, abs=1e-4)
