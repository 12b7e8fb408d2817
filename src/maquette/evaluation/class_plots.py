"""Plots of a classifier: which class went where, and whether its confidence can be believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maquette.evaluation.calibration import ReliabilityCurve
from maquette.evaluation.checks import Floats
from maquette.evaluation.plots import WIDTH, shortened, thinned
from maquette.evaluation.svg import (
    Frame,
    Scale,
    element,
    figure,
    number,
    text,
    tooltip,
    x_axis,
    y_axis,
)

MANY_CLASSES = 20
"""Beyond these, cells of the confusion matrix are too small for numbers."""

LEFT, RIGHT, TOP, BOTTOM = 46.0, WIDTH - 12, 34.0, 324.0
"""The plotting area of the square plots."""


def confusion_plot(confusion: Floats, classes: Sequence[str]) -> str:
    """Draw counts (N, N): rows are the truth, columns the prediction, shade the share of the row.

    Up to 20 classes the cells carry their counts; beyond, pointing at a cell tells.
    """
    num = len(classes)
    cell = float(np.clip(460 / num, 14, 84 if num <= 4 else 56))
    font = 12.0 if num <= MANY_CLASSES else 10.0
    labels = [shortened(name, 18) for name in classes]
    longest = max(len(label) for label in labels) * font * 0.58
    turned = 0 if longest < cell else 40 if num <= MANY_CLASSES else 90
    rise = longest * float(np.sin(np.radians(turned))) if turned else 0.0
    left, top, side = 18 + longest, 42 + rise, num * cell
    totals = confusion.sum(axis=1)
    body = text(0, 12, "truth ↓   prediction →", class_="label")
    body += _class_labels(labels, cell=cell, left=left, top=top, font=font, turned=turned)
    body += element("rect", x=left, y=top, width=side, height=side, class_="field")
    for row, column in zip(*np.nonzero(confusion), strict=True):
        count = confusion[row, column]
        body += _cell(
            x=left + column * cell, y=top + row * cell, size=cell, count=count,
            share=count / totals[row], is_right=bool(row == column), with_count=num <= MANY_CLASSES,
            told=f"{classes[row]} → {classes[column]}: {count:.0f} of {totals[row]:.0f}",
        )  # fmt: skip
    right = f"{np.trace(confusion):.0f} of {totals.sum():.0f}"
    overhang = longest * 0.7 if turned == 40 else 4
    return figure(
        body, width=left + side + overhang, height=top + side + 4, title="Confusion matrix",
        description=f"{right} test samples on the diagonal of {num} classes", own_size=True,
    )  # fmt: skip


def _class_labels(
    labels: Sequence[str], *, cell: float, left: float, top: float, font: float, turned: int
) -> str:
    body = ""
    for index, label in enumerate(labels):
        middle = (index + 0.5) * cell
        x, y = left + middle + (font / 3 if turned else 0), top - 8
        body += text(
            x, y, label, class_="tick", font_size=font,
            text_anchor=None if turned else "middle",
            transform=f"rotate({-turned} {x:.1f} {y:.1f})" if turned else None,
        )  # fmt: skip
        body += text(
            left - 8, top + middle + font / 3, label,
            class_="tick", font_size=font, text_anchor="end",
        )  # fmt: skip
    return body


def _cell(
    *, x: float, y: float, size: float, count: float, share: float, is_right: bool,
    with_count: bool, told: str,
) -> str:  # fmt: skip
    """Draw one cell; errors are rare, so a square root lifts them to where the eye sees them."""
    strength = share if is_right else float(np.sqrt(share))
    body = element(
        "rect", tooltip(told), x=x + 0.5, y=y + 0.5, width=size - 1, height=size - 1, rx=2,
        class_="right" if is_right else "wrong", fill_opacity=0.1 + 0.9 * strength,
    )  # fmt: skip
    if with_count:
        tone = "on-dark" if strength > 0.75 else "on-light"
        middle = x + size / 2, y + size / 2 + 4
        body += text(*middle, f"{count:.0f}", class_=f"count {tone}", text_anchor="middle")
    return body


def reliability_plot(curve: ReliabilityCurve) -> str:
    """Draw accuracy against confidence, and below it how many samples are where.

    On the dashed line confidence is honest. Bins with few samples are faint.
    """
    foot = BOTTOM
    frame = Frame(Scale(0, 1, LEFT, RIGHT), Scale(0, 1, foot - 68, TOP))
    body = y_axis(frame.up, x=LEFT, right=RIGHT, label="accuracy")
    body += frame.line([(0, 0), (1, 1)], "diagonal")
    for index, share in enumerate(curve.counts / curve.counts.max()):
        body += _reliability_bin(frame, curve, index, share=float(share), foot=foot)
    body += text(LEFT, frame.up.start + 18, "samples", class_="tick")
    body += x_axis(frame.across, y=foot, label="confidence")
    return _square_figure(
        body, title="Reliability diagram", description=f"{len(curve.counts)} bins of confidence"
    )


def _reliability_bin(
    frame: Frame, curve: ReliabilityCurve, index: int, *, share: float, foot: float
) -> str:
    low, high = float(curve.lower[index]), float(curve.upper[index])
    confidence, accuracy = float(curve.confidence[index]), float(curve.accuracy[index])
    told = tooltip(
        f"confidence {confidence:.3f}, accuracy {accuracy:.3f}, "
        f"{curve.counts[index]} samples between {low:.2f} and {high:.2f}"
    )
    x, width = frame.across(low) + 1, frame.across(high) - frame.across(low) - 2
    upper, lower = sorted((frame.up(confidence), frame.up(accuracy)))
    tall = max(1.5, 44 * share)
    gap = element("rect", x=x, y=upper, width=width, height=lower - upper, class_="gap")
    step = element("rect", x=x, y=frame.up(accuracy) - 1.5, width=width, height=3, class_="right")
    bar = element("rect", x=x, y=foot - tall, width=width, height=tall, class_="bar other")
    return element("g", told + element("g", gap + step, opacity=0.3 + 0.7 * share**0.5) + bar)


def coverage_plot(is_right: Floats, confidence: Floats) -> str:
    """Draw accuracy over the surest share of the samples: what a threshold would buy."""
    order = np.argsort(-confidence, kind="stable")
    kept = np.arange(1, len(order) + 1)
    ends = np.append(np.diff(confidence[order]) != 0, True)  # equal confidence stays together
    accuracy = (np.cumsum(is_right[order]) / kept)[ends].tolist()
    shares = (kept[ends] / len(order)).tolist()
    low = max(0.0, min(0.9, min(accuracy) - 0.02))
    frame = Frame(Scale(0, 1, LEFT, RIGHT), Scale(low, 1, BOTTOM, TOP))
    body = frame.axes(x_label="share of samples kept", y_label="accuracy of the surest")
    points = [(0.0, accuracy[0]), *zip(shares, accuracy, strict=True)]
    body += frame.line(thinned(points), "line ours")
    x, y = frame(*points[-1])
    body += element("circle", cx=x, cy=y, r=3, class_="dot ours")
    described = f"{number(accuracy[-1])} when all samples are kept"
    return _square_figure(body, title="Accuracy of the surest samples", description=described)


def roc_plot(is_positive: Floats, scores: Floats, *, positive: str) -> str:
    """Draw the true against the false positive rate over all thresholds, for two classes."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # one point per tie
    hits = np.append(0, np.cumsum(is_positive[order])[ends])
    misses = np.append(0, np.cumsum(1 - is_positive[order])[ends])
    points = list(zip((misses / misses[-1]).tolist(), (hits / hits[-1]).tolist(), strict=True))
    frame = Frame(Scale(0, 1, LEFT, RIGHT), Scale(0, 1, BOTTOM, TOP))
    body = frame.axes(
        x_label="false positive rate",
        y_label=f"true positive rate of {shortened(positive, 24)}",
    )
    body += frame.line([(0, 0), (1, 1)], "diagonal") + frame.line(thinned(points), "line ours")
    return _square_figure(body, title="ROC curve", description=f"positive class {positive}")


def _square_figure(body: str, *, title: str, description: str) -> str:
    return figure(body, width=WIDTH, height=BOTTOM + 42, title=title, description=description)
