"""Pictures of training: one of a run, one that compares runs.

metrics.csv goes in (a row each time something was logged; cells that were not measured then are
empty), PNG files come out.
"""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paraformer_asr.errors import AsrError
from paraformer_asr.files import write_atomic

LOSSES = ("loss", "ce", "quantity", "ctc", "mwer", "valid_loss")
"""Columns of metrics.csv in the first panel."""

Series = dict[str, list[tuple[float, float]]]
"""Column -> (step, value) of each row that has one."""


def read_series(path: Path) -> Series:
    """The columns of a metrics.csv over its steps; a last line without its end is left out.

    Raises:
        AsrError: there is no such file, it has no column called step, or a cell is no number.
    """
    if not path.is_file():
        raise AsrError(f"{path}: there is no such file; a run writes it when it first logs.")
    try:
        whole, newline, _ = path.read_text(encoding="utf-8").rpartition("\n")
        reader = csv.DictReader(io.StringIO(whole + newline))
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise AsrError(f"{path}: no CSV file ({error}).") from None
    columns = list(reader.fieldnames or [])
    if "step" not in columns:
        raise AsrError(f"{path}: has no column 'step' in its first line.")
    series: Series = {column: [] for column in columns if column != "step"}
    for line, row in enumerate(rows, start=2):
        numbers = _numbers(row)
        if "step" not in numbers:
            raise AsrError(f"{path}:{line}: a cell is missing or no number; delete the line.")
        step = numbers.pop("step")
        for column, value in numbers.items():
            series[column].append((step, value))
    return series


def _numbers(row: Mapping[str, str | None]) -> dict[str, float]:
    """The cells that are not empty; nothing at all if one is no number or missing (None)."""
    try:
        return {name: float(cell or "nothing") for name, cell in row.items() if cell != ""}
    except (TypeError, ValueError):
        return {}


def draw_curves(run: Path) -> Path:
    """Draw a run's metrics.csv into its curves.png and return that path.

    Four panels over the steps: losses, error of the transcripts, learning rate with the norm of
    the gradient, and accuracy with speed.
    """
    series = read_series(run / "metrics.csv")
    figure = Figure(figsize=(11, 7), layout="constrained")
    losses, errors, rates, speed = figure.subplots(2, 2).flat
    _lines(losses, series, LOSSES)
    if any(value > 0 for name in LOSSES for _, value in series.get(name, [])):
        losses.set_yscale("log")
    losses.set_title("loss and its terms")
    _lines(errors, series, ("valid_cer", "valid_count_error"), marker="o")
    errors.set_ylim(bottom=0)
    errors.set_title("validation: character error rate, error in the number of tokens")
    _lines(rates, series, ("lr",))
    _second(rates, series, "grad_norm")
    rates.set_title("learning rate and gradient norm")
    _lines(speed, series, ("accuracy",))
    _second(speed, series, "utterances_per_second")
    speed.set_title("accuracy of the first pass; speed")
    for panel in (losses, errors, rates, speed):
        panel.set_xlabel("step")
    return save(figure, run / "curves.png")


def draw_comparison(
    curves: Mapping[str, Sequence[Sequence[tuple[float, float]]]],
    scores: Mapping[str, Sequence[float]],
    path: Path,
    *,
    score: str,
) -> Path:
    """Draw groups of runs side by side: error over steps, and the scores of the seeds.

    Args:
        curves: group -> a line of (step, validation error) for each run.
        scores: group -> a number for each run, drawn as dots with their mean as a bar.
        path: PNG to write.
        score: what the numbers are, for the axis.
    """
    figure = Figure(figsize=(11, 0.5 * len(scores) + 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, (group, lines) in enumerate(curves.items()):
        for line in lines:
            steps = [step for step, _ in line]
            errors = [error for _, error in line]
            label = _shortened(group) if line is lines[0] else "_"  # one entry for a group
            left.plot(steps, errors, color=f"C{index % 10}", alpha=0.8, label=label)
    left.set(xlabel="step", ylabel="valid_cer", title="validation error over training")
    left.set_ylim(bottom=0)
    if any(lines for lines in curves.values()):
        left.legend(fontsize="small")
    for index, values in enumerate(scores.values()):
        if values:
            mean = sum(values) / len(values)
            right.barh(index, mean, color=f"C{index % 10}", alpha=0.4)
            right.plot(values, [index] * len(values), "o", color=f"C{index % 10}")
    right.set_yticks(range(len(scores)), map(_shortened, scores), fontsize="small")
    right.invert_yaxis()
    right.set(xlabel=score, title="each seed (dot) and the mean (bar)")
    return save(figure, path)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    write_atomic(path, data.getvalue())
    return path


def _lines(panel: Axes, series: Series, names: Sequence[str], marker: str = "") -> None:
    for name in names:
        if points := series.get(name):
            panel.plot(*zip(*points, strict=True), label=name, marker=marker, linewidth=1.2)
    if panel.lines:
        panel.legend(fontsize="small")


def _second(panel: Axes, series: Series, name: str) -> None:
    """A curve with an axis of its own, on the right."""
    if points := series.get(name):
        other = panel.twinx()
        other.plot(*zip(*points, strict=True), color="0.6", linewidth=1)
        other.set_ylabel(name, color="0.4")


def _shortened(group: str) -> str:
    """A name that leaves room for the curves: three lines at most."""
    return textwrap.fill(group, 36, max_lines=3, placeholder=" …")
