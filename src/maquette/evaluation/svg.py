"""Drawing: scales, ticks, axes and a few SVG elements, as text.

Hand-written rather than drawn by matplotlib: a report then needs no heavy import, follows the
reader's light or dark theme through CSS classes, and stays small. All lengths are in the units of
the figure's view box; y grows downwards.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic map from values [low, high] to positions [start, end]."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False
    """Ticks at whole numbers only: counts, epochs."""

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Return about `count` round values inside [low, high]."""
        if self.log:
            return _log_ticks(self.low, self.high, count)
        ticks = linear_ticks(self.low, self.high, count)
        return [tick for tick in ticks if tick.is_integer()] if self.whole else ticks

    def written(self, ticks: Sequence[float]) -> list[str]:
        """Return the ticks as text."""
        return [number(tick) for tick in ticks] if self.log else tick_labels(ticks)


def linear_ticks(low: float, high: float, count: int) -> list[float]:
    """Return the multiples of 1, 2, 2.5 or 5 × 10^k in [low, high], about `count` of them."""
    if not high > low:
        return [float(low)]
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(index * step) for index in range(first, last + 1)]


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(ticks) >= min(count, 3):
            break
    return ticks[:: max(1, math.ceil(len(ticks) / (count + 1)))]


def nice_range(values: Iterable[float], *, pad: float = 0.05) -> tuple[float, float]:
    """Return (low, high) around the values with a margin; never empty."""
    numbers = list(values)
    low, high = min(numbers), max(numbers)
    margin = (high - low) * pad or abs(high) * pad or 1.0
    return low - margin, high + margin


def number(value: float, digits: int = 3) -> str:
    """Write a number for readers: `digits` significant digits, thousands grouped, no noise."""
    written = fixed(value, digits)
    if "." in written and "e" not in written:
        written = written.rstrip("0").rstrip(".")
    return written


def fixed(value: float, digits: int = 3) -> str:
    """As `number`, but with its trailing zeros, for columns and headlines."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    size = math.floor(math.log10(abs(value)))
    if size >= 15 or size < -5:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    return f"{value:,.{max(0, digits - 1 - size)}f}".replace("-", "−")


def metric_value(value: float) -> str:
    """Write a metric: three decimals below 10, three significant digits above."""
    if abs(value) >= 10:
        return fixed(value)
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")  # + 0.0 turns -0.0 into 0.0


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Write all ticks of a linear axis with the same number of decimals."""
    if all(float(tick).is_integer() for tick in ticks):
        return [f"{tick:,.0f}".replace("-", "−") for tick in ticks]
    largest = max(abs(tick) for tick in ticks)
    step = min((abs(b - a) for a, b in itertools.pairwise(ticks)), default=largest)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    decimals += not math.isclose(step * 10**decimals, round(step * 10**decimals), rel_tol=1e-6)
    if decimals > 5 or largest >= 1e7:
        return [f"{tick:.3g}".replace("-", "−") for tick in ticks]
    return [f"{tick:,.{decimals}f}".replace("-", "−") for tick in ticks]


# Elements


def element(name: str, content: str = "", /, **attributes: str | float | None) -> str:
    """Return one SVG element; `content` is SVG already, attribute values are escaped here.

    Underscores in names become dashes and a trailing one is dropped: class_="x", stroke_width=2.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return escape(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text(x: float, y: float, content: str, /, **attributes: str | float | None) -> str:
    """Return a text element; the content is escaped."""
    return element("text", escape(content), x=x, y=y, **attributes)


def tooltip(content: str) -> str:
    """Return the <title> that browsers show when the pointer rests on an element."""
    return element("title", escape(content))


def path(points: Sequence[Point], /, **attributes: str | float | None) -> str:
    """Return a line through the points."""
    steps = " ".join(f"{_value(float(x))},{_value(float(y))}" for x, y in points)
    return element("path", d=f"M{steps}", **attributes)


def figure(
    body: str,
    *,
    width: float,
    height: float,
    title: str,
    description: str,
    own_size: bool = False,
) -> str:
    """Return a whole plot, named and described for readers who do not see it.

    A plot fills its column; with `own_size` it keeps its size, and scrolls on a narrow page.
    """
    sized = f"width:{width:.0f}px;min-width:{0.75 * width:.0f}px" if own_size else None
    return element(
        "svg",
        element("desc", escape(description)) + body,
        viewBox=f"0 0 {_value(width)} {_value(height)}",
        role="img",
        aria_label=f"{title}. {description}",
        class_="plot",
        style=sized,
    )


def x_axis(scale: Scale, *, y: float, label: str = "", count: int = 5) -> str:
    """Return ticks with numbers under `y`, and the axis label below them in the middle."""
    ticks = scale.ticks(count)
    parts = [element("line", x1=scale.start, x2=scale.end, y1=y, y2=y, class_="axis")]
    for tick, written in zip(ticks, scale.written(ticks), strict=True):
        parts.append(element("line", x1=scale(tick), x2=scale(tick), y1=y, y2=y + 4, class_="axis"))
        parts.append(text(scale(tick), y + 17, written, class_="tick", text_anchor="middle"))
    if label:
        middle = (scale.start + scale.end) / 2
        parts.append(text(middle, y + 35, label, class_="label", text_anchor="middle"))
    return "".join(parts)


def y_axis(scale: Scale, *, x: float, right: float, label: str = "", count: int = 5) -> str:
    """Return grid lines from `x` to `right`, numbers left of `x`, and the label at the top."""
    ticks = scale.ticks(count)
    parts = []
    for tick, written in zip(ticks, scale.written(ticks), strict=True):
        at = scale(tick)
        parts.append(element("line", x1=x, x2=right, y1=at, y2=at, class_="grid"))
        parts.append(text(x - 7, at + 4, written, class_="tick", text_anchor="end"))
    if label:
        parts.append(text(0, 13, label, class_="label"))
    return "".join(parts)


@dataclass(frozen=True)
class Frame:
    """A plotting area: two scales, and the axes around it."""

    across: Scale
    up: Scale

    def __call__(self, x: float, y: float) -> Point:
        return self.across(x), self.up(y)

    def axes(self, *, x_label: str, y_label: str) -> str:
        """Return both axes with grid lines."""
        return y_axis(self.up, x=self.across.start, right=self.across.end, label=y_label) + x_axis(
            self.across, y=self.up.start, label=x_label
        )

    def line(self, points: Iterable[Point], style: str) -> str:
        """Return a line through points given as values."""
        return path([self(x, y) for x, y in points], class_=style)
