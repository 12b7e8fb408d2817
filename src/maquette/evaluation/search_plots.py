"""The plots of a search: how it went, what each key did, which keys mattered.

A `Tried` is one trial as plain data; better trials are drawn darker, the best in the warm colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate, pairwise

from maquette.evaluation.plots import WIDTH, shortened
from maquette.evaluation.svg import (
    Frame,
    Scale,
    element,
    figure,
    nice_range,
    number,
    text,
    tooltip,
    x_axis,
    y_axis,
)

TOP, BOTTOM = 44.0, 224.0


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One trial."""

    number: int
    values: Mapping[str, float | str]
    """Key -> a number, or a choice as text."""
    value: float | None
    """What is compared; None for one that was stopped early or failed."""
    curve: Sequence[tuple[int, float]]
    """(epoch, value so far)."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Where the values of one key lie."""

    key: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[str, ...] = ()
    """The choices in order; then there is no range."""

    def scale(self, start: float, end: float) -> Scale:
        """Return the map from values, or positions of choices, to the figure."""
        if self.choices:
            return Scale(-0.5, len(self.choices) - 0.5, start, end)
        return Scale(self.low, self.high, start, end, log=self.log)

    def position(self, value: float | str) -> float:
        """Return where on the scale a value lies."""
        return float(self.choices.index(str(value))) if self.choices else float(value)

    @property
    def short(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]


def best_of(tried: Sequence[Tried], *, larger_is_better: bool) -> Tried | None:
    """Return the best of those that have a value, the first of equals."""
    sign = 1 if larger_is_better else -1
    done = [one for one in tried if one.value is not None]
    return max(done, key=lambda one: sign * (one.value or 0.0), default=None)


def history_plot(tried: Sequence[Tried], *, monitor: str, larger_is_better: bool) -> str:
    """Draw the value of each trial in order, and the best so far as a line.

    Trials that were stopped early are hollow, at the best value they had reached.
    """
    choose = max if larger_is_better else min
    heights = {
        one.number: one.value
        if one.value is not None
        else choose((value for _, value in one.curve), default=None)
        for one in tried
    }
    done = [one for one in tried if one.value is not None]
    shown = [value for value in heights.values() if value is not None]
    frame = Frame(
        Scale(0, max(max(heights), 1), 46, WIDTH - 20, whole=True),
        Scale(*nice_range(_without_outliers(shown, larger_is_better)), BOTTOM, TOP),
    )
    body = text(0, 13, f"{monitor} of each trial", class_="heading")
    body += frame.axes(x_label="trial", y_label="")
    so_far = list(accumulate((one.value or 0.0 for one in done), choose))
    steps = [(one.number, best) for one, best in zip(done, so_far, strict=True)]
    corners = [
        point for (_, before), (x, best) in pairwise(steps) for point in ((x, before), (x, best))
    ]
    if corners:
        body += frame.line([steps[0], *corners], "line ours")
    winner = best_of(tried, larger_is_better=larger_is_better)
    for one in tried:
        value = heights[one.number]
        if value is not None:
            style = "hollow" if one.value is None else "dot other"
            body += _mark(frame, one, value, "dot best" if one is winner else style)
    told = f"best {number(winner.value or 0.0, 4)} in trial {winner.number}" if winner else "none"
    return figure(body, width=WIDTH, height=264, title="History", description=told)


def slice_plot(tried: Sequence[Tried], axis: Axis, *, monitor: str, larger_is_better: bool) -> str:
    """Draw the value over one key: a slope says that the key matters."""
    done = [one for one in tried if one.value is not None]
    values = [one.value or 0.0 for one in done]
    across = axis.scale(46, WIDTH - 20)
    limits = nice_range(_without_outliers(values, larger_is_better))
    frame = Frame(across, Scale(*limits, BOTTOM, TOP))
    body = text(0, 13, shortened(axis.key, 44), class_="heading")
    body += y_axis(frame.up, x=46, right=WIDTH - 20)
    body += _choices_below(axis, across) if axis.choices else x_axis(across, y=BOTTOM)
    winner = best_of(tried, larger_is_better=larger_is_better)
    for one in sorted(done, key=lambda one: one is winner):
        at = axis.position(one.values[axis.key])
        style = "dot best" if one is winner else "dot other"
        body += _mark(frame, one, one.value or 0.0, style, x=at)
    note = f"{monitor} over {axis.key}"
    return figure(body, width=WIDTH, height=252, title=axis.key, description=note)


