"""A search in MLflow: a parent run with one child per trial, each sent once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maquette.errors import TrackingError
from maquette.track.search import PARENT, TrialRun, mirror_search
from maquette.track.store import connect

TRIALS = [
    TrialRun(
        name="trial-0000",
        state="complete",
        params={"training.learning_rate": 0.01},
        history=[{"epoch": 1, "valid/loss": 0.9}, {"epoch": 2, "valid/loss": 0.7}],
        metrics={"valid/loss": 0.7, "test/loss": 0.8},
        tags={},
    ),
    TrialRun(
        name="trial-0001",
        state="pruned",
        params={"training.learning_rate": 0.1},
        history=[{"epoch": 1, "valid/loss": 1.9}],
        metrics={},
        tags={},
    ),
    TrialRun(
        name="trial-0002",
        state="failed",
        params={"training.learning_rate": 9.0},
        history=[],
        metrics={},
        tags={"reason": "the loss is not finite"},
    ),
]


def send(runs_dir: Path, trials: list[TrialRun], **changes: Any) -> str:
    folder = runs_dir / "tuning" / "iris"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "best.yaml").write_text("name: iris\n")
    arguments: dict[str, Any] = {
        "runs_dir": runs_dir,
        "experiment": "flowers",
        "name": "tune iris",
        "metrics": {"best/valid/loss": 0.7},
        "tags": {"best_trial": "0"},
        "artifacts": [folder / "best.yaml"],
        "trials": trials,
    }
    return mirror_search(folder, **(arguments | changes))


def test_a_parent_with_children_sent_once(runs_dir: Path):
    parent = send(runs_dir, TRIALS[:2])
    assert send(runs_dir, TRIALS, metrics={"best/valid/loss": 0.6}) == parent
    with connect(runs_dir) as client:
        run = client.get_run(parent)
        runs = client.search_runs([run.info.experiment_id])
        children = {r.info.run_name: r for r in runs if r.data.tags.get(PARENT) == parent}
        curve = client.get_metric_history(children["trial-0000"].info.run_id, "valid/loss")
        artifacts = [file.path for file in client.list_artifacts(parent)]
    assert len(runs) == 4
    assert run.info.run_name == "tune iris"
    assert run.data.metrics["best/valid/loss"] == 0.6
    assert run.data.tags["best_trial"] == "0"
    assert artifacts == ["best.yaml"]
    assert {name: child.info.status for name, child in children.items()} == {
        "trial-0000": "FINISHED",
        "trial-0001": "KILLED",
        "trial-0002": "FAILED",
    }
    assert [(point.step, point.value) for point in curve] == [(1, 0.9), (2, 0.7)]
    assert children["trial-0000"].data.metrics["test/loss"] == 0.8
    assert children["trial-0001"].data.params == {"training.learning_rate": "0.1"}
    assert children["trial-0002"].data.tags["reason"] == "the loss is not finite"
    record = json.loads((runs_dir / "tuning/iris/tracking.json").read_text(encoding="utf-8"))
    assert [set(known) for known in record.values()] == [{"search", *children}]


def test_a_store_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="cannot be used"):
        send(tmp_path, TRIALS)
    assert not (tmp_path / "tuning/iris/tracking.json").exists()
