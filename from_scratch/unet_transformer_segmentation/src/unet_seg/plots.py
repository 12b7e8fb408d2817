"""Pictures of runs, drawn by matplotlib: the curves of one run, and several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unet_seg.runs import read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL_LENGTH = 40
"""Longer names of configurations are cut in a plot."""

COLOURS = ("#2f6fab", "#d1495b", "#3c8d5a", "#8a5fb0", "#c98a1b", "#4a4a4a", "#17a2a2", "#b03a8c")


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """A figure that belongs to no window, with `columns` axes in a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, list(axes)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all."""
    temporary = path.with_name(f".{path.stem}.tmp.png")
    try:
        figure.savefig(temporary, dpi=130)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def column(rows: Sequence[Mapping[str, str]], name: str) -> tuple[list[int], list[float]]:
    """The steps at which a column of metrics.csv has a value, and these values."""
    filled = [(int(r["step"]), float(r[name])) for r in rows if r.get(name)]
    return [step for step, _ in filled], [value for _, value in filled]


def draw_curves(run: Path) -> Path:
    """Draw curves.png of a run: losses, IoU of each class, learning rate.

    Args:
        run: run folder with metrics.csv; columns without values give empty axes.
    Returns:
        The path of the picture.
    """
    rows = read_rows(run)
    figure, (left, middle, right) = new_figure(13, 3.8, columns=3)
    for name, colour in (("train/loss", COLOURS[0]), ("valid/loss", COLOURS[1])):
        left.plot(*column(rows, name), color=colour, label=name)
    left.set(title="loss", xlabel="step")
    if left.get_ylim()[0] > 0:  # a boundary loss lies below 0
        left.set_ylim(bottom=0)
    left.legend(frameon=False)

    classes = [n for n in (rows[0] if rows else {}) if n.startswith("valid/iou/")]
    for index, name in enumerate(classes):
        colour = COLOURS[(index + 1) % len(COLOURS)]
        middle.plot(*column(rows, name), color=colour, lw=1, label=name.removeprefix("valid/iou/"))
    middle.plot(*column(rows, "valid/mean_iou"), color=COLOURS[0], lw=2.5, label="mean")
    middle.set(title="validation IoU", xlabel="step", ylim=(0, 1))
    middle.legend(frameon=False, fontsize="small")

    right.plot(*column(rows, "lr"), color=COLOURS[0])
    right.set(title="learning rate", xlabel="step", ylim=(0, None))
    path = run / "curves.png"
    save_figure(figure, path)
    return path


def draw_comparison(
    groups: Mapping[str, Sequence[Path]], scores: Mapping[str, Sequence[float | None]], path: Path
) -> None:
    """Draw groups of runs: the best mean IoU of each run, and its course over the steps.

    The courses are left out where there are more groups than colours to tell them apart.

    Args:
        groups: name of a configuration -> its runs (seeds).
        scores: the same names -> the best mean IoU of each of these runs; None if it has none.
        path: the PNG to write.
    """
    height = 0.35 * len(groups) + 2.4
    if len(groups) <= len(COLOURS):
        figure, (ends, courses) = new_figure(12, max(height, 4), columns=2)
        _draw_courses(courses, groups)
    else:
        figure, (ends,) = new_figure(8, height)
    for index, name in enumerate(groups):
        colour = COLOURS[index % len(COLOURS)]
        best = [score for score in scores[name] if score is not None]
        ends.plot(best, [index] * len(best), "o", color=colour, alpha=0.6)
        if best:
            ends.plot(sum(best) / len(best), index, "|", color=colour, ms=22, mew=2.5)
    ends.set(title="best validation mean IoU: a dot a run, a bar the mean", xlabel="mean IoU")
    ends.set_yticks(range(len(groups)), [_shortened(name) for name in groups])
    ends.invert_yaxis()
    save_figure(figure, path)


def _draw_courses(axes: Axes, groups: Mapping[str, Sequence[Path]]) -> None:
    for (name, runs), colour in zip(groups.items(), COLOURS, strict=False):
        for number, run in enumerate(runs):
            label = _shortened(name) if number == 0 else None
            steps, values = column(read_rows(run), "valid/mean_iou")
            axes.plot(steps, values, color=colour, alpha=0.8, label=label)
    axes.set(title="validation mean IoU", xlabel="step", ylim=(0, 1))
    axes.legend(frameon=False, fontsize="small")


def _shortened(name: str) -> str:
    return name if len(name) <= LABEL_LENGTH else f"{name[: LABEL_LENGTH - 1]}…"
