"""What the trainings of a full run say together: means over seeds, and differences seed by seed.

For each data set, model and metric: mean, sample deviation and a Student's t interval over the
seeds. For each comparison of the plan: the same of the differences, each between two trainings of
one data set and one seed. The interval answers what other seeds would give, so it covers what a
seed changes in the project and nothing else. A metric that is null (NaN, infinite) in one training
leaves no mean: an average over the others would hide it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from maquette.errors import DataError, UsageError, one_of
from maquette.research.judging.verdict import groups, metric_key, place
from maquette.research.planning import plan_values
from maquette.research.planning.plan import Plan
from maquette.research.records import RunRecord, Training

Outcome = Literal["higher", "lower", "equal", "cannot be told"]
DEFAULT_CONFIDENCE = "0.95"


@dataclass(frozen=True)
class Estimate:
    """What a few values say of the mean; everything is None where a value is missing."""

    count: int
    failed: int
    """How many of them are null."""
    mean: float | None
    deviation: float | None
    """The sample deviation, with n - 1; None for one value."""
    low: float | None
    high: float | None
    """Ends of the t interval of the mean; None for one value."""


@dataclass(frozen=True)
class Mean(Estimate):
    """One metric of one model on one data set, over seeds."""

    baseline: float | None
    """Mean of what the trivial answer scores; None where a training does not say."""


@dataclass(frozen=True)
class Difference(Estimate):
    """One metric of one model minus that of another, over the seeds that both have."""

    unpaired: int
    """Seeds that only one of the two has."""
    above: int
    below: int
    equal: int
    """Pairs whose difference is above, below and exactly zero."""
    outcome: Outcome
    """What the interval says of the first model; "cannot be told" when it holds zero."""


@dataclass(frozen=True)
class Signs:
    """Signs of the differences over all data sets, whose sizes do not compare."""

    count: int
    above: int
    below: int
    equal: int


@dataclass(frozen=True)
class Summary:
    """Everything that summary.json holds; names are those of the run's record."""

    confidence: float
    metrics: Mapping[str, str | None]
    """Metric -> goal, "higher" or "lower"; None where the plan does not have it."""
    means: Mapping[str, Mapping[str, Mapping[str, Mean]]]
    """Data set -> model -> metric."""
    differences: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Difference]]]]
    """Model -> the one it is held against -> data set -> metric."""
    signs: Mapping[str, Mapping[str, Mapping[str, Signs]]]
    """Model -> the other -> metric; empty for one data set."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"format": 1, **asdict(self)}


def summarise(plan: Plan, record: RunRecord, *, source: str = "run.json") -> Summary:
    """Summarise a run.

    Args:
        source: what to call the record in messages.
    Raises:
        UsageError: the plan compares a model that the record does not have.
        DataError: one data set, model and seed was trained twice.
    """
    confidence = plan_values.confidence(plan.testing.get("confidence", DEFAULT_CONFIDENCE))
    by_group = groups(record.trainings)
    _each_once(record, source)
    metrics = _metrics(plan, record)
    means: dict[str, dict[str, dict[str, Mean]]] = {}
    for (dataset, model), trainings in by_group.items():
        measured = {metric for training in trainings for metric in training.metrics}
        here = {m: _mean(trainings, m, confidence) for m in metrics if m in measured}
        means.setdefault(dataset, {})[model] = here
    differences: dict[str, dict[str, dict[str, dict[str, Difference]]]] = {}
    signs: dict[str, dict[str, dict[str, Signs]]] = {}
    for model, against in _comparisons(plan, record, source):
        found = {
            dataset: {
                m: _difference(by_group[dataset, model], by_group[dataset, against], m, confidence)
                for m in means[dataset][model]
                if m in means[dataset][against]
            }
            for dataset in means
            if model in means[dataset] and against in means[dataset]
        }
        differences.setdefault(model, {})[against] = found
        if len(found) > 1:
            signs.setdefault(model, {})[against] = _signs(list(found.values()))
    return Summary(confidence, metrics, means, differences, signs)


def estimate(values: Sequence[float | None], confidence: float) -> Estimate:
    """Return mean, sample deviation and the t interval of the mean of at least one value."""
    present = [value for value in values if value is not None]
    failed = len(values) - len(present)
    if failed or not present:
        return Estimate(len(values), failed, None, None, None, None)
    mean = statistics.fmean(present)
    if len(present) == 1:
        return Estimate(1, 0, mean, None, None, None)
    deviation = statistics.stdev(present)
    half = t_quantile(confidence, len(present) - 1) * deviation / math.sqrt(len(present))
    return Estimate(len(present), 0, mean, deviation, mean - half, mean + half)


def t_quantile(confidence: float, freedom: int) -> float:
    """Return how many standard errors to either side hold `confidence` of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def _mean(trainings: Sequence[Training], metric: str, confidence: float) -> Mean:
    trivial = estimate([t.baseline.get(metric) for t in trainings], confidence)
    found = estimate([t.metrics.get(metric) for t in trainings], confidence)
    return Mean(**asdict(found), baseline=trivial.mean)


