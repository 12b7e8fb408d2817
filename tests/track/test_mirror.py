"""A run folder in MLflow: everything arrives, and arrives once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from maquette.errors import TrackingError
from maquette.track.mirror import mirror_run
from maquette.track.store import connect


@pytest.fixture
def folder(runs_dir: Path) -> Path:
    folder = runs_dir / "20260101T120000-iris-a1b2c3"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("name: iris\n")
    return folder


def mirror(folder: Path, **changes: Any) -> str:
    arguments: dict[str, Any] = {
        "experiment": "flowers",
        "run_name": "iris",
        "params": {"training.epochs": 2, "data.tabular.path": "iris.csv"},
        "history": [
            {"epoch": 1, "train/loss": 1.5, "valid/loss": None},
            {"epoch": 2, "train/loss": 0.5, "valid/loss": 0.75},
        ],
        "metrics": {"test/accuracy": 0.95, "valid/loss": 0.7},
        "tags": {"task": "tabular"},
        "artifacts": [folder / "recipe.yaml"],
    }
    return mirror_run(folder, **(arguments | changes))


def points(folder: Path, run_id: str, key: str) -> list[tuple[int, float]]:
    with connect(folder.parent) as client:
        return [(m.step, m.value) for m in client.get_metric_history(run_id, key)]


def test_everything_arrives(folder: Path):
    run_id = mirror(folder)
    with connect(folder.parent) as client:
        run = client.get_run(run_id)
        artifacts = [file.path for file in client.list_artifacts(run_id)]
        experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.name == "flowers"
    assert run.info.run_name == "iris"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"training.epochs": "2", "data.tabular.path": "iris.csv"}
    assert run.data.tags["task"] == "tabular"
    assert artifacts == ["recipe.yaml"]
    assert points(folder, run_id, "train/loss") == [(1, 1.5), (2, 0.5)]
    assert points(folder, run_id, "valid/loss") == [(2, 0.75)]
    assert points(folder, run_id, "test/accuracy") == [(2, 0.95)]


def test_a_final_value_never_hides_in_its_own_curve(folder: Path):
    run_id = mirror(folder)
    assert points(folder, run_id, "final/valid/loss") == [(2, 0.7)]


def test_artifacts_lie_beside_the_store(folder: Path):
    run_id = mirror(folder)
    stored = folder.parent / "mlartifacts" / run_id / "artifacts" / "recipe.yaml"
    assert stored.read_text() == "name: iris\n"


def test_sent_again_the_same_run_is_updated(folder: Path):
    first = mirror(folder)
    longer = [{"epoch": epoch, "train/loss": 1 / epoch} for epoch in (1, 2, 3)]
    mirror(folder, history=longer[:2])
    again = mirror(folder, history=longer, tags={"task": "tabular", "note": "longer"})
    assert again == first
    assert json.loads((folder / "tracking.json").read_text()) == {
        f"sqlite:///{folder.parent}/mlflow.db": first
    }
    assert points(folder, first, "train/loss")[-1] == (3, 1 / 3)
    with connect(folder.parent) as client:
        assert len(client.search_runs([client.get_run(first).info.experiment_id])) == 1
        assert client.get_run(first).data.tags["note"] == "longer"


def test_equal_history_is_stored_once(folder: Path):
    run_id = mirror(folder)
    mirror(folder)
    assert points(folder, run_id, "train/loss") == [(1, 1.5), (2, 0.5)]
    assert points(folder, run_id, "test/accuracy") == [(2, 0.95)]


def test_a_run_deleted_in_mlflow_is_sent_anew(folder: Path):
    first = mirror(folder)
    with connect(folder.parent) as client:
        client.delete_run(first)
    assert mirror(folder) != first


def test_a_folder_mirrored_elsewhere_is_sent_here_too(folder: Path):
    (folder / "tracking.json").write_text(json.dumps({"https://elsewhere.example": "abc"}))
    run_id = mirror(folder)
    assert sorted(json.loads((folder / "tracking.json").read_text()).values()) == sorted(
        [run_id, "abc"]
    )


def test_a_record_of_a_run_the_store_never_had(folder: Path):
    record = {f"sqlite:///{folder.parent}/mlflow.db": "0" * 32}
    (folder / "tracking.json").write_text(json.dumps(record))
    assert mirror(folder) != "0" * 32


def test_numbers_that_are_not_finite_are_left_out(folder: Path):
    history = [{"epoch": 1, "train/loss": math.nan}]
    run_id = mirror(folder, history=history, metrics={"test/r2": math.inf, "test/rmse": 1.0})
    with connect(folder.parent) as client:
        assert client.get_run(run_id).data.metrics == {"test/rmse": 1.0}


def test_names_that_mlflow_refuses_are_made_plain(folder: Path):
    run_id = mirror(folder, metrics={"test/f1 <=50K": 0.5}, params={"a:b": "x" * 10_000})
    with connect(folder.parent) as client:
        data = client.get_run(run_id).data
    assert data.metrics["test/f1 __50K"] == 0.5
    assert len(data.params["a_b"]) == 6000


def test_a_deleted_experiment_says_how_to_go_on(folder: Path):
    run_id = mirror(folder)
    with connect(folder.parent) as client:
        identifier = client.get_run(run_id).info.experiment_id
        client.delete_experiment(identifier)
    with pytest.raises(TrackingError) as error:
        mirror(folder)
    assert str(error.value) == (
        "The experiment 'flowers' was deleted. Bring it back with `mlflow experiments restore "
        f"--experiment-id {identifier}`, or name another with tracking.experiment."
    )


def test_a_changed_param_is_refused_by_name(folder: Path):
    mirror(folder)
    with pytest.raises(TrackingError, match=r"Changing param values is not allowed.*training\.ep"):
        mirror(folder, params={"training.epochs": 3})


def test_a_thousand_epochs_arrive_in_batches(folder: Path):
    names = [f"valid/metric_{index}" for index in range(8)]
    history = [{"epoch": epoch, **dict.fromkeys(names, 0.5)} for epoch in range(1, 1001)]
    run_id = mirror(folder, history=history)
    assert len(points(folder, run_id, names[-1])) == 1000
