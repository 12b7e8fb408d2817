"""What a report shows, as plain data: arrays, numbers and text, nothing that must be looked up.

`write_report(path, data)` turns one `ReportData` into one HTML file. Everything with a default may
be left out, and its place in the report is left out too. n test samples, N classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maquette.evaluation.baselines import Baseline
from maquette.evaluation.bootstrap import Interval
from maquette.evaluation.checks import Floats, Integers

Cell = str | float | int | None


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A test sample the network got wrong (classes) or far off (numbers)."""

    sample_id: str
    """As the user knows it: "row 17", "cats/3.png"."""
    truth: str | float
    prediction: str | float
    confidence: float | None = None
    """Probability given to the prediction; None for numbers."""
    picture_png: bytes | None = None
    """The image as PNG; large ones are shrunk on the page."""
    row: Mapping[str, Cell] | None = None
    """The table row it came from."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One input column, or the target, of the training split."""

    name: str
    kind: Literal["number", "date", "category"]
    count: int
    """Values present."""
    missing: int = 0
    edges: Sequence[float] = ()
    """Numbers and dates (days since 1970-01-01): edges of the histogram's bins, one more than
    `counts`."""
    counts: Sequence[float] = ()
    mean: float | None = None
    values: Mapping[str, int] | None = None
    """Categories: how often each occurs."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One training image, to show what the data looks like."""

    caption: str
    picture_png: bytes


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything on the page, in about its order."""

    title: str
    """The recipe's name."""
    subtitle: str
    """One line: what was trained on what."""
    created: str
    """When the run ended, as it should be printed."""

    targets: NDArray[Any]
    """(n,) test targets: class names, or numbers in the user's unit."""
    predictions: Sequence[str] | Sequence[float]
    """(n,) test predictions in the same terms."""
    probabilities: NDArray[Any] | None = None
    """(n, N) rows that sum to 1; None for regression."""
    classes: tuple[str, ...] | None = None
    """Names in the order of the columns of `probabilities`; None for regression."""
    target_name: str = "target"
    """The target column, for the axes of regression plots."""

    metrics: Mapping[str, float]
    """test/… of every metric, and optionally valid/…."""
    intervals: Mapping[str, Interval]
    """test/… intervals; may be empty."""
    confidence: float = 0.95
    """Coverage of the intervals."""
    baselines: Sequence[Baseline] = ()

    history: Sequence[Mapping[str, float]] = ()
    """Rows of metrics.csv, one per epoch: epoch, train/loss, valid/loss, valid/…."""
    best_epoch: int | None = None
    """The epoch whose weights are in the bundle, as counted in `history`."""
    monitor: str = "valid/loss"
    """What chose the best epoch."""

    mistakes: Sequence[Mistake] = ()
    """The worst first."""

    source: str
    """Where the data came from."""
    split_sizes: Mapping[str, int]
    """Samples in train, valid and test."""
    class_counts: Mapping[str, Mapping[str, int]] | None = None
    """{split: {class: samples}}"""
    columns: Sequence[Column] = ()
    pictures: Sequence[Picture] = ()
    data_facts: Mapping[str, str] | None = None
    """Anything else worth a line: image sizes, file format, …"""
    warnings: Sequence[str] = ()
    quarantined: Sequence[Mapping[str, str]] = ()
    """Samples set aside: `place` and `reason`."""

    model_facts: Mapping[str, str]
    """Parameters, layers, optimiser, …"""
    timings: Mapping[str, str]
    """Training time, samples per second, …"""
    environment: Mapping[str, str]
    recipe_yaml: str
    commands: Mapping[str, str]
    """What to do next: {"Predict a file": "maquette predict …"}"""


def number_column(
    name: str,
    values: NDArray[Any],
    *,
    kind: Literal["number", "date"] = "number",
    num_bins: int = 24,
) -> Column:
    """Describe (n,) numbers, missing as NaN; dates as days since 1970-01-01."""
    numbers = np.asarray(values, dtype=np.float64)
    present = numbers[np.isfinite(numbers)]
    column = Column(name=name, kind=kind, count=len(present), missing=len(numbers) - len(present))
    if len(present) == 0:
        return column
    counts, edges = np.histogram(present, bins=min(num_bins, len(np.unique(present))))
    mean = float(present.mean())
    return replace(column, edges=edges.tolist(), counts=counts.tolist(), mean=mean)


def category_column(name: str, values: NDArray[Any]) -> Column:
    """Describe (n,) text values, missing as None."""
    present = [str(value) for value in values if value is not None]
    names, counts = np.unique(np.array(present, dtype=str), return_counts=True)
    return Column(
        name=name,
        kind="category",
        count=len(present),
        missing=len(values) - len(present),
        values=dict(zip(names.tolist(), counts.tolist(), strict=True)),
    )


def columns_of_profile(profile: Mapping[str, Any]) -> list[Column]:
    """Describe the input columns of a table from its reference profile.

    The profile keeps quantiles at equal steps, which are an even sample of the column: their
    histogram has the column's shape and range.
    """
    dates = set(profile.get("dates", ()))
    columns = []
    for name, facts in profile.get("numbers", {}).items():
        points = np.array(facts.get("quantiles", ()))
        sketch = number_column(
            name, points, kind="date" if name in dates else "number", num_bins=16
        )
        found = {"count": facts["count"], "missing": facts["missing"], "mean": facts.get("mean")}
        columns.append(replace(sketch, **found))
    for name, facts in profile.get("categories", {}).items():
        found = {"count": facts["count"], "missing": facts["missing"], "values": facts["values"]}
        columns.append(Column(name=name, kind="category", **found))
    return columns


def most_confident_mistakes(targets: Integers, probabilities: Floats, count: int) -> Integers:
    """Positions of up to `count` samples predicted wrongly, the surest first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    surest = np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")
    return wrong[surest[:count]]


def largest_errors(targets: Floats, predictions: Floats, count: int) -> Integers:
    """Positions of up to `count` samples, the largest absolute error first; exact ones left out."""
    error = np.abs(np.asarray(predictions) - targets)
    worst = np.argsort(-error, kind="stable")[:count]
    return worst[error[worst] > 0]
