"""Pieces that every report has: large numbers, comparisons, tables of metrics, curves, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maquette.evaluation import plots
from maquette.evaluation.metrics import SMALLER_IS_BETTER, PerClass
from maquette.evaluation.pair_report_data import PairReportData
from maquette.evaluation.report_data import ReportData
from maquette.evaluation.report_dataset import Section
from maquette.evaluation.report_text import HINTS, direction, label
from maquette.evaluation.svg import metric_value, number


@dataclass(frozen=True)
class Curve:
    """A column of the history, and how it is drawn."""

    key: str
    """valid/loss"""
    name: str
    """What stands at its end."""
    style: str
    """ours, other, or hue-0 to hue-7."""


AnyReport = ReportData | PairReportData

MAX_CLASS_ROWS = 16
"""Beyond these, the rows of a table of classes are folded."""


def tile(data: AnyReport, name: str) -> Section:
    """One large number with its interval and what it means."""
    interval = data.intervals.get(f"test/{name}")
    return {
        "label": label(name),
        "value": metric_text(name, data.metrics[f"test/{name}"]),
        "interval": [metric_text(name, limit) for limit in interval] if interval else None,
        "hint": HINTS.get(name, ""),
    }


def contest(data: AnyReport, name: str) -> str:
    """A plot of one metric, the network's beside the baselines'."""
    key = f"test/{name}"
    ours = plots.Contender("this model", data.metrics[key], data.intervals.get(key))
    rivals = [
        plots.Contender(one.name, one.metrics[name])
        for one in data.baselines
        if name in one.metrics
    ]
    rivals.sort(key=lambda rival: rival.value, reverse=name not in SMALLER_IS_BETTER)
    return plots.dot_plot(
        [ours, *rivals],
        title=label(name),
        note=direction(name),
        limits=(0, np.inf) if name in SMALLER_IS_BETTER else (-np.inf, 1),
    )


def metric_rows(data: AnyReport) -> list[Section]:
    """Every test metric with its interval, the validation split's, and the baselines'."""
    names = [name.removeprefix("test/") for name in data.metrics if name.startswith("test/")]
    return [
        {
            "name": name,
            "label": label(name),
            "direction": direction(name),
            "test": metric_text(name, data.metrics[f"test/{name}"]),
            "interval": _interval_text(data, name),
            "valid": value_or_dash(data.metrics, f"valid/{name}"),
            "rivals": [value_or_dash(one.metrics, name) for one in data.baselines],
        }
        for name in names
    ]


def _interval_text(data: AnyReport, name: str) -> str:
    interval = data.intervals.get(f"test/{name}")
    return "–".join(metric_text(name, limit) for limit in interval) if interval else ""


def value_or_dash(metrics: Mapping[str, float], key: str) -> str:
    """Write the metric called `key`, test/… or plain; a dash where it was not measured."""
    return metric_text(key, metrics[key]) if key in metrics else "–"


def metric_text(name: str, value: float) -> str:
    """Write a metric; ranks are counted, so whole ones stand without decimals."""
    return number(value) if name.endswith("median_rank") else metric_value(value)


def both_splits(name: str) -> list[Curve]:
    """The curves of one metric on the training and the validation split."""
    return [Curve(f"train/{name}", "train", "other"), Curve(f"valid/{name}", "valid", "ours")]


def curves(data: AnyReport, title: str, columns: Sequence[Curve]) -> str | None:
    """A line for each column of the history that has finite values; None where none has."""
    series = []
    for column in columns:
        points = [
            (float(row["epoch"]), float(row[column.key]))
            for row in data.history
            if row.get(column.key) is not None and np.isfinite(row[column.key])
        ]
        if points:
            series.append(plots.Series(column.name, column.style, points))
    if not series:
        return None
    return plots.line_chart(series, title=title, x_label="epoch", mark=data.best_epoch)


def class_rows(table: PerClass, classes: Sequence[str]) -> list[Section]:
    """One row per class; with many classes the hardest come first."""
    order = np.arange(len(classes))
    if len(classes) > MAX_CLASS_ROWS:
        order = np.argsort(table.f1, kind="stable")
    return [
        {
            "name": classes[index],
            "support": f"{table.support[index]:,.0f}",
            "scores": [
                (f"{values[index]:.3f}", f"{100 * values[index]:.1f}")
                for values in (table.precision, table.recall, table.f1)
            ],
        }
        for index in order.tolist()
    ]
