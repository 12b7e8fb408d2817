"""What a search leaves: the best recipe as a file, the page, the tracking store."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from maquette.errors import RunError, TrackingError
from maquette.files import write_text
from maquette.recipe import Recipe
from maquette.track.search import TrialRun, mirror_search
from maquette.training.callbacks import is_better
from maquette.tuning.page import write_search_page
from maquette.tuning.space import Space, Span, values_of, with_values
from maquette.tuning.study import Study, Trial
from maquette.tuning.trial import shown


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A search that has as many trials as asked for."""

    monitor: str
    trials: Sequence[Trial]
    best: Trial
    recipe: Path
    """The best recipe."""
    report: Path
    tracked: str
    """One line: the MLflow run, or why there is none."""

    def lines(self) -> list[str]:
        """What to see first: how the trials ended, the best values, where things are."""
        count = {
            state: sum(trial.state == state for trial in self.trials)
            for state in ("complete", "pruned", "failed")
        }
        values = [f"  {key}: {shown(value)}" for key, value in self.best.values.items()]
        return [
            f"{len(self.trials)} trials: {count['complete']} ran to their end, "
            f"{count['pruned']} were stopped early, {count['failed']} failed",
            f"best: trial {self.best.number}, {self.monitor} {self.best.value:.6g}",
            *values,
            f"report: {self.report}",
            self.tracked,
            f"train it: maquette train {self.recipe}",
        ]


def conclude(
    given: Recipe, *, space: Space, study: Study, monitor: str, folder: Path, output: Path
) -> Tuned:
    """Write the best recipe and the page, and mirror the search to the tracking store.

    Args:
        given: the recipe as the user gave it, so that the best one differs where it should.
    Raises:
        RunError: no trial ran to its end, or a file cannot be written.
    """
    trials, best = study.trials(), study.best()
    if best is None:
        reasons = [trial.reason for trial in trials if trial.reason]
        last = f" The last failure: {reasons[-1]}" if reasons else ""
        raise RunError(
            f"None of the {len(trials)} trials of the study in {study.file} ran to its end, so "
            f"there is no best recipe.{last}"
        )
    recipe_yaml = best_recipe(given, best, space, study=study, monitor=monitor, output=output)
    write_text(output, recipe_yaml)
    report = folder / "report.html"
    write_search_page(
        report,
        name=given.name,
        trials=trials,
        best=best,
        space=space,
        monitor=monitor,
        larger_is_better=is_better(monitor, 1.0, than=0.0),
        importance=study.importance(),
        recipe_yaml=recipe_yaml,
        commands={"Train the best recipe": f"maquette train {output}"},
        notes=_notes(given, trials, best, space),
    )
    return Tuned(
        monitor=monitor,
        trials=trials,
        best=best,
        recipe=output,
        report=report,
        tracked=_track(given, trials, best, monitor=monitor, folder=folder, files=[output, report]),
    )


def best_recipe(
    given: Recipe, best: Trial, space: Space, *, study: Study, monitor: str, output: Path
) -> str:
    """Return the given recipe with the values of the best trial, as YAML under its story."""
    assert given.tune is not None, "the search gives it one"
    recipe = with_values(given, dict(best.values), space)
    content = recipe.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    del content["tune"]
    epochs = recipe.training.epochs
    head = [
        f"maquette train {output}",
        f"The best of {len(study.trials())} trials of the study {given.name!r} in {study.file}:",
        f"trial {best.number}, {monitor} {best.value:.6g}, chosen on the validation split.",
        *(f"  {key}: {shown(value)}" for key, value in best.values.items()),
    ]
    if given.tune.share < 1:
        head.append(
            f"Its trials ran {max(1, round(epochs * given.tune.share))} epochs (tune.share "
            f"{given.tune.share:g}); this recipe runs {epochs}."
        )
    lines = "".join(f"# {line}\n" for line in head)
    return lines + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _notes(given: Recipe, trials: Sequence[Trial], best: Trial, space: Space) -> list[str]:
    """What a reader should know before trusting the winner."""
    notes = []
    if values_of(given, space) is None:
        notes.append("The recipe's own values lie outside the space, so they were not tried.")
    failed = [trial for trial in trials if trial.state == "failed"]
    if failed:
        notes.append(f"{len(failed)} trials failed; the last said: {failed[-1].reason}")
    for key, values in space.items():
        if isinstance(values, Span) and values.is_edge(best.values[key]):
            notes.append(f"The best {key} lies at the edge of its range.")
    return notes


def _track(
    given: Recipe,
    trials: Sequence[Trial],
    best: Trial,
    *,
    monitor: str,
    folder: Path,
    files: Sequence[Path],
) -> str:
    """Tracking only mirrors: when it cannot be reached the search still ends well, and says so."""
    if not given.tracking.enabled:
        return "not tracked, as the recipe says"
    try:
        run_id = mirror_search(
            folder,
            runs_dir=Path(given.runs_dir),
            experiment=given.tracking.experiment,
            name=f"tune {given.name}",
            metrics={
                f"best/{monitor}": best.value or 0.0,
                "trials": float(len(trials)),
                "pruned": float(sum(trial.state == "pruned" for trial in trials)),
            },
            tags={
                "task": given.model.type,
                "model": given.model.name,
                "monitor": monitor,
                "best_trial": str(best.number),
                **{f"best/{key}": str(value) for key, value in best.values.items()},
            },
            artifacts=files,
            trials=[
                _run_of(trial, monitor, folder) for trial in trials if trial.state != "running"
            ],
        )
    except TrackingError as error:
        return f"not tracked: {error}"
    return f"tracked as MLflow run {run_id}, with one child for each trial"


def _run_of(trial: Trial, monitor: str, folder: Path) -> TrialRun:
    """Gather what the tracking store shows of a trial; one that was stopped has its curve only."""
    found = sorted((folder / trial.name).glob("*/summary.json"))
    history: list[dict[str, float | None]] = [
        {"epoch": epoch, monitor: value} for epoch, value in trial.curve
    ]
    metrics: dict[str, float] = {}
    if found:
        metrics = json.loads(found[0].read_text(encoding="utf-8"))["metrics"]
        history = list(_history(found[0].with_name("metrics.csv")))
    return TrialRun(
        name=trial.name,
        state=trial.state,
        params=trial.values,
        history=history,
        metrics=metrics,
        tags={"reason": trial.reason} if trial.reason else {},
    )


def _history(file: Path) -> Iterator[dict[str, float | None]]:
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            yield {name: float(value) if value else None for name, value in row.items()}
