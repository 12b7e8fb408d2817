"""Mirror a finished run to MLflow and register its bundle: run folder -> plain data -> `track/`."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import Any

from maquette.recipe import Recipe
from maquette.runs import RunFolder
from maquette.track.mirror import mirror_run, plain_key
from maquette.track.registry import register


def mirror_and_register(folder: RunFolder, *, name: str | None, register_model: bool) -> str:
    """Send the run to the tracking store and, if asked, make its bundle a version of its model.

    Args:
        name: the registered name; by default the recipe's.
    Returns:
        One line that says what was made.
    Raises:
        TrackingError: the store cannot be used; the run folder is as it was.
    """
    recipe, summary = folder.recipe(), folder.summary()
    tags = {"task": summary["task"], "model": summary["model"], **_tags(summary)}
    figures = folder.path / "figures"
    run_id = mirror_run(
        folder.path,
        experiment=recipe.tracking.experiment,
        run_name=folder.path.name,
        params=dict(_flatten(recipe)),
        history=_history(folder),
        metrics={**summary["metrics"], **_system(summary)},
        tags=tags,
        artifacts=[
            folder.recipe_file,
            folder.report_file,
            folder.summary_file,
            *([figures] if figures.is_dir() else []),
        ],
    )
    if not register_model:
        return f"tracked as MLflow run {run_id}"
    version = register(
        folder.bundle,
        name=name or recipe.name,
        run_id=run_id,
        metrics=summary["metrics"],
        tags={"run": folder.path.name, **tags},
        runs_dir=folder.path.parent,
    )
    return f"registered as {version}"


def _tags(summary: Mapping[str, Any]) -> dict[str, str]:
    """What the run says of itself: domain, base model, loss, dataset_sha256, …; may be absent."""
    return {plain_key(name): str(value) for name, value in summary.get("tags", {}).items()}


def _system(summary: Mapping[str, Any]) -> dict[str, float]:
    """What the run took: memory, samples per second, …; may be absent."""
    return {f"system/{name}": float(v) for name, v in summary.get("system", {}).items()}


def _flatten(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Yield the recipe as ("training.epochs", 50) pairs."""

    def walk(values: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for key, value in values.items():
            if isinstance(value, dict):
                yield from walk(value, f"{path}{key}.")
            else:
                yield f"{path}{key}", value

    return walk(recipe.model_dump(mode="json", by_alias=True, exclude_none=True), "")


def _history(folder: RunFolder) -> Iterator[dict[str, float | None]]:
    """Yield the rows of metrics.csv; a metric an epoch does not have is None."""
    with folder.metrics_file.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: float(value) if value else None for name, value in row.items()}
