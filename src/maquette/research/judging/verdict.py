"""A verdict, what every check gets, and the few words and places all checks share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maquette.research.planning.plan import slug

if TYPE_CHECKING:
    from maquette.research.planning.plan import Item, Plan
    from maquette.research.records import RunRecord, Training
    from maquette.research.running.evidence import Evidence
    from maquette.research.running.sandbox import Limits

GIB = 2**30
MIB = 2**20
SHOWN = 3
"""Places named in one verdict; the rest are counted."""


@dataclass(frozen=True)
class Verdict:
    """One check and its outcome."""

    check: str
    """What was checked, in two or three words; the name a person gives it under Known Issues."""
    passed: bool
    found: str
    """What the evidence says, with numbers and places."""
    remedy: str | None = None
    """The smallest change that would make it pass; None when it did."""


@dataclass(frozen=True)
class Case:
    """What every check gets."""

    evidence: Evidence
    plan: Plan
    limits: Limits

    @property
    def record(self) -> RunRecord:
        """The record of the run; asked only by checks that need one."""
        assert self.evidence.record is not None, "judge leaves out what needs a record"
        return self.evidence.record


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Write verdicts as aligned lines, each failed one with its remedy below."""
    width = max((len(verdict.check) for verdict in verdicts), default=0)
    lines = []
    for verdict in verdicts:
        mark = "ok  " if verdict.passed else "FAIL"
        lines.append(f"{mark}  {verdict.check:<{width}}  {verdict.found}")
        if not verdict.passed and verdict.remedy is not None:
            lines.append(f"      {'':<{width}}  -> {verdict.remedy}")
    return lines


def shown(places: Sequence[str]) -> str:
    """Join the first few places and count the rest."""
    rest = len(places) - SHOWN
    return "; ".join(places[:SHOWN]) + (f"; and {rest} more" if rest > 0 else "")


def place(training: Training) -> str:
    """Name one training: adult/tabm seed 0."""
    return f"{training.dataset}/{training.model} seed {training.seed}"


def finite(value: float | None) -> bool:
    """Whether there is a number; a record's null stands for NaN and infinity."""
    return value is not None and math.isfinite(value)


def groups(trainings: Iterable[Training]) -> dict[tuple[str, str], list[Training]]:
    """Return the trainings of each (dataset, model), one per seed."""
    found: dict[tuple[str, str], list[Training]] = {}
    for training in trainings:
        found.setdefault((training.dataset, training.model), []).append(training)
    return found


def metric_key(item: Item, metrics: Mapping[str, object]) -> str | None:
    """Return the key under which a record holds a metric of the plan, None when it does not."""
    return next((key for key in metrics if slug(key) in (item.slug, slug(item.symbol))), None)


def last_line(text: str) -> str:
    """Return the last line that says something: of a traceback, the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
