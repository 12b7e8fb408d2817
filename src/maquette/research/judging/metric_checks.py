"""Checks of a run's data and metrics against the plan; `margin` says what chance may explain."""

from __future__ import annotations

import math
import re
from statistics import fmean

from maquette.research.judging.verdict import (
    Case,
    Verdict,
    finite,
    groups,
    metric_key,
    place,
    shown,
)
from maquette.research.planning.plan import Item, slug
from maquette.research.records import DatasetFact, RunRecord, Training

Z = 1.96
"""Standard errors that chance is allowed: 95 of 100 normal differences lie within."""

NO_BASELINE = ("", "none", "-")


def datasets_read(case: Case) -> Verdict:
    """Every data set of the plan was read, and its bytes are those that the plan names."""
    items = case.plan.of_kind("dataset")
    problems = [problem for item in items if (problem := _dataset_problem(item, case)) is not None]
    if problems:
        remedy = "load every data set of the plan with data/dataset.py, and check its sha256"
        return Verdict("data sets", False, shown(problems), remedy)
    return Verdict("data sets", True, f"read: {', '.join(item.name for item in items)}")


def _dataset_problem(item: Item, case: Case) -> str | None:
    """Say what is wrong with one data set; None when nothing is."""
    fact = _fact(item.name, case.record)
    if fact is None:
        return f"{item.name} is not in `datasets` of the record"
    expected, of_a_file = expected_sha256(item)
    if expected is None:
        return None
    if fact.sha256.lower() != expected:
        return f"{item.name} has sha256 {fact.sha256[:12]}…, the plan says {expected[:12]}…"
    if of_a_file and expected not in case.evidence.read_files.values():
        return f"{item.name} is in the record, but no file with its sha256 was read"
    return None


def expected_sha256(item: Item) -> tuple[str | None, bool]:
    """Return the checksum that the plan or the catalogue names for a data set, and whether it is
    that of one file; scikit-learn's digits are in none."""
    source = item.fields.get("source", "").strip()
    if source.startswith("catalogue:"):
        from maquette.data.catalogue import CATALOGUE

        known = CATALOGUE.get(source.removeprefix("catalogue:"))
        if known is not None:
            return known.sha256, known.file is not None
    written = item.fields.get("sha256", "").strip().strip("`").lower()
    return written or None, True


def metrics_present(case: Case) -> Verdict:
    """Every metric of the plan was measured, and all models of a data set by the same ones."""
    name, items = "metrics", case.plan.of_kind("metric")
    by_dataset: dict[str, set[str]] = {}
    for training in case.record.trainings:
        by_dataset.setdefault(training.dataset, set()).update(_measured(items, training))
    anywhere = set().union(*by_dataset.values())
    problems = [f"{item.name} is in no training" for item in items if item.name not in anywhere]
    for training in case.record.trainings:
        here, there = _measured(items, training), by_dataset[training.dataset]
        if not here:
            problems.append(f"{place(training)} has none of the plan's metrics")
        elif here != there:
            problems.append(f"{place(training)} lacks {', '.join(sorted(there - here))}")
    if problems:
        remedy = "measure it in testing/evaluator.py, under its name in the plan"
        return Verdict(name, False, shown(problems), remedy)
    return Verdict(name, True, ", ".join(item.name for item in items))


def _measured(items: tuple[Item, ...], training: Training) -> set[str]:
    return {item.name for item in items if metric_key(item, training.metrics) is not None}


def metrics_in_range(case: Case) -> Verdict:
    """Every metric is a number, within the range that the plan gives it."""
    problems = []
    for training in case.record.trainings:
        problems += [
            f"{place(training)}: {key} is NaN or infinite"
            for key, value in training.metrics.items()
            if not finite(value)
        ]
        for item in case.plan.of_kind("metric"):
            value = _score(item, training)
            low, high = metric_range(item)
            if value is not None and not low <= value <= high:
                problems.append(
                    f"{place(training)}: {item.name} is {value:.4g}, "
                    f"the plan says {low:g} to {high:g}"
                )
    if problems:
        remedy = "try testing/metrics.py on an example whose answer is known"
        return Verdict("metric range", False, shown(problems), remedy)
    return Verdict("metric range", True, "all metrics are numbers within their range")


