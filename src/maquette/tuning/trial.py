"""One trial: a recipe is trained, watched after each epoch, and stopped when it falls behind."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

from maquette.errors import RecipeError, RunError, UsageError, one_of
from maquette.lifecycle import train
from maquette.recipe import Recipe
from maquette.training.callbacks import View
from maquette.tuning.space import Scalar, Space, with_values
from maquette.tuning.study import Claimed, Study


class FellBehind(Exception):
    """Ends a training from inside: its trial is pruned."""


class Watcher:
    """A callback that reports every epoch to the study, and ends a training that falls behind."""

    def __init__(self, claimed: Claimed, *, monitor: str, prune: bool) -> None:
        self.claimed = claimed
        self.monitor = monitor
        self.prune = prune

    def on_step(self, view: View) -> None:
        """Nothing to do within an epoch."""

    def on_epoch_end(self, view: View) -> None:
        """Report; raise `FellBehind` where the study says so.

        Raises:
            UsageError: there is no such metric.
        """
        row = view.history[-1]
        if self.monitor not in row:
            available = [name for name in row if name.startswith("valid/")]
            raise UsageError(one_of("tune.monitor", self.monitor, available))
        value = row[self.monitor]
        if math.isfinite(value):
            self.claimed.report(value, epoch=int(row["epoch"]))
        if self.prune and view.epoch < view.epochs and self.claimed.falls_behind():
            raise FellBehind

    def on_end(self, view: View) -> None:
        """Nothing to do."""


def trial_recipe(base: Recipe, values: dict[str, Scalar], space: Space, *, folder: Path) -> Recipe:
    """Return what a trial trains: the values, fewer epochs where `tune.share` says so, and none
    of what only a finished model needs.

    Raises:
        RecipeError: the values do not fit each other.
    """
    recipe = with_values(base, values, space)
    training, share = recipe.training, recipe.tune.share if recipe.tune else 1.0
    shorter = {
        "epochs": max(1, round(training.epochs * share)),
        "warmup_epochs": training.warmup_epochs * share,
        "checkpoint": training.checkpoint.model_copy(update={"enabled": False}),
    }
    changes: dict[str, object] = {
        "training": training.model_copy(update=shorter),
        "evaluation": recipe.evaluation.model_copy(update={"bootstrap": 0, "baselines": False}),
        "tracking": recipe.tracking.model_copy(update={"enabled": False}),
        "runs_dir": str(folder),
        "tune": None,
    }
    if (pairs := recipe.data.image_text) is not None:
        sizes = pairs.resolution.model_copy(update={"evaluate": ()})
        pairs = pairs.model_copy(update={"resolution": sizes})
        changes["data"] = recipe.data.model_copy(update={"image_text": pairs})
    return recipe.model_copy(update=changes)


def run_trials(
    study: Study,
    base: Recipe,
    space: Space,
    *,
    first: dict[str, Scalar] | None,
    monitor: str,
    folder: Path,
) -> None:
    """Run trials in this process until there are as many as `tune.trials`.

    Args:
        base: the recipe, with absolute paths.
        first: the values of the first trial.
        folder: gets one folder per trial.
    Raises:
        UsageError, DataError: what every other trial would meet too; nothing is half-done.
    """
    assert base.tune is not None, "the search gives it one"
    limit = base.tune.trials
    while (claimed := study.claim(limit=limit, seed=base.seed, first=first)) is not None:
        _run_trial(claimed, base, space, monitor=monitor, folder=folder / claimed.name)
        _tell(study, number=claimed.number, limit=limit, monitor=monitor)
        tidy(folder, study)


def tidy(folder: Path, study: Study) -> None:
    """Remove what nobody needs: folders of trials that were killed, and the weights of all finished
    trials but the best, as twenty models fill a disk."""
    present = list(folder.glob("trial-*"))  # listed first: a folder is younger than its trial
    best, trials = study.best(), {trial.name: trial for trial in study.trials()}
    for path in present:
        trial = trials.get(path.name)
        if trial is None:
            shutil.rmtree(path, ignore_errors=True)
        elif trial.state != "running" and (best is None or trial.number != best.number):
            for bundle in path.glob("*/bundle"):
                shutil.rmtree(bundle, ignore_errors=True)


def _run_trial(claimed: Claimed, base: Recipe, space: Space, *, monitor: str, folder: Path) -> None:
    """Train one recipe and end its trial, whatever happens; only finished ones keep a folder."""
    watcher = Watcher(claimed, monitor=monitor, prune=base.tune is None or base.tune.prune)
    try:
        recipe = trial_recipe(base, claimed.values, space, folder=folder)
        metrics = train(recipe, callbacks=[watcher]).metrics
        if monitor not in metrics:
            raise UsageError(one_of("tune.monitor", monitor, metrics))
        if not math.isfinite(metrics[monitor]):
            raise RunError(f"{monitor} is {metrics[monitor]}, so it cannot be compared.")
    except FellBehind:
        claimed.prune()
    except (RunError, RecipeError) as error:
        claimed.fail(str(error))
        return
    except BaseException:
        claimed.interrupt()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    else:
        claimed.complete(metrics[monitor])
        return
    shutil.rmtree(folder, ignore_errors=True)


def _tell(study: Study, *, number: int, limit: int, monitor: str) -> None:
    """Write one line to standard error: which trial ended how, and the best so far."""
    trials, best = study.trials(), study.best()
    trial = next(trial for trial in trials if trial.number == number)
    ended = sum(trial.state != "running" for trial in trials)
    outcome = {
        "complete": f"{monitor} {trial.value or 0.0:.4g}",
        "pruned": f"stopped after epoch {trial.curve[-1][0] if trial.curve else 0}",
    }.get(trial.state, f"failed: {trial.reason}")
    values = ", ".join(f"{key} {shown(value)}" for key, value in trial.values.items())
    so_far = f"; best {best.value:.4g}" if best is not None else ""
    sys.stderr.write(f"trial {number} ({ended}/{limit}): {values}: {outcome}{so_far}\n")
    sys.stderr.flush()


def shown(value: Scalar) -> str:
    """Write a value for readers: four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
