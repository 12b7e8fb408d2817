"""Plots of image-text models: recall beside chance, and maps of the shared space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from maquette.evaluation.bootstrap import Interval
from maquette.evaluation.embedding_map import EmbeddingMap
from maquette.evaluation.plots import WIDTH, shortened
from maquette.evaluation.report_text import WAYS
from maquette.evaluation.retrieval import CUTOFFS
from maquette.evaluation.svg import (
    Frame,
    Scale,
    element,
    figure,
    metric_value,
    nice_range,
    text,
    tooltip,
    x_axis,
)

NUM_HUES = 7
"""Labels with a colour of their own; the rarer ones share the last."""


def recall_plot(
    metrics: Mapping[str, float],
    chance: Mapping[str, float],
    intervals: Mapping[str, Interval],
) -> str:
    """Draw R@1, R@5 and R@10 of both directions with intervals, and a tick where chance is.

    Args:
        metrics, chance, intervals: by plain name; intervals may be empty.
    """
    scale, row, top = Scale(0, 1, 96, WIDTH - 56), 26.0, 30.0
    body = text(0, 13, "Recall", class_="heading")
    body += text(WIDTH, 13, "tick: a random ranking", class_="tick", text_anchor="end")
    rows, y = "", top
    for way, words in WAYS.items():
        y += 22
        rows += text(0, y, words, class_="tick")
        for k in CUTOFFS:
            y += row
            name = f"{way}_r{k}"
            rows += _recall(
                f"R@{k}", metrics[name], chance[name], intervals.get(name), scale=scale, y=y - 8
            )
    for tick in scale.ticks(5):
        body += element("line", x1=scale(tick), x2=scale(tick), y1=top, y2=y + 6, class_="grid")
    body += rows + x_axis(scale, y=y + 6)
    described = ", ".join(
        f"{words} R@{k} {metric_value(metrics[f'{way}_r{k}'])}"
        for way, words in WAYS.items()
        for k in CUTOFFS
    )
    return figure(body, width=WIDTH, height=y + 30, title="Recall", description=described)


def _recall(
    name: str,
    value: float,
    chance: float,
    interval: Interval | None,
    *,
    scale: Scale,
    y: float,
) -> str:
    at = scale(chance)
    told = tooltip(f"{name}: {metric_value(value)}, by chance {metric_value(chance)}")
    body = text(scale.start - 10, y + 4, name, class_="name other", text_anchor="end")
    body += element("line", x1=at, x2=at, y1=y - 7, y2=y + 7, class_="chance")
    if interval:
        start, end = (scale(limit) for limit in interval)
        body += element("line", x1=start, x2=end, y1=y, y2=y, class_="whisker ours")
    body += element("circle", told, cx=scale(value), cy=y, r=5, class_="dot ours")
    return body + text(WIDTH, y + 4, metric_value(value), class_="name ours", text_anchor="end")


def map_plot(shown: EmbeddingMap, hues: Mapping[str, int]) -> str:
    """Draw images as dots and texts as rings, on axes of equal scale without numbers.

    Args:
        hues: the colour of each label, from `label_hues`; without labels, images and texts have
            one each.
    """
    side, edge = WIDTH - 2, 30.0
    frame = _square(shown, start=1, end=side, top=edge)
    body = text(0, 13, shown.method, class_="heading")
    if shown.explained is not None:
        note = f"{100 * shown.explained:.0f} % of the variance"
        body += text(WIDTH, 13, note, class_="tick", text_anchor="end")
    body += element("rect", x=1, y=edge, width=side - 1, height=side - 1, class_="field", rx=4)
    num = len(shown.images)
    for row in range(num):
        label = shown.labels[row] if shown.labels else None
        name = shown.captions[row] if shown.captions else label
        for kind, points in (("image", shown.images), ("text", shown.texts)):
            hue = hues[label] if label is not None else ("image", "text").index(kind)
            x, y = frame(float(points[row, 0]), float(points[row, 1]))
            told = tooltip(f"{kind}: {shortened(name, 90)}" if name else kind)
            style = f"{'point' if kind == 'image' else 'ring'} hue-{hue}"
            body += element("circle", told, cx=x, cy=y, r=3, class_=style)
    described = f"{num} images as dots and their texts as rings"
    return figure(
        body, width=WIDTH, height=edge + side + 2, title=f"{shown.method} map",
        description=described,
    )  # fmt: skip


def _square(shown: EmbeddingMap, *, start: float, end: float, top: float) -> Frame:
    """Scales that give both axes the same unit, the points in the middle."""
    centres, reach = [], 0.0
    for axis in (0, 1):
        values: list[float] = [*shown.images[:, axis].tolist(), *shown.texts[:, axis].tolist()]
        low, high = nice_range(values)
        centres.append((low + high) / 2)
        reach = max(reach, (high - low) / 2)
    across = Scale(centres[0] - reach, centres[0] + reach, start, end)
    return Frame(across, Scale(centres[1] - reach, centres[1] + reach, top + end - start, top))


def label_hues(labels: Sequence[str]) -> dict[str, int]:
    """Number the labels, the commonest first; all beyond `NUM_HUES` share the number of the last.

    Labels that are equally common are taken in alphabetical order.
    """
    counts = Counter(labels)
    order = sorted(counts, key=lambda label: (-counts[label], label))
    return {label: min(index, NUM_HUES) for index, label in enumerate(order)}