def metric_range(item: Item) -> tuple[float, float]:
    """Return the range of a metric: "0 to 1", "0 to inf"; without one, every number."""
    found = re.fullmatch(r"\s*(\S+)\s+to\s+(\S+)\s*", item.fields.get("range", ""))
    try:
        return (float(found[1]), float(found[2])) if found else (-math.inf, math.inf)
    except ValueError:
        return -math.inf, math.inf


def beats_trivial(case: Case) -> Verdict:
    """No model is worse than the trivial answer by more than chance explains."""
    name, compared = "baseline", 0
    problems: list[str] = []
    for item in case.plan.of_kind("metric"):
        if item.fields.get("baseline", "").strip().lower() in NO_BASELINE:
            continue
        for (dataset, model), trainings in groups(case.record.trainings).items():
            scored = [one for one in trainings if finite(_score(item, one))]
            if scored:
                compared += 1
                problem = _worse(item, scored, case.record)
                problems += [f"{dataset}/{model}: {problem}"] if problem else []
    if problems:
        remedy = "check the labels, their order and the scale of the inputs"
        return Verdict(name, False, shown(problems), remedy)
    if compared == 0:
        return Verdict(name, True, "nothing to compare: no metric of the plan names a baseline")
    return Verdict(name, True, f"none of {compared} scores is worse than the trivial answer's")


def _worse(item: Item, trainings: list[Training], record: RunRecord) -> str | None:
    """Hold one metric of one model on one data set against the trivial answer; None: it holds."""
    scores = [value for one in trainings if (value := _score(item, one)) is not None]
    answers = [value for one in trainings if (value := _trivial(item, one)) is not None]
    if len(answers) < len(trainings):
        written = item.fields["baseline"]
        return f"`baseline` of the record has no {item.name}, the plan names {written!r}"
    score, answer = fmean(scores), fmean(answers)
    allowed = margin(item, answer, samples=num_tested(trainings[0], record))
    gap = score - answer if item.fields.get("goal") == "lower" else answer - score
    if gap <= allowed:
        return None
    return f"{item.name} is {score:.4g}, the trivial answer {answer:.4g} (margin {allowed:.2g})"


def margin(item: Item, trivial: float, *, samples: int) -> float:
    """Return how much worse than the trivial score chance may make a metric.

    It is Z * scale / sqrt(samples). `scale` is the width of the metric's range: half of it is the
    largest possible standard deviation of a value within the range, and a difference of two means
    on the same samples varies at most twice as much. Where the range has no end, it is the size of
    the trivial score.

    Args:
        trivial: what the trivial answer scores.
        samples: how many the metric was measured on.
    """
    low, high = metric_range(item)
    scale = high - low if math.isfinite(high - low) else abs(trivial)
    return Z * scale / math.sqrt(max(1, samples))


def num_tested(training: Training, record: RunRecord) -> int:
    """Return how many samples a training was tested on: its key `test_samples` where it has one,
    else a fifth of the data set."""
    told = (training.model_extra or {}).get("test_samples")
    if isinstance(told, int) and told > 0:
        return told
    fact = _fact(training.dataset, record)
    return max(1, fact.samples // 5) if fact is not None else 1


def _fact(dataset: str, record: RunRecord) -> DatasetFact | None:
    names = {slug(name): fact for name, fact in record.datasets.items()}
    return names.get(slug(dataset))


def _score(item: Item, training: Training) -> float | None:
    key = metric_key(item, training.metrics)
    return None if key is None else training.metrics[key]


def _trivial(item: Item, training: Training) -> float | None:
    key = metric_key(item, training.baseline)
    return None if key is None else training.baseline[key]
