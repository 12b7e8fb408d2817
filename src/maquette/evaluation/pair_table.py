"""The outcome of an image-text run as lines of text, for the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maquette.evaluation.report_parts import metric_text
from maquette.evaluation.report_text import RETRIEVAL, WAYS
from maquette.evaluation.retrieval import CUTOFFS


def pair_table(summary: Mapping[str, Any]) -> list[str]:
    """Return the test metrics beside chance and the baselines, then sizes and classifiers.

    Args:
        summary: summary.json of a run: `metrics` and `intervals` (test/…), `confidence`,
            `baselines` ({name: {test/…}}); and where they were measured `chance` (plain names),
            `sizes` ([{size, metrics}]), `zero_shot` and `linear_probe` (plain names of
            classification metrics).
    """
    lines = _retrieval(summary)
    if len(summary.get("sizes", ())) > 1:
        lines += ["", *_sizes(summary["sizes"])]
    classifiers = {
        name: summary[key]
        for key, name in (("zero_shot", "zero-shot"), ("linear_probe", "linear probe"))
        if summary.get(key)
    }
    if classifiers:
        lines += ["", *_classifiers(classifiers)]
    return lines


def _retrieval(summary: Mapping[str, Any]) -> list[str]:
    metrics, chance = summary["metrics"], summary.get("chance", {})
    baselines: Mapping[str, Mapping[str, float]] = summary.get("baselines", {})
    names = ["mean_recall", *(f"{way}_{name}" for way in WAYS for name in RETRIEVAL)]
    head = ["test", "this model", f"{summary['confidence']:.0%} interval", "chance", *baselines]
    rows = [head]
    for name in names:
        key = f"test/{name}"
        if key not in metrics:
            continue
        limits = summary["intervals"].get(key)
        interval = " – ".join(metric_text(name, limit) for limit in limits) if limits else ""
        others = [_written(chance, name), *(_written(one, key) for one in baselines.values())]
        rows.append([name, metric_text(name, metrics[key]), interval, *others])
    return _aligned(rows)


def _sizes(sizes: Sequence[Mapping[str, Any]]) -> list[str]:
    names = ["mean_recall", *(f"{way}_r{k}" for way in WAYS for k in CUTOFFS)]
    rows = [["image size", *(name.replace("_to_", "→").replace("_", " ") for name in names)]]
    rows += [
        [str(one["size"]), *(_written(one["metrics"], name) for name in names)] for one in sizes
    ]
    return _aligned(rows)


def _classifiers(classifiers: Mapping[str, Mapping[str, float]]) -> list[str]:
    names = ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc")
    rows = [["classes", *names]]
    rows += [
        [title, *(_written(metrics, name) for name in names)]
        for title, metrics in classifiers.items()
    ]
    return _aligned(rows)


def _written(metrics: Mapping[str, float], key: str) -> str:
    return metric_text(key, metrics[key]) if key in metrics else ""


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names to the left, numbers to the right, two spaces between columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
