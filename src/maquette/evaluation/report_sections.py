"""The pieces of a report: each function turns `ReportData` into what one section of the page shows.

Plots come as `Markup` (safe SVG, escaped where it was drawn); all other text is escaped by the
template.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import numpy as np
from markupsafe import Markup

from maquette.evaluation import class_plots, number_plots
from maquette.evaluation.baselines import indices_of
from maquette.evaluation.calibration import reliability_curve
from maquette.evaluation.checks import Floats
from maquette.evaluation.metrics import confusion_matrix, per_class
from maquette.evaluation.report_data import Cell, Mistake, ReportData
from maquette.evaluation.report_dataset import Section, picture
from maquette.evaluation.report_parts import (
    MAX_CLASS_ROWS,
    both_splits,
    class_rows,
    contest,
    curves,
    metric_rows,
    tile,
)
from maquette.evaluation.report_text import (
    calibration_note,
    error_note,
    headline_metrics,
    label,
    training_note,
    verdict,
)
from maquette.evaluation.svg import fixed, number

MAX_ROW_CELLS = 12


def summary(data: ReportData) -> Section:
    """The verdict, the large numbers, the comparison plots and the table of all metrics."""
    names = headline_metrics(data)
    return {
        "verdict": verdict(data),
        "tiles": [tile(data, name) for name in names],
        "contests": [Markup(contest(data, name)) for name in names if name != "mae"]
        if data.baselines
        else [],
        "confidence": f"{100 * data.confidence:g} %",
        "metrics": metric_rows(data),
        "rivals": [one.name for one in data.baselines],
        "rival_seconds": [f"{one.seconds:.2f} s" for one in data.baselines],
    }


def training(data: ReportData) -> Section | None:
    """The loss of both splits, the metrics of the validation split, and a sentence on them."""
    if not data.history:
        return None
    if len(data.history) == 1:
        return {"note": training_note(data), "plots": []}
    main = headline_metrics(data)[0]
    drawn = [curves(data, label(name), both_splits(name)) for name in ("loss", main)]
    return {
        "note": training_note(data),
        "plots": [Markup(chart) for chart in drawn if chart],
    }


def classification(data: ReportData) -> Section:
    """Confusion matrix, per-class table, commonest confusions, reliability, ROC for two classes."""
    classes = data.classes or ()
    truth = indices_of(data.targets, classes)
    answers = indices_of(np.array(data.predictions, dtype=object), classes)
    confusion = confusion_matrix(truth, answers, num_classes=len(classes))
    rows_shown = class_rows(per_class(confusion), classes)
    section: Section = {
        "kind": "classification",
        "confusion": Markup(class_plots.confusion_plot(confusion, classes)),
        "classes": rows_shown[:MAX_CLASS_ROWS],
        "more_classes": rows_shown[MAX_CLASS_ROWS:],
        "confusions": _commonest_confusions(confusion, classes),
        "num_classes": len(classes),
        "reliability": None,
        "roc": None,
    }
    if data.probabilities is not None:
        rows = np.asarray(data.probabilities, dtype=np.float64)
        section["reliability"] = Markup(
            class_plots.reliability_plot(reliability_curve(truth, rows))
        )
        is_right = (rows.argmax(axis=1) == truth).astype(float)
        section["coverage"] = Markup(class_plots.coverage_plot(is_right, rows.max(axis=1)))
        section["calibration"] = calibration_note(truth, rows, data.metrics["test/ece"])
        if len(classes) == 2 and len(np.unique(truth)) == 2:
            section["roc"] = Markup(
                class_plots.roc_plot(truth.astype(float), rows[:, 1], positive=classes[1])
            )
    return section


def _commonest_confusions(
    confusion: Floats, classes: Sequence[str], count: int = 8
) -> list[Section]:
    errors = confusion * (1 - np.eye(len(classes)))
    commonest = np.argsort(-errors, axis=None, kind="stable")[:count]
    pairs = [divmod(int(cell), len(classes)) for cell in commonest if errors.flat[cell] > 0]
    return [
        {
            "truth": classes[row],
            "prediction": classes[column],
            "count": f"{errors[row, column]:,.0f}",
            "share": f"{100 * errors[row, column] / confusion[row].sum():.1f} %",
        }
        for row, column in pairs
    ]


def regression(data: ReportData) -> Section:
    """Predictions against the truth, errors against predictions, and their distribution."""
    truth = np.asarray(data.targets, dtype=np.float64)
    answers = np.asarray(data.predictions, dtype=np.float64)
    drawn = [
        number_plots.agreement_plot(truth, answers, name=data.target_name),
        number_plots.residual_plot(truth, answers),
        number_plots.error_histogram(answers - truth),
        number_plots.within_plot(answers - truth),
    ]
    return {
        "kind": "regression",
        "plots": [Markup(plot) for plot in drawn],
        "note": error_note(truth, answers),
    }


def mistakes(data: ReportData) -> Section | None:
    """The worst samples, as picture cards or as table rows."""
    if not data.mistakes:
        return None
    names: list[str] = list(
        dict.fromkeys(name for mistake in data.mistakes for name in mistake.row or ())
    )
    return {
        "cards": [_card(mistake) for mistake in data.mistakes if mistake.picture_png],
        "rows": [
            _mistake_row(mistake, names[:MAX_ROW_CELLS])
            for mistake in data.mistakes
            if not mistake.picture_png
        ],
        "columns": names[:MAX_ROW_CELLS],
        "columns_left_out": max(0, len(names) - MAX_ROW_CELLS),
    }


def _card(mistake: Mistake) -> Section:
    return _mistake_facts(mistake) | {"picture": picture(mistake.picture_png or b"")}


def _mistake_row(mistake: Mistake, names: Sequence[str]) -> Section:
    row = mistake.row or {}
    return _mistake_facts(mistake) | {"cells": [cell_text(row.get(name)) for name in names]}


def _mistake_facts(mistake: Mistake) -> Section:
    return {
        "id": mistake.sample_id,
        "truth": cell_text(mistake.truth),
        "prediction": _prediction_text(mistake.prediction),
        "error": _error_text(mistake.truth, mistake.prediction),
        "confidence": None if mistake.confidence is None else f"{mistake.confidence:.3f}",
    }


def _prediction_text(answer: str | float) -> str:
    return answer if isinstance(answer, str) else fixed(answer, 4)


def _error_text(truth: str | float, answer: str | float) -> str | None:
    if isinstance(truth, str) or isinstance(answer, str):
        return None
    return ("+" if answer > truth else "") + fixed(answer - truth)


def cell_text(value: Cell) -> str:
    """Write one cell of a data row; nothing for a missing one."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return number(value, 5) if isinstance(value, float) else str(value)


def highlighted_yaml(content: str) -> Markup:
    """Return YAML as HTML with its keys and comments marked."""
    lines = []
    for line in content.rstrip().splitlines():
        key = re.match(r"(\s*(?:- )?)([\w.-]+:)(.*)", line)
        if line.lstrip().startswith("#"):
            lines.append(f"<i>{escape(line)}</i>")
        elif key:
            lines.append(f"{key[1]}<b>{escape(key[2])}</b>{escape(key[3])}")
        else:
            lines.append(escape(line))
    return Markup("\n".join(lines))  # every part of it was escaped above
