"""Plots of a regression: predictions beside the truth, and what is left over. n samples."""

from __future__ import annotations

import numpy as np

from maquette.evaluation.checks import Floats
from maquette.evaluation.plots import WIDTH, shortened, thinned
from maquette.evaluation.svg import Frame, Scale, element, figure, nice_range, number, tooltip

LEFT, RIGHT, TOP = 56.0, WIDTH - 12, 34.0
"""The plotting area; its bottom depends on the plot."""


def agreement_plot(targets: Floats, predictions: Floats, *, name: str) -> str:
    """Draw predictions (n,) against the truth (n,); perfect ones lie on the diagonal."""
    low, high = nice_range([*targets.tolist(), *predictions.tolist()], pad=0.03)
    frame = Frame(Scale(low, high, LEFT, RIGHT), Scale(low, high, 330, TOP))
    body = frame.axes(x_label=f"true {shortened(name, 30)}", y_label="prediction")
    body += frame.line([(low, low), (high, high)], "diagonal") + _cloud(frame, targets, predictions)
    return _figure(
        frame, body, "Prediction against truth", f"{len(targets)} test samples and the diagonal"
    )


def residual_plot(targets: Floats, predictions: Floats) -> str:
    """Draw errors against predictions; structure in it is something the model has not learned."""
    errors = predictions - targets
    reach = float(np.abs(errors).max()) * 1.08 or 1.0
    low, high = nice_range(predictions.tolist(), pad=0.03)
    frame = Frame(Scale(low, high, LEFT, RIGHT), Scale(-reach, reach, 330, TOP))
    body = frame.axes(x_label="prediction", y_label="prediction − truth")
    body += frame.line([(low, 0), (high, 0)], "diagonal") + _cloud(frame, predictions, errors)
    return _figure(
        frame, body, "Errors against predictions", f"{len(targets)} test samples around zero"
    )


def error_histogram(errors: Floats, *, num_bins: int = 30) -> str:
    """Draw how often each error (n,) occurs; a line marks zero where it is inside."""
    counts, edges = np.histogram(errors, bins=min(num_bins, max(5, len(errors) // 4)))
    frame = Frame(
        Scale(float(edges[0]), float(edges[-1]), LEFT, RIGHT),
        Scale(0, float(counts.max()) * 1.05, 234, TOP, whole=True),
    )
    body = frame.axes(x_label="prediction − truth", y_label="samples")
    for count, low, high in zip(
        counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True
    ):
        (x, y), (end, bottom) = frame(low, count), frame(high, 0)
        body += element(
            "rect", tooltip(f"{number(low)} to {number(high)}: {count}"), class_="bar ours",
            x=x + 0.5, width=end - x - 1, y=y, height=bottom - y,
        )  # fmt: skip
    if edges[0] < 0 < edges[-1]:
        body += frame.line([(0, 0), (0, frame.up.high)], "diagonal")
    return _figure(
        frame, body, "Errors", f"from {number(float(edges[0]))} to {number(float(edges[-1]))}"
    )


def within_plot(errors: Floats) -> str:
    """Draw the share of samples whose error (n,) is no larger than a given size."""
    sizes = np.sort(np.abs(errors))
    shares = np.arange(1, len(sizes) + 1) / len(sizes)
    high = float(sizes[-1]) or 1.0
    frame = Frame(Scale(0, high, LEFT, RIGHT), Scale(0, 1, 234, TOP))
    body = frame.axes(x_label="absolute error", y_label="share of samples within")
    points = [(0.0, 0.0), *zip(sizes.tolist(), shares.tolist(), strict=True)]
    body += frame.line(thinned(points), "line ours")
    half = number(float(np.median(sizes)))
    return _figure(frame, body, "Share of samples within an error", f"half are within {half}")


def _cloud(frame: Frame, xs: Floats, ys: Floats) -> str:
    """Return one dot per sample, thinned to a number a browser draws at once."""
    points = thinned(list(zip(xs.tolist(), ys.tolist(), strict=True)))
    dots = (element("circle", cx=x, cy=y, r=2.6) for x, y in (frame(*point) for point in points))
    return element("g", "".join(dots), class_="cloud")


def _figure(frame: Frame, body: str, title: str, description: str) -> str:
    height = frame.up.start + 42
    return figure(body, width=WIDTH, height=height, title=title, description=description)
