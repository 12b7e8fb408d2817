"""What a training leaves behind besides the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from maquette.recipe.schema import Training
from maquette.training.callbacks import Row, is_better
from maquette.training.state import State


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What came of a training; the weights are in the model."""

    epochs_run: int
    """Finished epochs, those before a resume included."""
    best_epoch: int
    """The epoch that was best by `monitor`, from 1; the one shipped where `save_best` is on."""
    best_value: float
    """NaN if `monitor` never had a value; the best epoch is the last one then."""
    monitor: str
    seconds: float
    """Spent in `fit`, before a resume included."""
    samples_per_second: float
    """Training samples, all epochs together, validation not included."""
    history: Sequence[Row]
    """The rows of metrics.csv."""
    stopped_early: bool


def result_of(state: State, training: Training, *, seconds: float) -> FitResult:
    """Summarise a training that has ended."""
    monitor = training.early_stopping.monitor
    best_epoch, best_value = state.epoch, None
    for row in state.history:
        value = row.get(monitor, math.nan)
        if is_better(monitor, value, best_value):
            best_epoch, best_value = int(row["epoch"]), value
    return FitResult(
        epochs_run=state.epoch,
        best_epoch=best_epoch,
        best_value=math.nan if best_value is None else best_value,
        monitor=monitor,
        seconds=seconds,
        samples_per_second=state.train_samples / max(state.train_seconds, 1e-9),
        history=tuple(state.history),
        stopped_early=state.epoch < training.epochs,
    )
