"""The plots of every report, each a small function from numbers to one SVG figure.

Those of classifiers are in class_plots.py, those of regressions in number_plots.py. Colours are
CSS classes (page/report.css), so plots follow the reader's theme: `ours` the network or the
validation split, `other` what it is compared with, `wrong` errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maquette.evaluation.bootstrap import Interval
from maquette.evaluation.svg import (
    Frame,
    Point,
    Scale,
    element,
    figure,
    metric_value,
    nice_range,
    number,
    text,
    tooltip,
    x_axis,
)

WIDTH = 400.0
"""Of most plots: readable at its own size on a phone, two side by side on a desk."""
MAX_POINTS = 1500
"""Marks in a scatter plot and vertices of a line; more are thinned out evenly."""


@dataclass(frozen=True)
class Series:
    """One line of a line chart."""

    name: str
    style: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Contender:
    """One row of a dot plot."""

    name: str
    value: float
    interval: Interval | None = None


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    mark: float | None = None,
    mark_name: str = "best",
    whole: bool = True,
) -> str:
    """Draw lines over epochs, or another x; `mark` is one x to point out, by default as the best.

    `whole` puts ticks at whole numbers only. The y axis is logarithmic when all values are positive
    and span a factor of 30 or more.
    """
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    log = min(ys) > 0 and max(ys) / min(ys) >= 30
    low, high = (min(ys) / 1.2, max(ys) * 1.2) if log else nice_range(ys)
    room = max(50.0, 10 + 6.4 * max(len(one.name) for one in series))
    frame = Frame(
        Scale(min(xs), max(xs), 46, WIDTH - room, whole=whole), Scale(low, high, 224, 44, log=log)
    )
    body = text(0, 13, title, class_="heading")
    if log:
        body += text(WIDTH, 13, "log scale", class_="tick", text_anchor="end")
    body += frame.axes(x_label=x_label, y_label="")
    if mark is not None:
        body += _mark(frame, mark, mark_name)
    label_at = _spread_out([frame.up(one.points[-1][1]) for one in series], 15)
    for one, label_y in zip(series, label_at, strict=True):
        body += _labelled_line(frame, one, label_y)
    ends = ", ".join(f"{one.name} ends at {number(one.points[-1][1])}" for one in series)
    return figure(body, width=WIDTH, height=264, title=title, description=ends)


def _mark(frame: Frame, x: float, name: str) -> str:
    at, top, bottom = frame.across(x), frame.up.end, frame.up.start
    line = element("line", x1=at, x2=at, y1=top - 2, y2=bottom, class_="mark")
    return line + text(at, top - 8, f"{name}: {x:g}", class_="tick", text_anchor="middle")


def _labelled_line(frame: Frame, series: Series, label_y: float) -> str:
    points = thinned(series.points)
    x, y = frame(*points[-1])
    told = tooltip(f"{series.name}: {number(points[-1][1], 4)}")
    return (
        (frame.line(points, f"line {series.style}") if len(points) > 1 else "")
        + element("circle", told, cx=x, cy=y, r=3, class_=f"dot {series.style}")
        + text(x + 8, label_y + 4, series.name, class_=f"name {series.style}")
    )


def dot_plot(
    contenders: Sequence[Contender],
    *,
    title: str,
    note: str,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> str:
    """Compare values: ours first, with its interval, then the others, the best of them first.

    The axis frames ours and the best other, within `limits`; whoever is off it gets an arrow at
    its edge. What a name says in parentheses goes on a line of its own.
    """
    near = [c.value for c in contenders[:2]] + list(contenders[0].interval or ())
    low, high = nice_range(near, pad=0.15)
    row, top = 32.0, 28.0
    scale = Scale(max(low, limits[0]), min(high, limits[1]), 128, WIDTH - 66)
    bottom = top + row * len(contenders)
    body = text(0, 13, title, class_="heading")
    body += text(WIDTH, 13, note, class_="tick", text_anchor="end")
    for tick in scale.ticks(4):
        body += element("line", x1=scale(tick), x2=scale(tick), y1=top, y2=bottom, class_="grid")
    for index, contender in enumerate(contenders):
        body += _contender(
            contender, scale, top + row * (index + 0.5), "other" if index else "ours"
        )
    body += x_axis(scale, y=bottom, count=4)
    described = ", ".join(f"{c.name} {metric_value(c.value)}" for c in contenders)
    return figure(body, width=WIDTH, height=bottom + 24, title=title, description=described)


def _contender(contender: Contender, scale: Scale, y: float, style: str) -> str:
    name, _, detail = contender.name.partition(" (")
    body = text(0, y + (-1 if detail else 4), shortened(name, 18), class_=f"name {style}")
    if detail:
        body += text(0, y + 12, detail.rstrip(")"), class_="tick", font_size=10)
    if contender.interval:
        start, end = (scale(limit) for limit in contender.interval)
        body += element("line", x1=start, x2=end, y1=y, y2=y, class_=f"whisker {style}")
    if scale.low <= contender.value <= scale.high:
        body += element("circle", cx=scale(contender.value), cy=y, r=5, class_=f"dot {style}")
    else:
        edge, out = (scale.start, -1) if contender.value < scale.low else (scale.end, 1)
        arrow = f"M{edge},{y - 5} l{8 * out},5 l{-8 * out},5 z"
        body += element("path", tooltip("off the axis"), d=arrow, class_=f"dot {style}")
    value = metric_value(contender.value)
    return body + text(WIDTH, y + 4, value, class_=f"name {style}", text_anchor="end")


def sparkline(counts: Sequence[float], *, title: str) -> str:
    """Draw a small histogram without numbers."""
    width, height = 200.0, 44.0
    step, tallest = width / len(counts), max(counts) or 1
    bars = ""
    for index, count in enumerate(counts):
        tall = max(1.0, (height - 2) * count / tallest) if count else 0.0
        bars += element(
            "rect", x=index * step + 0.5, width=step - 1, y=height - tall, height=tall,
            class_="bar other",
        )  # fmt: skip
    bars += element("line", x1=0, x2=width, y1=height, y2=height, class_="axis")
    return figure(bars, width=width, height=height, title=title, description="histogram")


def thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Return every k-th point, and always the last."""
    step = -(-len(points) // MAX_POINTS)
    kept = list(points[::step])
    return kept if step == 1 or kept[-1] == points[-1] else [*kept, points[-1]]


def shortened(name: str, length: int) -> str:
    """Return `name`, cut with an ellipsis where it is longer than `length`."""
    return name if len(name) <= length else name[: length - 1] + "…"


def _spread_out(positions: Sequence[float], apart: float) -> list[float]:
    """Move label positions apart until none overlap, staying around where they were."""
    moved = np.array(positions, dtype=np.float64)
    last = -np.inf
    for index in np.argsort(positions):
        moved[index] = last = max(moved[index], last + apart)
    return list((moved - (moved - positions).mean()).tolist())
