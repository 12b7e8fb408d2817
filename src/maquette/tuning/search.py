"""The whole path of `maquette tune`: recipe -> space -> study -> trials -> the best recipe.

Beside the study's file `NAME.db` lies the folder `NAME/`:

    recipe.yaml     what is searched around, complete and resolved
    trial-0007/     the run folder of a trial that ran to its end or failed
    best.yaml       the best recipe, ready to be trained
    report.html     the search for people
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.device import choose_device, cpu_count
from maquette.errors import UsageError
from maquette.files import write_text
from maquette.recipe import Recipe, dump_recipe, read_recipe, with_absolute_paths
from maquette.recipe.image_text import Tune
from maquette.training.callbacks import is_better
from maquette.tuning.results import Tuned, conclude
from maquette.tuning.space import Choices, Space, space_of, values_of
from maquette.tuning.study import Study, open_study
from maquette.tuning.trial import run_trials
from maquette.tuning.worker import run_workers

INCOMPARABLE = ("name", "runs_dir", "debug", "device", "tracking", "tune", "evaluation")
"""Sections that may change between two calls: the values of the trials do not depend on them."""

PATIENCE = 0.25
"""Share of a trial's epochs in which it is not pruned: a small learning rate starts slowly."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search that is ready to run trials."""

    recipe: Recipe
    """With absolute paths and a section `tune`."""
    space: Space
    monitor: str
    study: Study
    folder: Path

    def run_trials(self) -> None:
        """Run trials in this process until there are as many as asked for."""
        run_trials(
            self.study,
            self.recipe,
            self.space,
            first=values_of(self.recipe, self.space),
            monitor=self.monitor,
            folder=self.folder,
        )


def tune(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    *,
    workers: int = 1,
    storage: Path | None = None,
    output: Path | None = None,
) -> Tuned:
    """Search the recipe keys of `tune.space` for the best validation metric.

    The first trial is the recipe as it is, where it lies in the space. Called again, the search
    goes on: trials that ended count, so only what `tune.trials` still lacks is run.

    Args:
        workers: processes that run trials at once.
        storage: the study's SQLite file; by default runs_dir/tuning/<recipe name>.db.
        output: where the best recipe is written; by default best.yaml in the folder of the study.
    Raises:
        RecipeError, UsageError: the recipe or its space cannot be meant.
        DataError: the data cannot be used.
        RunError: no trial ran to its end.
    """
    if workers < 1:
        raise UsageError(f"--workers is {workers}; a search needs at least 1.")
    given = read_recipe(recipe, overrides)
    choose_device(given.device, given.training.precision)  # refused before anything is made
    if given.tune is None:
        given = given.model_copy(update={"tune": Tune()})
    file = storage or Path(given.runs_dir) / "tuning" / f"{given.name}.db"
    search = _open(given, file)
    write_text(search.folder / "recipe.yaml", dump_recipe(search.recipe))
    try:
        if workers == 1:
            search.run_trials()
        else:
            run_workers(workers, file=file, threads=max(1, cpu_count() // workers))
    except (KeyboardInterrupt, SystemExit):
        sys.stderr.write("The trials that ended are kept: the same command goes on from here.\n")
        raise
    return conclude(
        given,
        space=search.space,
        study=search.study,
        monitor=search.monitor,
        folder=search.folder,
        output=output or search.folder / "best.yaml",
    )


def reopen(file: Path) -> Search:
    """Return the search whose study is in `file`, as another process has begun it."""
    return _open(read_recipe(file.with_suffix("") / "recipe.yaml"), file)


def _open(given: Recipe, file: Path) -> Search:
    assert given.tune is not None, "the caller gives it one"
    space, recipe = space_of(given), with_absolute_paths(given)
    monitor = given.tune.monitor or given.training.early_stopping.monitor
    if not monitor.startswith("valid/"):
        raise UsageError(
            f"tune.monitor is {monitor!r}; a search is judged on the validation split, for "
            "example by valid/loss."
        )
    study = open_study(
        file,
        name=given.name,
        larger_is_better=is_better(monitor, 1.0, than=0.0),
        space=space,
        startup_trials=given.tune.startup_trials,
        warmup_epochs=round(given.training.epochs * given.tune.share * PATIENCE),
        facts=dict(_facts(recipe, space, monitor)),
    )
    return Search(
        recipe=recipe, space=space, monitor=monitor, study=study, folder=file.with_suffix("")
    )


def _facts(recipe: Recipe, space: Space, monitor: str) -> Iterator[tuple[str, str]]:
    """Yield what the value of a trial depends on, as text."""
    assert recipe.tune is not None, "_open has one"
    content = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    searched = set(space)
    for key, value in _flat({k: v for k, v in content.items() if k not in INCOMPARABLE}):
        if key not in searched:
            yield key, str(value)
    yield "tune.monitor", monitor
    yield "tune.share", str(recipe.tune.share)
    for key, values in space.items():
        if isinstance(values, Choices):
            yield f"tune.space.{key}", str(list(values.values))
        else:
            yield f"tune.space.{key}", f"{values.low:g} to {values.high:g}" + " log" * values.log


def _flat(content: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
