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
    """Draw groups of runs: the course of the mean IoU, and the best value of each run.

    Args:
        groups: name of a configuration -> its runs (seeds).
        scores: the same names -> the best mean IoU of each of these runs; None if it has none.
        path: the PNG to write.
    """
    figure, (left, right) = new_figure(12, 0.35 * len(groups) + 3.6, columns=2)
    for index, (name, runs) in enumerate(groups.items()):
        colour = COLOURS[index % len(COLOURS)]
        for number, run in enumerate(runs):
            label = _shortened(name) if number == 0 else None
            steps, values = column(read_rows(run), "valid/mean_iou")
            left.plot(steps, values, color=colour, alpha=0.8, label=label)
        best = [score for score in scores[name] if score is not None]
        right.plot(best, [index] * len(best), "o", color=colour, alpha=0.6)
        if best:
            right.plot(sum(best) / len(best), index, "|", color=colour, ms=22, mew=2.5)
    left.set(title="validation mean IoU", xlabel="step", ylim=(0, 1))
    left.legend(frameon=False, fontsize="small")
    right.set(title="best mean IoU: a dot a run, a bar the mean", xlabel="mean IoU")
    right.set_yticks(range(len(groups)), [_shortened(name) for name in groups])
    right.invert_yaxis()
    save_figure(figure, path)


def _shortened(name: str) -> str:
    return name if len(name) <= LABEL_LENGTH else f"{name[: LABEL_LENGTH - 1]}…"
