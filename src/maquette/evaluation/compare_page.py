"""The page of a comparison: what the runs were, their metrics and curves, the keys that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maquette.evaluation.bootstrap import Interval
from maquette.evaluation.compare_plots import Dot, run_dots
from maquette.evaluation.metrics import SMALLER_IS_BETTER
from maquette.evaluation.plain_page import (
    Block,
    colour,
    folded,
    keys,
    notice,
    plots,
    table,
    write_page,
)
from maquette.evaluation.plots import Series, line_chart
from maquette.evaluation.svg import metric_value, number

ABSENT = "–"
MAX_PLOTS = 8
"""Metrics and curves that are drawn; the tables hold all."""
HEADLINES = (
    "mean_recall", "image_to_text_r1", "text_to_image_r1", "image_to_text_r5", "text_to_image_r5",
    "accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "rmse", "mae", "r2", "ece", "loss",
)  # fmt: skip
"""Drawn first, in this order; the first one that the runs have is named at the top."""
NOT_DRAWN = ("epoch", "step", "seconds", "samples_per_second")
"""Columns of metrics.csv that are no curves to learn from."""


@dataclass(frozen=True, kw_only=True)
class MetricValues:
    """One metric; every tuple has one entry per run, None where a run does not have it."""

    name: str
    values: tuple[float | None, ...]
    intervals: tuple[Interval | None, ...]
    is_clear: tuple[bool, ...]
    """Whether the intervals of this run and the first do not even touch."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Runs side by side, as plain data."""

    created: str
    letters: Sequence[str]
    runs: Sequence[str]
    facts: Sequence[tuple[str, tuple[str, ...]]]
    metrics: Sequence[MetricValues]
    """Test metrics first."""
    histories: Sequence[Sequence[Mapping[str, float]]]
    """Per run one row per epoch, with the key `epoch`."""
    recipe: Sequence[tuple[str, tuple[str, ...]]]
    """The keys that differ."""
    domains: Sequence[str]
    """Of each run."""
    domain_names: Sequence[str]
    domain_means: Sequence[tuple[str, tuple[float | None, ...]]]
    """Metric -> its mean over the runs of each domain."""
    same_test_samples: bool


def write_comparison(path: Path, data: Compared) -> None:
    """Write the page to `path`, whole or not at all.

    Raises:
        RunError: the file cannot be written.
    """
    blocks = [
        Block(
            id="runs",
            heading="Runs",
            lead="What each run was.",
            content=[_legend(data), table([["", *data.letters], *_rows(data.facts, longest=20)])],
        ),
        Block(
            id="metrics",
            heading="Metrics",
            lead="Lines are intervals, where a run has them. A star: the intervals of the "
            "run and of the first one do not even touch.",
            content=[
                _luck(data),
                plots(_metric_plots(data)),
                folded("All metrics", _metric_table(data)),
            ],
        ),
    ]
    if len(data.domain_names) > 1:
        blocks.append(_domain_block(data))
    if curves := _curves(data):
        blocks.append(
            Block(
                id="curves",
                heading="Training",
                lead="Every run over its epochs.",
                content=[_legend(data), plots(curves)],
            )
        )
    differing = _rows(data.recipe) or [["The recipes are the same.", *[""] * len(data.letters)]]
    blocks.append(
        Block(
            id="recipe-heading",
            heading="Recipe",
            lead="The keys that differ.",
            content=[table([["", *data.letters], *differing])],
        )
    )
    write_page(
        path,
        title=f"{len(data.runs)} runs",
        subtitle=", ".join(data.runs),
        created=data.created,
        verdict=_verdict(data),
        blocks=blocks,
    )


def _legend(data: Compared) -> str:
    names = [f"{letter}  {run}" for letter, run in zip(data.letters, data.runs, strict=True)]
    return keys([(colour(index), name) for index, name in enumerate(names)])


def _rows(pairs: Sequence[tuple[str, tuple[str, ...]]], *, longest: int = 60) -> list[list[str]]:
    """Return table rows; of long values the end is shown, which says more about a path."""
    return [
        [name, *(v if len(v) <= longest else f"…{v[-longest + 1 :]}" for v in values)]
        for name, values in pairs
    ]


def _luck(data: Compared) -> str:
    if data.same_test_samples:
        return ""
    return notice(["The runs were tested on different samples, so differences include luck."])