def parallel_plot(
    tried: Sequence[Tried], axes: Sequence[Axis], *, monitor: str, larger_is_better: bool
) -> str:
    """Draw each trial as a line over all keys, ending at its value; the best is drawn last."""
    done = [one for one in tried if one.value is not None]
    values = [one.value or 0.0 for one in done]
    width, bottom, top = max(620.0, 130.0 * (len(axes) + 1)), 250.0, 44.0
    step = (width - 140) / len(axes)
    xs = [50 + step * index for index in range(len(axes) + 1)]
    low, high = nice_range(_without_outliers(values, larger_is_better))
    last = Axis(key=monitor, low=low, high=high)
    body = ""
    order = sorted(done, key=lambda one: (one.value or 0.0) * (1 if larger_is_better else -1))
    for rank, one in enumerate(order, 1):
        points = [
            (x, axis.scale(bottom, top)(axis.position(one.values[axis.key])))
            for x, axis in zip(xs, axes, strict=False)
        ]
        points.append((xs[-1], _inside(last.scale(bottom, top), one.value or 0.0)))
        share = rank / len(order)
        style = "low" if share <= 0.5 else "mid" if share <= 0.8 else "high"
        style = "best" if rank == len(order) else style
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        told = tooltip(f"trial {one.number}: {number(one.value or 0.0, 4)}")
        body += element("path", told, d=f"M{line}", class_=f"thin {style}")
    for x, axis in zip(xs, [*axes, last], strict=True):
        body += _upright(axis, x, bottom, top)
    told = f"{len(done)} trials over {', '.join(axis.key for axis in axes)}"
    return figure(body, width=width, height=292, title="All keys at once", description=told)


def importance_plot(importance: Mapping[str, float]) -> str:
    """Draw how much of the spread of the values each key explains."""
    row, top = 30.0, 28.0
    scale = Scale(0, max(importance.values()), 150, WIDTH - 50)
    body = text(0, 13, "What mattered", class_="heading")
    body += text(WIDTH, 13, "share of the spread", class_="tick", text_anchor="end")
    for index, (key, share) in enumerate(importance.items()):
        y = top + row * index
        body += text(0, y + 17, shortened(key.rpartition(".")[2], 20), class_="name")
        body += element(
            "rect", tooltip(key), x=150, width=max(1.0, scale(share) - 150), y=y + 6, height=14,
            class_="bar ours",
        )  # fmt: skip
        body += text(scale(share) + 6, y + 17, f"{share:.0%}", class_="tick")
    described = ", ".join(f"{key} {share:.0%}" for key, share in importance.items())
    height = top + row * len(importance) + 8
    return figure(body, width=WIDTH, height=height, title="Importance", description=described)


def _mark(frame: Frame, one: Tried, value: float, style: str, *, x: float | None = None) -> str:
    cx, _ = frame(one.number if x is None else x, value)
    cy = _inside(frame.up, value)
    told = tooltip(f"trial {one.number}: {number(value, 4)}")
    return element("circle", told, cx=cx, cy=cy, r=5 if "best" in style else 4, class_=style)


def _inside(scale: Scale, value: float) -> float:
    """Keep what is off the axis at its edge."""
    return scale(min(max(value, scale.low), scale.high))


def _without_outliers(values: Sequence[float], larger_is_better: bool) -> list[float]:
    """Drop the worst values that would press all others together, for the range of an axis."""
    ordered = sorted(values, reverse=larger_is_better)  # the best first
    half = ordered[: max(2, math.ceil(0.5 * len(ordered)))]
    reach = 4 * abs(half[-1] - half[0]) or math.inf
    return [value for value in ordered if abs(value - ordered[0]) <= reach]


def _choices_below(axis: Axis, across: Scale) -> str:
    line = element("line", x1=across.start, x2=across.end, y1=BOTTOM, y2=BOTTOM, class_="axis")
    room = int((across.end - across.start) / len(axis.choices) / 7)
    return line + "".join(
        text(across(index), BOTTOM + 17, shortened(name, room), class_="tick", text_anchor="middle")
        for index, name in enumerate(axis.choices)
    )


def _upright(axis: Axis, x: float, bottom: float, top: float) -> str:
    """Draw one vertical axis with its name above and its ends marked."""
    scale = axis.scale(bottom, top)
    body = element("line", x1=x, x2=x, y1=bottom, y2=top, class_="axis")
    name = tooltip(axis.key) + escape(shortened(axis.short, 18))
    body += element("text", name, x=x, y=24, class_="name", text_anchor="middle")
    if axis.choices:
        marks = [(float(index), shortened(name, 12)) for index, name in enumerate(axis.choices)]
    else:
        ticks = scale.ticks(4)
        marks = list(zip(ticks, scale.written(ticks), strict=True))
    for at, written in marks:
        body += element("line", x1=x - 3, x2=x + 3, y1=scale(at), y2=scale(at), class_="axis")
        body += text(x + 7, scale(at) + 4, written, class_="tick")
    return body
