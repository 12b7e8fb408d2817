"""Callbacks: they watch a training and cannot change its numbers.

`Callback` is the protocol, `View` what one sees. Built in, in the order they are told:
`EarlyStopping`, `BestWeights` and `ModelCheckpoint`, `MetricsLogger`, and `progress.Progress`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from maquette.errors import RunError, UsageError, one_of
from maquette.files import write_text
from maquette.runs import RunFolder
from maquette.training.checkpoint import CheckpointFolder, Snapshot

Row = Mapping[str, float]
"""One finished epoch: a row of metrics.csv."""

LOWER_IS_BETTER = {"loss", "log_loss", "brier", "ece", "rmse", "mae"} | {
    "image_to_text_median_rank",
    "text_to_image_median_rank",
}
"""Every other metric is better when higher."""

SAVE_INTERVAL = 2.0
"""Seconds of training between checkpoints of short epochs: flushing a file to disk takes longer
than an epoch of a small table, and a lost epoch is made again in the time it took."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Where a training stands."""

    epoch: int
    """The epoch under way, or just finished; from 1."""
    epochs: int
    step: int
    """Optimiser steps taken."""
    total_steps: int
    seconds: float
    """Time spent on this run, whatever was spent before a resume included."""
    samples_per_second: float
    """Of this epoch so far, validation not included."""
    learning_rate: float
    """Of the last step."""
    train_loss: float
    """Mean over this epoch so far."""
    history: Sequence[Row]
    """Finished epochs."""


class Callback(Protocol):
    """Something that is told how a training goes."""

    def on_step(self, view: View) -> None:
        """Called every `training.log_every` optimiser steps."""
        ...

    def on_epoch_end(self, view: View) -> None:
        """Called after an epoch and its validation; `view.history[-1]` is its row."""
        ...

    def on_end(self, view: View) -> None:
        """Called once, after the last epoch, unless the training failed or was interrupted."""
        ...


def is_better(metric: str, value: float, than: float | None, *, min_delta: float = 0.0) -> bool:
    """Return whether `value` beats `than` by more than `min_delta`; NaN never does.

    Args:
        metric: a name such as "valid/loss"; its last part says which direction is better.
        than: None when there is nothing to beat yet.
    """
    if math.isnan(value) or than is None:
        return not math.isnan(value)
    if metric.rpartition("/")[2] in LOWER_IS_BETTER:
        return value < than - min_delta
    return value > than + min_delta


def check_monitor(monitor: str, available: Sequence[str]) -> None:
    """Refuse a monitor that no epoch will have.

    Raises:
        UsageError: lists what can be monitored.
    """
    if monitor not in available:
        raise UsageError(one_of("training.early_stopping.monitor", monitor, available))


class EarlyStopping:
    """Asks to stop once `monitor` has not improved for `patience` epochs."""

    def __init__(self, *, monitor: str, patience: int, min_delta: float = 0.0) -> None:
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.best: float | None = None
        self.epochs_without = 0

    @property
    def stop(self) -> bool:
        """Whether the training should end."""
        return self.epochs_without >= self.patience

    def update(self, row: Row) -> None:
        """Take in a finished epoch; a resumed run takes in all rows of its history."""
        value = row[self.monitor]
        if is_better(self.monitor, value, self.best, min_delta=self.min_delta):
            self.best = value
            self.epochs_without = 0
        else:
            self.epochs_without += 1

    def on_step(self, view: View) -> None:
        """Nothing to do within an epoch."""

    def on_epoch_end(self, view: View) -> None:
        self.update(view.history[-1])

    def on_end(self, view: View) -> None:
        """Nothing to do."""


class ModelCheckpoint:
    """Keeps the weights of the best epoch, and writes checkpoints after epochs."""

    def __init__(
        self,
        *,
        folder: CheckpointFolder | None,
        monitor: str | None,
        snapshot: Callable[[], Snapshot],
        weights: Callable[[], Mapping[str, Tensor]],
    ) -> None:
        """Start with nothing kept.

        Args:
            folder: where checkpoints go; None writes none.
            monitor: what "best" means; None keeps no best weights.
            snapshot: returns the whole state of the run.
            weights: returns the weights this epoch was validated with.
        """
        self.folder = folder
        self.monitor = monitor
        self.best: Snapshot | None = None
        self._snapshot = snapshot
        self._weights = weights
        self._saved_at = time.monotonic()

    def save(self) -> None:
        """Write a checkpoint now."""
        if self.folder is not None:
            self.folder.save(self._snapshot(), self.best)
            self._saved_at = time.monotonic()

    def on_step(self, view: View) -> None:
        """Nothing to do within an epoch; the loop calls `save` every `checkpoint.every_steps`."""

    def on_epoch_end(self, view: View) -> None:
        self._keep_if_best(view.history[-1])
        if time.monotonic() - self._saved_at >= SAVE_INTERVAL:
            self.save()

    def on_end(self, view: View) -> None:
        del view
        self.save()

    def _keep_if_best(self, row: Row) -> None:
        if self.monitor is None:
            return
        so_far = None if self.best is None else self.best.state["value"]
        if is_better(self.monitor, row[self.monitor], so_far):
            weights = {name: t.detach().cpu().clone() for name, t in self._weights().items()}
            state = {"epoch": int(row["epoch"]), "value": row[self.monitor]}
            self.best = Snapshot(state | {"monitor": self.monitor}, weights)

    def load_best(self, model: nn.Module) -> None:
        """Give `model` the best weights, if any were kept."""
        if self.best is not None:
            model.load_state_dict(dict(self.best.tensors))


class MetricsLogger:
    """Writes metrics.csv, one row per epoch, and an event per epoch to log.jsonl."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def rewind(self, history: Sequence[Row]) -> None:
        """Make both files hold exactly `history`: what the run goes on from, nothing after it."""
        if history:
            lines = [_csv_line(history[0].keys()), *(_csv_line(row.values()) for row in history)]
            write_text(self.folder.metrics_file, "".join(lines))
        else:
            self.folder.metrics_file.unlink(missing_ok=True)
        if self.folder.log_file.is_file():
            lines = self.folder.log_file.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if not _is_later(line, len(history))]
            if kept != lines:
                write_text(self.folder.log_file, "".join(kept))

    def on_step(self, view: View) -> None:
        """Nothing to do within an epoch."""

    def on_epoch_end(self, view: View) -> None:
        row = view.history[-1]
        line = _csv_line(row.values())
        if len(view.history) == 1:
            line = _csv_line(row.keys()) + line
        try:
            with self.folder.metrics_file.open("a", encoding="utf-8", newline="") as file:
                file.write(line)
        except OSError as error:
            raise RunError(
                f"Could not write {self.folder.metrics_file}: {error.strerror}. "
                f"Free some space, then `maquette train --resume {self.folder.path}` goes on."
            ) from error
        self.folder.log("epoch", **{k: _json_number(v) for k, v in row.items()})

    def on_end(self, view: View) -> None:
        self.folder.log("training ended", epochs=view.epoch, seconds=round(view.seconds, 3))


def _csv_line(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _json_number(value: float) -> float | None:
    """JSON has no NaN and no infinity; null says that there is no number."""
    return value if math.isfinite(value) else None


def _is_later(line: str, epochs: int) -> bool:
    """Whether a line of log.jsonl tells of what the run will do again, or is cut short."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return True
    later_epoch = entry["event"] == "epoch" and entry["epoch"] > epochs
    return bool(later_epoch or entry["event"] == "training ended")
