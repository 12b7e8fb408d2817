"""The trials of a search, kept by Optuna in one SQLite file.

Several processes may work on one study: `Study.claim` gives each its own trial, until there are as
many as asked for. A trial whose process is gone is noticed by the next claim, and made again.
"""

from __future__ import annotations

import json
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from maquette.data.randomness import key_of
from maquette.errors import RunError, UsageError
from maquette.files import held
from maquette.tuning.space import Choices, Scalar, Space, Span

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

PATIENCE = 60.0
"""Seconds to wait while another process writes to the same study."""
MOST_FAILURES = 3
"""So many failed trials and none that went well: the next would fail too."""

FACTS = "maquette.facts"
SLOT = "maquette.slot"
WORKER = "maquette.worker"
REASON = "maquette.reason"

State = Literal["complete", "pruned", "failed", "running"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe that was tried, or is being tried."""

    number: int
    """From 0, in the order they began; interrupted trials leave gaps."""
    state: State
    values: Mapping[str, Scalar]
    """Recipe key -> value."""
    value: float | None
    """What the search compares; None unless the trial ran to its end."""
    curve: tuple[tuple[int, float], ...]
    """(epoch, value of the monitored metric) after each epoch."""
    seconds: float
    reason: str | None
    """Why it failed."""

    @property
    def name(self) -> str:
        """Names its folder: trial-0007."""
        return f"trial-{self.number:04}"


class Claimed:
    """A trial of this process: report epochs, then end it in exactly one of four ways."""

    def __init__(self, study: optuna.Study, trial: optuna.Trial) -> None:
        self._study = study
        self._trial = trial
        self.number = trial.number
        self.name = f"trial-{trial.number:04}"
        self.values: dict[str, Scalar] = dict(trial.params)

    def report(self, value: float, *, epoch: int) -> None:
        """Tell the value of the monitored metric after an epoch."""
        self._trial.report(value, epoch)

    def falls_behind(self) -> bool:
        """Whether its best epoch so far is worse than the median of the others at this epoch."""
        return self._trial.should_prune()

    def complete(self, value: float) -> None:
        """End it with the value that the search compares."""
        self._study.tell(self._trial, value)

    def prune(self) -> None:
        """End it early: it fell behind."""
        self._study.tell(self._trial, state=_states().PRUNED)

    def fail(self, reason: str) -> None:
        """End it as one that cannot be trained; it counts as tried."""
        self._trial.set_user_attr(REASON, reason)
        self._study.tell(self._trial, state=_states().FAIL)

    def interrupt(self) -> None:
        """End it unfinished; it does not count as tried."""
        self._study.tell(self._trial, state=_states().FAIL)


class Study:
    """The trials so far, and the one way to a new one."""

    def __init__(self, study: optuna.Study, file: Path, space: Space, startup_trials: int) -> None:
        self._study = study
        self._lock = file.with_name(f".{file.name}.lock")
        self.file = file
        self._startup_trials = startup_trials
        self._distributions = {key: _distribution(values) for key, values in space.items()}

    def claim(
        self, *, limit: int, seed: int, first: Mapping[str, Scalar] | None = None
    ) -> Claimed | None:
        """Return a new trial, or None when `limit` were tried, those under way included.

        Which values a trial gets depends on the seed, on how many trials came before it, and on
        what is known by then; so a search by one process is repeatable, resumed or not.

        Args:
            first: the values of the first trial; drawn like the others when absent.
        Raises:
            RunError: every trial has failed, and the next would too.
        """
        import optuna

        with _exclusive(self._lock):
            self._close_abandoned()
            trials = self.trials()
            ended_well = [trial for trial in trials if trial.state in ("complete", "pruned")]
            failed = [trial for trial in trials if trial.state == "failed"]
            if len(failed) >= MOST_FAILURES and not ended_well:
                raise RunError(
                    f"The first {len(failed)} trials failed, so the search stops. The last said: "
                    f"{failed[-1].reason}"
                )
            if len(trials) >= limit:
                return None
            slots = {int(trial.user_attrs.get(SLOT, -1)) for trial in _counted(self._study)}
            slot = min(set(range(len(slots) + 1)) - slots)  # an interrupted trial's is free again
            if slot == 0 and first is not None:
                self._study.enqueue_trial(dict(first))
            with _quiet():
                self._study.sampler = optuna.samplers.TPESampler(
                    seed=int(key_of(f"{seed}/tuning/{slot}")) % 2**32,
                    n_startup_trials=self._startup_trials,
                    constant_liar=True,  # parallel trials keep away from each other
                )
            trial = self._study.ask(self._distributions)
            trial.set_user_attr(SLOT, slot)
            trial.set_user_attr(WORKER, _this_process())
        return Claimed(self._study, trial)

    def trials(self) -> list[Trial]:
        """Return the trials in the order they began; interrupted ones are left out."""
        return [_plain(trial) for trial in _counted(self._study)]

    def best(self) -> Trial | None:
        """Return the best trial that ran to its end, the first of equals."""
        complete = [trial for trial in self.trials() if trial.state == "complete"]
        sign = 1 if self._study.direction.name == "MAXIMIZE" else -1
        return max(complete, key=lambda trial: sign * (trial.value or 0.0), default=None)

    def importance(self) -> dict[str, float]:
        """Return how much each key mattered, largest first, summing to 1; {} for few trials."""
        from optuna.importance import get_param_importances

        values = [trial.value for trial in self.trials() if trial.state == "complete"]
        if len(values) < 4 or len(set(values)) < 2:
            return {}
        with _quiet():
            return {key: float(share) for key, share in get_param_importances(self._study).items()}

    def _close_abandoned(self) -> None:
        """End the running trials of this machine whose process is gone."""
        for trial in self._study.get_trials(deepcopy=False, states=(_states().RUNNING,)):
            if not _is_at_work(trial.user_attrs.get(WORKER)):
                self._study.tell(trial.number, state=_states().FAIL)


def open_study(
    file: Path,
    *,
    name: str,
    larger_is_better: bool,
    space: Space,
    startup_trials: int,
    warmup_epochs: int,
    facts: Mapping[str, str],
) -> Study:
    """Open the study `name` in a SQLite file, made now if there is none.

    Args:
        startup_trials: random trials at the start; nothing is pruned before they have ended.
        warmup_epochs: no trial is pruned before it has had so many.
        facts: recipe key -> value; what trials depend on, so it must be the same when resumed.
    Raises:
        UsageError: Optuna is not installed, the file is no study, or the study was begun with
            another recipe.
        RunError: the file cannot be written.
    """
    try:
        import optuna
    except ImportError:
        raise UsageError(
            "Tuning needs Optuna, which is not installed: pip install 'maquette[tune]'."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(file.with_name(f".{file.name}.lock")), _quiet():
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{file.resolve().as_posix()}",
                engine_kwargs={"connect_args": {"timeout": PATIENCE}},
            )
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize" if larger_is_better else "minimize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(
                    n_startup_trials=startup_trials, n_warmup_steps=warmup_epochs
                ),
            )
            _refuse_another_recipe(study, facts, file)
    except OSError as error:
        raise RunError(
            f"Could not use {file} for the study: {error.strerror or error}. "
            "Choose another place with --storage FILE."
        ) from None
    except _failures() as error:
        raise UsageError(
            f"{file} cannot be used as a study: {str(error).strip().splitlines()[0]}. "
            "Choose another file with --storage, or remove this one to begin again."
        ) from None
    return Study(study, file, space, startup_trials)


def _refuse_another_recipe(study: optuna.Study, facts: Mapping[str, str], file: Path) -> None:
    """Remember what the trials depend on; once there are trials, it must stay as it is."""
    stored = study.user_attrs.get(FACTS)
    if stored is None or not _counted(study):
        study.set_user_attr(FACTS, json.dumps(dict(facts)))
        return
    begun: dict[str, str] = json.loads(stored)
    differ = [key for key in dict.fromkeys([*begun, *facts]) if begun.get(key) != facts.get(key)]
    if differ:
        some = "; ".join(
            f"{key} was {begun.get(key, 'absent')}, is {facts.get(key, 'absent')}"
            for key in differ[:3]
        )
        raise UsageError(
            f"The study {study.study_name!r} in {file} was begun with another recipe: {some}. "
            "Its trials cannot be compared with new ones. Undo the change, or keep the new search "
            "apart with --storage FILE."
        )


def _counted(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count as tried or under way: all but the interrupted ones."""
    states = _states()
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state != states.WAITING
        and (trial.state != states.FAIL or REASON in trial.user_attrs)
    ]


