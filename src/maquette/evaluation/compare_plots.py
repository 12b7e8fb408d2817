"""Runs as dots on one axis, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maquette.evaluation.bootstrap import Interval
from maquette.evaluation.plots import WIDTH, shortened
from maquette.evaluation.svg import (
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

ROW, TOP = 26.0, 28.0


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One run, or the mean of several."""

    name: str
    style: str
    """A CSS class: c0 … c7."""
    value: float
    interval: Interval | None


def run_dots(dots: Sequence[Dot], *, title: str, note: str) -> str:
    """Draw a row per run, in the order given, so that every metric shows the same rows."""
    left = 26.0 if max(len(dot.name) for dot in dots) <= 3 else 110.0
    limits = [end for dot in dots for end in (dot.value, *(dot.interval or ()))]
    scale = Scale(*nice_range(limits, pad=0.1), left, WIDTH - 66)
    bottom = TOP + ROW * len(dots)
    body = text(0, 13, shortened(title, 36), class_="heading")
    body += text(WIDTH, 13, note, class_="tick", text_anchor="end")
    for tick in scale.ticks(4):
        body += element("line", x1=scale(tick), x2=scale(tick), y1=TOP, y2=bottom, class_="grid")
    for index, dot in enumerate(dots):
        body += _row(dot, scale, TOP + ROW * (index + 0.5))
    body += x_axis(scale, y=bottom, count=4)
    described = ", ".join(f"{dot.name} {metric_value(dot.value)}" for dot in dots)
    return figure(body, width=WIDTH, height=bottom + 24, title=title, description=described)


def _row(dot: Dot, scale: Scale, y: float) -> str:
    body = text(0, y + 4, shortened(dot.name, 16), class_=f"name {dot.style}")
    if dot.interval is not None:
        start, end = (scale(limit) for limit in dot.interval)
        body += element("line", x1=start, x2=end, y1=y, y2=y, class_=f"whisker {dot.style}")
    told = tooltip(f"{dot.name}: {number(dot.value, 4)}")
    body += element("circle", told, cx=scale(dot.value), cy=y, r=5, class_=f"dot {dot.style}")
    value = metric_value(dot.value)
    return body + text(WIDTH, y + 4, value, class_=f"name {dot.style}", text_anchor="end")
