"""What the finished network is worth: metrics with intervals, baselines, and the run's summary.

`measure` does the work; `summarise` turns it into the JSON that summary.json holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from maquette.device import Device
from maquette.evaluation.baselines import Baseline, indices_of, score_baselines
from maquette.evaluation.bootstrap import Interval, classification_intervals, regression_intervals
from maquette.recipe import Recipe
from maquette.tasks.base import Json, Predictions, Source, Splits, Task
from maquette.track.text import table
from maquette.training.loop import FitResult
from maquette.training.scoring import score

HEADLINES = tuple(
    f"test/{metric}"
    for metric in ("accuracy", "f1_macro", "roc_auc", "log_loss", "ece", "rmse", "mae", "r2")
)
"""What the command line prints; the report and summary.json hold every metric."""


class Measured(Protocol):
    """What summary.json takes from any outcome."""

    @property
    def metrics(self) -> dict[str, float]: ...

    @property
    def intervals(self) -> dict[str, Interval]: ...

    @property
    def baselines(self) -> Sequence[Baseline]: ...

    @property
    def num_parameters(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The measured network; `test/` is the split nothing was chosen by."""

    metrics: dict[str, float]
    """valid/… and test/… of every metric."""
    intervals: dict[str, Interval]
    """test/… bootstrap intervals."""
    baselines: Sequence[Baseline]
    """Simpler models on the same splits."""
    targets: NDArray[Any]
    """(n,) test targets in the user's labels or unit."""
    predictions: Predictions
    """Of the n test samples."""
    num_parameters: int


def measure(
    task: Task[Any],
    preprocessor: Any,
    model: nn.Module,
    splits: Splits[Any],
    *,
    valid: Source,
    device: Device,
    finished: Json | None = None,
) -> Outcome:
    """Score the network on the validation and test splits, with intervals and baselines.

    The validation metrics are not copied from the epochs: these are the weights that are shipped.

    Args:
        valid: the validation split as training prepared it.
        finished: facts of a last step after training; tasks with targets have none.
    """
    del finished
    metrics: dict[str, float] = {}
    test = task.prepare(splits.test, preprocessor, augment=False)
    for name, source in (("valid", valid), ("test", test)):
        scores = score(task, preprocessor, model, source, device=device)
        metrics |= {f"{name}/{metric}": value for metric, value in scores.metrics.items()}
    predictions = task.decode(scores.outputs, preprocessor)
    targets = task.target_values(splits.test)
    return Outcome(
        metrics=metrics,
        intervals=_intervals(task.recipe, targets, predictions),
        baselines=_baselines(task, splits, predictions.classes),
        targets=targets,
        predictions=predictions,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def reference_inputs(task: Task[Any], splits: Splits[Any], count: int) -> list[Any]:
    """Return up to `count` raw inputs, test samples first: the probes of a bundle."""
    probes: list[Any] = []
    for samples in (splits.test, splits.valid, splits.train):
        wanted = min(count - len(probes), len(samples))
        rows = np.linspace(0, len(samples) - 1, num=wanted).astype(int)
        probes += task.raw_inputs(samples, rows.tolist()) if wanted else []
    return probes


def summarise(
    recipe: Recipe,
    *,
    fitted: FitResult,
    outcome: Measured,
    splits: Splits[Any],
    environment: dict[str, str],
    seconds: float,
) -> Json:
    """Return what summary.json holds: everything a later reader or a comparison needs."""
    return {
        "name": recipe.name,
        "task": recipe.model.type,
        "model": recipe.model.name,
        "seed": recipe.seed,
        "metrics": outcome.metrics,
        "intervals": {name: list(interval) for name, interval in outcome.intervals.items()},
        "confidence": recipe.evaluation.confidence,
        "baselines": {
            baseline.name: {f"test/{metric}": value for metric, value in baseline.metrics.items()}
            for baseline in outcome.baselines
        },
        "samples": {name: len(ids) for name, ids in splits.assignment.items()},
        "quarantined": len(splits.report.quarantined),
        "parameters": outcome.num_parameters,
        "epochs": fitted.epochs_run,
        "best_epoch": fitted.best_epoch,
        "monitor": fitted.monitor,
        "stopped_early": fitted.stopped_early,
        "samples_per_second": fitted.samples_per_second,
        "training_seconds": fitted.seconds,
        "seconds": seconds,
        "environment": environment,
    }


def metric_table(summary: Mapping[str, Any]) -> list[str]:
    """Return the headline metrics with intervals, beside the baselines', as aligned lines."""
    names = [name for name in HEADLINES if name in summary["metrics"]]
    rows = [["", "this model", f"{summary['confidence']:.0%} interval", *summary["baselines"]]]
    for name in names:
        low_high = summary["intervals"].get(name)
        interval = f"{low_high[0]:.4g} – {low_high[1]:.4g}" if low_high else ""
        others = [
            f"{metrics[name]:.4g}" if name in metrics else ""
            for metrics in summary["baselines"].values()
        ]
        rows.append([name, f"{summary['metrics'][name]:.4g}", interval, *others])
    return table(rows).splitlines()


def _intervals(
    recipe: Recipe, targets: NDArray[Any], predictions: Predictions
) -> dict[str, Interval]:
    settings = recipe.evaluation
    if settings.bootstrap == 0:
        return {}
    options: dict[str, Any] = {
        "resamples": settings.bootstrap,
        "confidence": settings.confidence,
        "seed": recipe.seed,
    }
    if predictions.probabilities is None:
        found = regression_intervals(targets, np.array(predictions.values), **options)
    else:
        labels = indices_of(targets, predictions.classes or ())
        found = classification_intervals(labels, predictions.probabilities, **options)
    return {f"test/{name}": interval for name, interval in found.items()}


def _baselines(
    task: Task[Any], splits: Splits[Any], classes: tuple[str, ...] | None
) -> list[Baseline]:
    if not task.recipe.evaluation.baselines:
        return []
    return score_baselines(
        task.baseline_features(splits.train),
        task.target_values(splits.train),
        task.baseline_features(splits.test),
        task.target_values(splits.test),
        classes,
    )