def _plain(trial: FrozenTrial) -> Trial:
    """Return what the rest of the room needs to know."""
    states: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "RUNNING": "running"}
    return Trial(
        number=trial.number,
        state=states.get(trial.state.name, "failed"),
        values=dict(trial.params),
        value=trial.value if trial.state.name == "COMPLETE" else None,
        curve=tuple(sorted(trial.intermediate_values.items())),
        seconds=trial.duration.total_seconds() if trial.duration else 0.0,
        reason=trial.user_attrs.get(REASON),
    )


def _distribution(values: Span | Choices) -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(values, Choices):
        return CategoricalDistribution(values.values)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _this_process() -> dict[str, Any]:
    process = psutil.Process()
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": process.create_time()}


def _is_at_work(worker: Mapping[str, Any] | None) -> bool:
    """Whether the process of a running trial lives; one on another machine is taken at its word."""
    if worker is None:
        return False
    if worker["host"] != socket.gethostname():
        return True
    try:
        return bool(abs(psutil.Process(worker["pid"]).create_time() - worker["since"]) < 1)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    try:
        with held(lock, patience=PATIENCE):
            yield
    except TimeoutError:
        raise RunError(
            f"Another process has held {lock} for {PATIENCE:.0f} s. Wait for it to end, then run "
            "the same command again: the search goes on where it stopped."
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna warns of what is new in it; that is about Optuna, not about the search."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(optuna|alembic|sqlalchemy)(\.|$)")
        yield


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState


def _failures() -> tuple[type[Exception], ...]:
    """What a file that holds no study of ours raises."""
    import sqlite3

    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    return (OptunaError, SQLAlchemyError, sqlite3.Error, RuntimeError, ValueError)
