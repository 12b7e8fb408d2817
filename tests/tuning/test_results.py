"""What a search leaves: notes worth knowing, the tracking store, trials that went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from tuning_cases import SPACE

from maquette.track.store import connect
from maquette.tuning.results import Tuned, conclude
from maquette.tuning.study import Study

SEARCHED = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "training.batch_size": {"low": 8, "high": 64},
    "training.optimizer": ["adamw", "sgd"],
}
FIRST = {"training.learning_rate": 1e-4, "training.batch_size": 30, "training.optimizer": "sgd"}


@pytest.fixture
def study(open_here) -> Study:
    """One trial that ran to its end, one pruned, one failed, one under way."""
    study = open_here()
    done = study.claim(limit=9, seed=0, first=FIRST)
    done.report(0.5, epoch=1)
    done.complete(0.4)
    pruned = study.claim(limit=9, seed=0)
    pruned.report(0.9, epoch=1)
    pruned.prune()
    study.claim(limit=9, seed=0).fail("<b>out of memory</b>\nbad luck")
    study.claim(limit=9, seed=0)
    return study


def finish(make, study: Study, folder: Path, **changes: object) -> Tuned:
    return conclude(
        make(SEARCHED, **({"runs_dir": str(folder)} | changes)),
        space=SPACE,
        study=study,
        monitor="valid/loss",
        folder=folder / "iris",
        output=folder / "best.yaml",
    )


def test_a_page_of_trials_that_went_all_ways(make, study: Study, tmp_path: Path):
    tuned = finish(make, study, tmp_path, tracking={"enabled": False})
    page = tuned.report.read_text(encoding="utf-8")
    for words in ("stopped early", "under way", "failed: &lt;b&gt;out of memory&lt;/b&gt;"):
        assert words in page
    assert "1 trials failed; the last said" in page
    assert "The best training.learning_rate lies at the edge of its range." in page
    assert "The best training.batch_size lies at the edge" not in page
    assert "lie outside the space" not in page
    assert "<b>out of memory" not in page
    assert tuned.lines()[0] == "4 trials: 1 ran to their end, 1 were stopped early, 1 failed"


def test_a_recipe_outside_its_space_is_told(make, study: Study, tmp_path: Path):
    tuned = finish(
        make, study, tmp_path, tracking={"enabled": False}, training={"learning_rate": 0.5}
    )
    page = tuned.report.read_text(encoding="utf-8")
    assert "The recipe&#39;s own values lie outside the space" in page.replace("&#x27;", "&#39;")


def test_a_store_that_is_down_costs_nothing(make, study: Study, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    tuned = finish(make, study, tmp_path)
    assert tuned.tracked.startswith("not tracked: The tracking store http://127.0.0.1:9 cannot")
    assert tuned.recipe.is_file()


def test_the_search_is_an_mlflow_run_with_children(make, study: Study, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "iris" / "trial-0000" / "20260101T120000-iris-a1b2c3"
    run.mkdir(parents=True)
    (run / "summary.json").write_text('{"metrics": {"valid/loss": 0.4, "test/loss": 0.6}}')
    (run / "metrics.csv").write_text("epoch,train/loss,valid/loss\n1,0.8,0.5\n2,0.7,\n")
    tuned = finish(make, study, tmp_path)
    parent = tuned.tracked.split()[4].rstrip(",")
    assert tuned.tracked == f"tracked as MLflow run {parent}, with one child for each trial"
    with connect(tmp_path) as client:
        top = client.get_run(parent)
        names = {
            one.info.run_name: one
            for one in client.search_runs([top.info.experiment_id])
            if one.data.tags.get("mlflow.parentRunId") == parent
        }
    assert set(names) == {"trial-0000", "trial-0001", "trial-0002"}
    assert top.data.tags["best/training.optimizer"] == "sgd"
    assert top.data.metrics["best/valid/loss"] == 0.4
    assert names["trial-0000"].data.metrics["test/loss"] == 0.6
    assert names["trial-0000"].data.metrics["train/loss"] == 0.7
    assert names["trial-0001"].data.metrics["valid/loss"] == 0.9
    assert names["trial-0002"].data.params["training.batch_size"]
