"""When to stop, what to keep, what is written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import tiny_recipe

from maquette.errors import RunError, UsageError
from maquette.runs import RunFolder
from maquette.training.callbacks import (
    EarlyStopping,
    MetricsLogger,
    ModelCheckpoint,
    View,
    check_monitor,
    is_better,
)
from maquette.training.checkpoint import CheckpointFolder, Snapshot


def view(*history: dict[str, float]) -> View:
    return View(
        epoch=len(history),
        epochs=10,
        step=len(history),
        total_steps=10,
        seconds=1.5,
        samples_per_second=100.0,
        learning_rate=0.1,
        train_loss=0.5,
        history=history,
    )


def losses(*values: float) -> list[dict[str, float]]:
    return [{"epoch": i, "valid/loss": value} for i, value in enumerate(values, start=1)]


@pytest.mark.parametrize("metric", ["loss", "log_loss", "brier", "ece", "rmse", "mae"])
def test_lower_is_better_for_errors(metric: str) -> None:
    assert is_better(f"valid/{metric}", 0.1, 0.2)
    assert not is_better(f"valid/{metric}", 0.2, 0.1)


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "roc_auc", "r2", "recall_micro"])
def test_higher_is_better_for_scores(metric: str) -> None:
    assert is_better(f"valid/{metric}", 0.2, 0.1)
    assert not is_better(f"valid/{metric}", 0.1, 0.2)


def test_ties_nan_and_small_changes_are_not_better() -> None:
    assert is_better("valid/loss", 0.3, None)
    assert not is_better("valid/loss", 0.3, 0.3)
    assert not is_better("valid/loss", float("nan"), None)
    assert not is_better("valid/loss", float("nan"), 0.3)
    assert not is_better("valid/loss", 0.25, 0.3, min_delta=0.1)
    assert is_better("valid/accuracy", 0.45, 0.3, min_delta=0.1)


def test_early_stopping_counts_epochs_without_improvement() -> None:
    stopping = EarlyStopping(monitor="valid/loss", patience=2)
    stops = []
    for row in losses(3, 2, 2.5, 1.9, 1.9, 2):
        stopping.on_epoch_end(view(row))
        stops.append(stopping.stop)
    assert stops == [False, False, False, False, False, True]


def test_min_delta_is_measured_from_the_best_so_far() -> None:
    stopping = EarlyStopping(monitor="valid/loss", patience=3, min_delta=0.5)
    for row in losses(3.0, 2.8, 2.6, 2.4):  # 0.2 at a time; 2.4 is 0.6 below the best that counted
        stopping.update(row)
    assert stopping.best == 2.4


def test_an_unknown_monitor_lists_what_there_is() -> None:
    with pytest.raises(
        UsageError,
        match=r"Unknown training\.early_stopping\.monitor 'valid/acuracy'\. "
        r"Did you mean 'valid/accuracy'\? Available: train/loss, valid/accuracy, valid/loss\.",
    ):
        check_monitor("valid/acuracy", ["valid/loss", "valid/accuracy", "train/loss"])


def make_checkpoint(folder: CheckpointFolder | None, weights: list[float]) -> ModelCheckpoint:
    remaining = iter(weights)
    return ModelCheckpoint(
        folder=folder,
        monitor="valid/loss",
        snapshot=lambda: Snapshot({"step": 1}, {}),
        weights=lambda: {"weight": torch.full((1, 1), next(remaining))},
    )


def test_the_best_epoch_is_kept_and_given_back() -> None:
    keeper = make_checkpoint(None, [10, 20])
    for row in losses(3, 2, 2.5):
        keeper.on_epoch_end(view(row))
    model = torch.nn.Linear(1, 1, bias=False)

    keeper.load_best(model)

    assert model.weight.item() == 20
    assert keeper.best is not None
    assert keeper.best.state == {"epoch": 2, "value": 2, "monitor": "valid/loss"}


def test_short_epochs_do_not_wait_for_the_disk_but_the_end_does(tmp_path: Path) -> None:
    keeper = make_checkpoint(CheckpointFolder(tmp_path), [1, 2, 3])
    keeper.on_epoch_end(view(*losses(3)))
    assert list(tmp_path.iterdir()) == []

    keeper._saved_at -= 10  # ten seconds later
    keeper.on_epoch_end(view(*losses(2)))
    assert len(list(tmp_path.glob("step-*"))) == 1

    (tmp_path / "step-000000001.safetensors").unlink()
    keeper.on_end(view(*losses(2)))
    assert len(list(tmp_path.glob("step-*"))) == 1


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    make_checkpoint(None, [1]).save()
    assert list(tmp_path.iterdir()) == []


def run_folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tiny_recipe(tmp_path))


def test_metrics_are_one_row_per_epoch_under_one_header(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    logger = MetricsLogger(folder)
    rows = losses(3, 2.125)
    logger.on_epoch_end(view(rows[0]))
    logger.on_epoch_end(view(*rows))
    assert folder.metrics_file.read_text() == "epoch,valid/loss\n1,3\n2,2.125\n"


def test_events_are_json_and_nan_is_null(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    MetricsLogger(folder).on_epoch_end(view({"epoch": 1, "valid/roc_auc": float("nan")}))
    MetricsLogger(folder).on_end(view(*losses(1)))
    first, last = [json.loads(line) for line in folder.log_file.read_text().splitlines()]
    assert first["event"] == "epoch"
    assert first["valid/roc_auc"] is None
    assert (last["event"], last["epochs"]) == ("training ended", 1)


def test_rewinding_drops_what_the_run_will_do_again(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    logger = MetricsLogger(folder)
    folder.log("run started", recipe="tiny")
    rows = losses(3, 2, 1)
    for count in (1, 2, 3):
        logger.on_epoch_end(view(*rows[:count]))
    with folder.metrics_file.open("a") as file:
        file.write("4,0.")  # cut short by a kill
    with folder.log_file.open("a") as file:
        file.write('{"event": "epo')

    logger.rewind(rows[:2])

    assert folder.metrics_file.read_text() == "epoch,valid/loss\n1,3\n2,2\n"
    events = [json.loads(line) for line in folder.log_file.read_text().splitlines()]
    assert [event.get("epoch") for event in events] == [None, 1, 2]
    logger.rewind([])
    assert not folder.metrics_file.exists()


def test_a_metrics_file_that_cannot_be_written_says_how_to_go_on(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.metrics_file.mkdir()
    with pytest.raises(RunError, match=r"Could not write .*metrics\.csv.*train --resume"):
        MetricsLogger(folder).on_epoch_end(view(*losses(1)))