def _metric_plots(data: Compared) -> list[str]:
    return [
        run_dots(
            [
                Dot(name=letter, style=colour(index), value=value, interval=metric.intervals[index])
                for index, (letter, value) in enumerate(
                    zip(data.letters, metric.values, strict=True)
                )
                if value is not None
            ],
            title=metric.name,
            note="smaller is better" if _smaller_is_better(metric.name) else "larger is better",
        )
        for metric in _headlines(data.metrics)
    ]


def _metric_table(data: Compared) -> str:
    first, *others = data.letters
    header = ["", *data.letters, *(f"{letter} − {first}" for letter in others)]
    rows = []
    for metric in data.metrics:
        values = [ABSENT if value is None else metric_value(value) for value in metric.values]
        rows.append([metric.name, *values, *_differences(metric)])
    return table([header, *rows])


def _differences(metric: MetricValues) -> list[str]:
    base = metric.values[0]
    return [
        ABSENT if value is None or base is None else _signed(value - base) + " *" * clear
        for value, clear in zip(metric.values[1:], metric.is_clear[1:], strict=True)
    ]


def _signed(difference: float) -> str:
    if abs(difference) < 1e-9:  # the same number, added up in another order
        return "0"
    return f"{'+' if difference > 0 else ''}{number(difference)}"


def _headlines(metrics: Sequence[MetricValues]) -> list[MetricValues]:
    """Return what to draw: test metrics, those of HEADLINES first."""
    test = [metric for metric in metrics if metric.name.startswith("test/")] or list(metrics)
    return sorted(test, key=lambda metric: _rank(metric.name))[:MAX_PLOTS]


def _rank(name: str) -> int:
    last = name.rpartition("/")[2]
    return HEADLINES.index(last) if last in HEADLINES else len(HEADLINES)


def _domain_block(data: Compared) -> Block:
    """Means per domain; runs of different domains are tested on different data."""
    counts = [f"{name} ({data.domains.count(name)})" for name in data.domain_names]
    rows = [
        [name, *(ABSENT if mean is None else metric_value(mean) for mean in means)]
        for name, means in data.domain_means
    ]
    drawn = [
        run_dots(
            [
                Dot(name=domain, style=colour(index), value=mean, interval=None)
                for index, (domain, mean) in enumerate(zip(data.domain_names, means, strict=True))
                if mean is not None
            ],
            title=name,
            note="mean over runs",
        )
        for name, means in sorted(data.domain_means, key=lambda pair: _rank(pair[0]))[:MAX_PLOTS]
        if name.startswith("test/")
    ]
    return Block(
        id="domains",
        heading="Domains",
        lead="Means over the runs of a domain. Each domain has data of its own, so the columns say "
        "how hard a domain is, not which one is better.",
        content=[plots(drawn), folded("All metrics", table([["", *counts], *rows]))],
    )


def _curves(data: Compared) -> list[str]:
    names = list(dict.fromkeys(n for history in data.histories for row in history for n in row))
    wanted = [name for name in names if name not in NOT_DRAWN]
    ordered = sorted(wanted, key=lambda name: (name != "train/loss", "/" not in name))
    charts = []
    for name in ordered[:MAX_PLOTS]:
        series = [
            Series(
                name=letter,
                style=colour(index),
                points=[(row["epoch"], row[name]) for row in history if name in row],
            )
            for index, (letter, history) in enumerate(
                zip(data.letters, data.histories, strict=True)
            )
        ]
        charts.append(
            line_chart([one for one in series if one.points], title=name, x_label="epoch")
        )
    return charts


def _verdict(data: Compared) -> str:
    """Say which run is best on the validation split: the test split is not to choose by."""
    valid = [metric for metric in data.metrics if metric.name.startswith("valid/")]
    if not valid:
        return "The runs have no validation metric to choose by."
    metric = min(valid, key=lambda metric: _rank(metric.name))
    known = [
        (value, letter)
        for value, letter in zip(metric.values, data.letters, strict=True)
        if value is not None
    ]
    choose = min if _smaller_is_better(metric.name) else max
    value, letter = choose(known, key=lambda pair: pair[0])
    return f"Run {letter} has the best {metric.name}: {metric_value(value)}."


def _smaller_is_better(name: str) -> bool:
    return name.rpartition("/")[2] in SMALLER_IS_BETTER
