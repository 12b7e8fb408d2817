"""From a finished run to its report: gathers what `evaluation/report.py` draws.

The report room knows nothing of tasks and runs; this file asks them for plain data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from maquette.evaluation.baselines import indices_of
from maquette.evaluation.report import write_report
from maquette.evaluation.report_data import (
    Mistake,
    Picture,
    ReportData,
    columns_of_profile,
    largest_errors,
    most_confident_mistakes,
)
from maquette.outcome import Outcome
from maquette.recipe import Recipe, dump_recipe
from maquette.runs import RunFolder
from maquette.tasks.base import Json, Splits, Task
from maquette.training.loop import FitResult

NUM_MISTAKES = 12
NUM_PICTURES = 12


def report_of(
    folder: RunFolder,
    *,
    task: Task[Any],
    splits: Splits[Any],
    profile: Json,
    fitted: FitResult,
    outcome: Outcome,
    summary: Json,
) -> None:
    """Write report.html of a run."""
    recipe, sizes, source = task.recipe, summary["samples"], _near(splits.report.source)
    classes = outcome.predictions.classes
    data = ReportData(
        title=recipe.name,
        subtitle=f"{recipe.model.name} on {source}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        targets=outcome.targets,
        predictions=outcome.predictions.values,
        probabilities=outcome.predictions.probabilities,
        classes=classes,
        target_name=recipe.data.tabular.target_column if recipe.data.tabular else "class",
        metrics=outcome.metrics,
        intervals=outcome.intervals,
        confidence=recipe.evaluation.confidence,
        baselines=outcome.baselines,
        history=fitted.history,
        best_epoch=fitted.best_epoch if recipe.training.checkpoint.save_best else None,
        monitor=fitted.monitor,
        mistakes=_mistakes(task, splits, outcome),
        source=source,
        split_sizes=sizes,
        class_counts=_class_counts(task, splits) if classes else None,
        columns=columns_of_profile(profile) if recipe.data.tabular else (),
        pictures=_pictures(task, splits) if recipe.data.image else (),
        warnings=splits.report.warnings,
        quarantined=splits.report.quarantined,
        model_facts=_model_facts(recipe, outcome),
        timings=_timings(summary),
        environment=summary["environment"],
        recipe_yaml=dump_recipe(recipe),
        commands=_commands(folder, recipe),
    )
    write_report(folder.report_file, data)


def _near(source: str) -> str:
    """A path as a reader of this folder would type it."""
    path, here = Path(source), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else source


def _mistakes(task: Task[Any], splits: Splits[Any], outcome: Outcome) -> list[Mistake]:
    """The most confident errors, or the largest ones, with their rows or pictures."""
    predictions = outcome.predictions
    if predictions.probabilities is None:
        worst = largest_errors(outcome.targets, np.array(predictions.values), NUM_MISTAKES)
    else:
        truth = indices_of(outcome.targets, predictions.classes or ())
        worst = most_confident_mistakes(
            truth, predictions.probabilities.astype(np.float64), NUM_MISTAKES
        )
    rows = worst.tolist()
    ids = splits.assignment["test"]
    mistakes = []
    for row, raw in zip(rows, task.raw_inputs(splits.test, rows), strict=True):
        confidence = predictions.probabilities
        mistakes.append(
            Mistake(
                sample_id=ids[row],
                truth=outcome.targets[row],
                prediction=predictions.values[row],
                confidence=None if confidence is None else float(confidence[row].max()),
                picture_png=raw if isinstance(raw, bytes) else None,
                row=raw if isinstance(raw, Mapping) else None,
            )
        )
    return mistakes


def _class_counts(task: Task[Any], splits: Splits[Any]) -> dict[str, dict[str, int]]:
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    return {
        name: dict(Counter(str(label) for label in task.target_values(samples)))
        for name, samples in parts.items()
    }


def _pictures(task: Task[Any], splits: Splits[Any]) -> list[Picture]:
    """Training images, the classes in turn."""
    labels = [str(label) for label in task.target_values(splits.train)]
    seen: Counter[str] = Counter()
    turns = []
    for row, label in enumerate(labels):
        turns.append((seen[label], label, row))
        seen[label] += 1
    chosen = [row for _, _, row in sorted(turns)[:NUM_PICTURES]]
    images = task.raw_inputs(splits.train, chosen)
    return [
        Picture(caption=labels[row], picture_png=png)
        for row, png in zip(chosen, images, strict=True)
    ]


def _model_facts(recipe: Recipe, outcome: Outcome) -> dict[str, str]:
    training = recipe.training
    return {
        "network": recipe.model.name,
        "parameters": f"{outcome.num_parameters:,}",
        "optimizer": f"{training.optimizer}, learning rate {training.learning_rate:g}",
        "batch": f"{training.batch_size} × {training.accumulate}",
        "seed": str(recipe.seed),
    }


def _timings(summary: Json) -> dict[str, str]:
    return {
        "epochs": f"{summary['epochs']}, best {summary['best_epoch']}",
        "training": f"{summary['training_seconds']:.1f} s",
        "samples per second": f"{summary['samples_per_second']:,.0f}",
        "whole run": f"{summary['seconds']:.1f} s",
    }


def _commands(folder: RunFolder, recipe: Recipe) -> dict[str, str]:
    given, made = (
        ("NEW.csv", "answers.csv") if recipe.data.tabular else ("IMAGES/", "answers.jsonl")
    )
    return {
        "Predict a file": f"maquette predict {folder.path} {given} --output {made}",
        "Serve it": f"maquette serve {folder.path}",
        "Repeat the run": f"maquette train {folder.recipe_file}",
    }