def _difference(
    model: Sequence[Training], against: Sequence[Training], metric: str, confidence: float
) -> Difference:
    ours, theirs = ({t.seed: t.metrics.get(metric) for t in side} for side in (model, against))
    values = [_minus(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    found = estimate(values, confidence)

    def count(holds: Callable[[float], bool]) -> int:
        return sum(1 for value in values if value is not None and holds(value))

    return Difference(
        **asdict(found),
        unpaired=len(ours.keys() ^ theirs.keys()),
        above=count(lambda value: value > 0),
        below=count(lambda value: value < 0),
        equal=count(lambda value: value == 0),
        outcome=_outcome(found),
    )


def _minus(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _outcome(found: Estimate) -> Outcome:
    if found.low is None or found.high is None:
        return "cannot be told"
    if found.low == found.high == 0:
        return "equal"
    if found.low > 0:
        return "higher"
    return "lower" if found.high < 0 else "cannot be told"


def _signs(datasets: Sequence[Mapping[str, Difference]]) -> dict[str, Signs]:
    """Count over data sets; a metric that only one of them has is left out."""
    totals: dict[str, Signs] = {}
    for metric in dict.fromkeys(metric for dataset in datasets for metric in dataset):
        found = [dataset[metric] for dataset in datasets if metric in dataset]
        if len(found) > 1:
            above, below, equal = (
                sum(getattr(one, sign) for one in found) for sign in ("above", "below", "equal")
            )
            totals[metric] = Signs(above + below + equal, above, below, equal)
    return totals


def _metrics(plan: Plan, record: RunRecord) -> dict[str, str | None]:
    """Return the metrics of the record with their goals, the plan's first and in its order."""
    measured = dict.fromkeys(metric for t in record.trainings for metric in t.metrics)
    goals: dict[str, str | None] = {}
    for item in plan.of_kind("metric"):
        key = metric_key(item, measured)
        if key is not None:
            goals[key] = item.fields.get("goal", "").strip().lower() or None
    return goals | {metric: None for metric in measured if metric not in goals}


def _each_once(record: RunRecord, source: str) -> None:
    seen: dict[tuple[str, str, int], int] = {}
    for number, training in enumerate(record.trainings):
        key = (training.dataset, training.model, training.seed)
        if key in seen:
            raise DataError(
                f"{source}: trainings {seen[key]} and {number} are both {place(training)}; each "
                "counts once. Give the second another seed or another model name."
            )
        seen[key] = number


def _comparisons(plan: Plan, record: RunRecord, source: str) -> list[tuple[str, str]]:
    """Return (model, the other) for every comparison of the plan, each once."""
    written = plan.testing.get("compare")
    if not written:
        return []
    models = {training.model for training in record.trainings}
    pairs = [
        (model, other) for model, others in plan_values.comparisons(written) for other in others
    ]
    for name in (name for pair in pairs for name in pair):
        if name not in models:
            raise UsageError(f"{plan.path}: compare: {one_of(f'model of {source}', name, models)}")
    return list(dict.fromkeys(pairs))
