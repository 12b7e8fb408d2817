"""Who says what a finished network is worth: one judge for predictions, one for pairs.

Predictions are right or wrong against a target; pairs find each other or do not. The lifecycle asks
the judge of its task four things, in this order. The modules of pairs are imported when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What the lifecycle asks once a network is trained."""

    measure: Callable[..., Any]
    """(task, preprocessor, model, splits, *, valid, device, finished) -> the outcome"""
    facts: Callable[..., dict[str, Any]]
    """(task, outcome, splits) -> what summary.json holds for this kind of task alone"""
    report: Callable[..., None]
    """(folder, *, task, splits, profile, fitted, outcome, summary): writes report.html"""
    table: Callable[[Mapping[str, Any]], list[str]]
    """summary -> lines for the terminal"""


def judge_of(task_type: str) -> Judge:
    """Return the judge of a task by `model.type`."""
    if task_type == "image_text":
        from maquette.evaluation.pair_table import pair_table
        from maquette.pair_outcome import measure_pairs, pair_facts
        from maquette.pair_reporting import pair_report_of

        return Judge(
            measure=measure_pairs, facts=pair_facts, report=pair_report_of, table=pair_table
        )
    from maquette.outcome import measure, metric_table
    from maquette.reporting import report_of

    return Judge(measure=measure, facts=_no_facts, report=report_of, table=metric_table)


def _no_facts(*_: Any) -> dict[str, Any]:
    return {}
