"""The section Results of a report: tables of means and of paired differences, read out in words.

Every number links to its place in summary.json, which `summary.py` computes from the full run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from maquette.research.planning.plan import Plan
from maquette.research.records import RunRecord
from maquette.research.reporting.report_words import code, common_decimals, number, table
from maquette.research.reporting.summary import Difference, Mean, Summary

_BETTER = {"higher": {"higher": "better", "lower": "worse"}}
_BETTER["lower"] = {"higher": "worse", "lower": "better"}


def results(summary: Summary, file: str, shortfalls: Sequence[str] = ()) -> list[str]:
    """Write the section.

    Args:
        file: summary.json, relative to the report.
        shortfalls: lines to begin with, see `shortfalls`.
    """
    level = number(summary.confidence, file, "confidence", decimals=_percents(summary), suffix=" %")
    seeds = "Means over seeds ± sample deviation, and a Student's t interval of the mean at "
    lines = ["## Results", "", *shortfalls, f"{seeds}{level}.", ""]
    for metric, goal in summary.metrics.items():
        lines += _metric(summary, metric, goal, file)
    if summary.differences:
        lines += _differences(summary, file, level)
    return lines


def shortfalls(plan: Plan, run: RunRecord, file: str) -> list[str]:
    """Say where a full run has not the epochs or the number of seeds that the plan asks for.

    Args:
        file: the run's record, relative to the report.
    """
    seeds = sorted({training.seed for training in run.trainings})
    lines = []
    for key, many, words in (
        ("epochs", run.epochs, number(run.epochs, file, "epochs")),
        ("seeds", len(seeds), ", ".join(code(str(seed)) for seed in seeds)),
    ):
        asked = plan.training.get(key, "")
        if asked.isdecimal() and int(asked) != many:
            lines.append(
                f"- {key.capitalize()} of this run: {words}; the plan asks for {code(asked)}."
            )
    return [*lines, ""] if lines else []


def _percents(summary: Summary) -> int:
    """Return the decimals of the confidence in percent: 0 for 0.95, 1 for 0.995."""
    return max(0, len(f"{summary.confidence:.10f}".rstrip("0").partition(".")[2]) - 2)


def _metric(summary: Summary, metric: str, goal: str | None, file: str) -> list[str]:
    """Write the table of one metric."""
    found = {
        (dataset, model): of_model[metric]
        for dataset, models in summary.means.items()
        for model, of_model in models.items()
        if metric in of_model
    }
    digits = common_decimals(mean.deviation for mean in found.values())
    rows = []
    for (dataset, model), mean in found.items():
        place = ("means", dataset, model, metric)
        trivial = "–"
        if mean.baseline is not None:
            trivial = number(mean.baseline, file, *place, "baseline", decimals=digits)
        rows.append(
            [
                code(dataset),
                code(model),
                number(mean.count, file, *place, "count"),
                _mean(mean, file, place, digits),
                _interval(mean, file, place, digits),
                trivial,
            ]
        )
    aim = f"{goal} is better" if goal else "not a metric of the plan"
    header = ["data set", "model", "seeds", "mean ± deviation", "interval", "trivial answer"]
    return [f"### {code(metric)}, {aim}", "", *table(header, rows)]


def _mean(mean: Mean, file: str, place: tuple[str, ...], digits: int) -> str:
    if mean.mean is None:
        return f"none: {number(mean.failed, file, *place, 'failed')} not a number"
    text = number(mean.mean, file, *place, "mean", decimals=digits)
    if mean.deviation is None:
        return text
    return f"{text} ± {number(mean.deviation, file, *place, 'deviation', decimals=digits)}"


def _interval(
    found: Mean | Difference, file: str, place: tuple[str, ...], digits: int, signed: bool = False
) -> str:
    if found.low is None or found.high is None:
        return "–"
    low, high = (
        number(value, file, *place, end, decimals=digits, signed=signed)
        for end, value in (("low", found.low), ("high", found.high))
    )
    return f"{low} to {high}"


def _differences(summary: Summary, file: str, level: str) -> list[str]:
    lines = [
        "### Paired differences",
        "",
        "Each difference is the first model minus the second, both trained on the same data set "
        f"with the same seed. The intervals are Student's t over the pairs at {level}; they are "
        "not widened for the number of comparisons.",
        "",
    ]
    for model, others in summary.differences.items():
        for against, datasets in others.items():
            lines += _comparison(summary, model, against, datasets, file)
    return lines


def _comparison(
    summary: Summary,
    model: str,
    against: str,
    datasets: Mapping[str, Mapping[str, Difference]],
    file: str,
) -> list[str]:
    """Write one comparison: its table, then a sentence for each data set."""
    digits = {
        metric: common_decimals(
            datasets[dataset][metric].deviation
            for dataset in datasets
            if metric in datasets[dataset]
        )
        for metric in summary.metrics
    }
    rows = []
    for dataset, metrics in datasets.items():
        for metric, difference in metrics.items():
            place = ("differences", model, against, dataset, metric)
            rows.append(
                [
                    code(dataset),
                    code(metric),
                    _pairs(difference, file, place),
                    _average(difference, file, place, digits[metric]),
                    _interval(difference, file, place, digits[metric], signed=True),
                    ", ".join(
                        number(getattr(difference, sign), file, *place, sign)
                        for sign in ("above", "below", "equal")
                    ),
                ]
            )
    header = ["data set", "metric", "pairs", "mean difference", "interval", "above, below, equal"]
    lines = [f"#### {code(model)} against {code(against)}", ""]
    if not rows:
        return [*lines, "They have no data set and metric in common.", ""]
    lines += table(header, rows)
    for dataset, metrics in datasets.items():
        words = "; ".join(_reading(metrics, summary.metrics))
        lines.append(f"- On {code(dataset)}, {code(model)} against {code(against)}: {words}.")
    lines += _signs(summary, model, against, file)
    return [*lines, ""]


def _pairs(difference: Difference, file: str, place: tuple[str, ...]) -> str:
    text = number(difference.count, file, *place, "count")
    if difference.unpaired:
        text += f", {number(difference.unpaired, file, *place, 'unpaired')} without a partner"
    return text


def _average(difference: Difference, file: str, place: tuple[str, ...], digits: int) -> str:
    if difference.mean is None:
        return f"none: {number(difference.failed, file, *place, 'failed')} not a number"
    return number(difference.mean, file, *place, "mean", decimals=digits, signed=True)


def _reading(metrics: Mapping[str, Difference], goals: Mapping[str, str | None]) -> Iterator[str]:
    """Say in words what the intervals say, metrics with the same outcome together."""
    said: dict[tuple[str, str | None], list[str]] = {}
    for metric, difference in metrics.items():
        judged = _BETTER.get(goals[metric] or "", {}).get(difference.outcome)
        said.setdefault((difference.outcome, judged), []).append(metric)
    for (outcome, judged), names in said.items():
        listed = ", ".join(map(code, names))
        if outcome == "cannot be told":
            yield f"whether {listed} {'differs' if len(names) == 1 else 'differ'} cannot be told"
        else:
            yield f"{outcome} in {listed}{f', which is {judged}' if judged else ''}"


def _signs(summary: Summary, model: str, against: str, file: str) -> Iterator[str]:
    """Count pairs over all data sets, where there are several."""
    for metric, signs in summary.signs.get(model, {}).get(against, {}).items():
        place = ("signs", model, against, metric)
        above, below, count = (
            number(getattr(signs, key), file, *place, key) for key in ("above", "below", "count")
        )
        yield (
            f"- Over all data sets, {code(model)} is above {code(against)} in {code(metric)} in "
            f"{above} and below in {below} of {count} pairs."
        )
