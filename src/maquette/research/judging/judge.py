"""What a validation run shows: one verdict per check, with what was found and what to do.

`judge` holds the evidence of a run (evidence.py) and the record it left (records.py) against the
plan; the two lists below name every check. Nothing here looks at files: the same evidence always
gets the same verdicts. After two epochs a model need not be good, but neither may it be worse than
the answer that needs no model, beyond what chance explains (`metric_checks.margin`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from maquette.research.judging import metric_checks, run_checks, training_checks
from maquette.research.judging.verdict import Case, Verdict

if TYPE_CHECKING:
    from maquette.research.planning.plan import Plan
    from maquette.research.running.evidence import Evidence
    from maquette.research.running.sandbox import Limits

__all__ = ["OF_THE_RECORD", "OF_THE_RUN", "Verdict", "judge"]

Check = Callable[[Case], Verdict]

OF_THE_RUN: tuple[Check, ...] = (
    run_checks.ends_well,
    run_checks.within_time,
    run_checks.within_memory,
    run_checks.says_something,
    run_checks.stays_inside,
    run_checks.leaves_record,
)
"""What can be said of any run."""

OF_THE_RECORD: tuple[Check, ...] = (
    training_checks.enough_epochs,
    training_checks.loss_falls,
    training_checks.losses_finite,
    training_checks.gradients_finite,
    metric_checks.datasets_read,
    metric_checks.metrics_present,
    metric_checks.metrics_in_range,
    metric_checks.beats_trivial,
)
"""What can be said only of a run that left its record."""


def judge(evidence: Evidence, plan: Plan, limits: Limits) -> tuple[Verdict, ...]:
    """Return one verdict per check, in the order of the two lists above.

    Args:
        evidence: what was seen of the run, with the record it left, if any.
        plan: what it should have done.
        limits: what it was allowed to take.
    """
    case = Case(evidence, plan, limits)
    checks = OF_THE_RUN if evidence.record is None else OF_THE_RUN + OF_THE_RECORD
    return tuple(check(case) for check in checks)
