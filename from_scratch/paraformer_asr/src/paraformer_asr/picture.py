"""What the model saw and did, drawn: features, weights of the frames, fires, attention.

In: a `View` of each utterance (arrays, no model). Out: a PNG, one column for each view, from top to
bottom on one time axis: the log-mel features; the alphas as bars with the weight integrated since
the last fire as a line, which fires a token whenever it reaches 1; the cross-attention of each
token. Dotted lines across all panels are where tokens begin and end. Start reading at `draw`.

Letters: T0 feature frames, M mel bands, T encoder frames, K tokens.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paraformer_asr.files import write_atomic

FIRE = "#d62728"
BAR = "#4c78a8"
MOST_LABELS = 60
"""Tokens that can be labelled in a column without touching; of more, every second (third...) is."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One recognised utterance; arrays are float32 and all times are in seconds."""

    title: str
    frames: NDArray[np.float32]
    """(T0, M) log-mel values, before stacking and normalisation."""
    frame_seconds: float
    """From one row of `frames` to the next."""
    alphas: NDArray[np.float32]
    """(T,) weights of the encoder's frames, each >= 0."""
    step_seconds: float
    """From one encoder frame to the next."""
    tokens: Sequence[str]
    """K recognised tokens; none is an ordinary case."""
    times: Sequence[tuple[float, float]]
    """(start, end) of each token."""
    tail: float
    """What the predictor adds to the sum of alphas before rounding it down to K."""
    attention: NDArray[np.float32] | None
    """(K, T) weights of the last decoder layer, averaged over its heads; rows sum to 1."""
    text: str
    reference: str | None = None

    @property
    def seconds(self) -> float:
        return max(len(self.frames) * self.frame_seconds, len(self.alphas) * self.step_seconds)


def draw(views: Sequence[View], path: Path) -> None:
    """Draw one column for each view and write them to a PNG file, whole or not at all."""
    seconds = [max(view.seconds, 0.1) for view in views]
    widths = [float(np.clip(2 + 2.5 * s, 5, 16)) for s in seconds]
    rows = max((len(view.tokens) for view in views), default=0)
    heights = [2.2, 1.8, float(np.clip(0.22 * rows, 1.2, 6))]
    with figure(sum(widths), sum(heights) + 1.4) as (made, save):
        grid = made.add_gridspec(3, len(views), height_ratios=heights, width_ratios=widths)
        for column, view in enumerate(views):
            axes = [made.add_subplot(grid[row, column]) for row in range(3)]
            draw_features(axes[0], view)
            draw_alphas(axes[1], view)
            draw_attention(axes[2], view)
            for axis, color in zip(axes, ("white", FIRE, "white"), strict=True):
                axis.set_xlim(0, max(view.seconds, 0.1))
                axis.vlines(
                    sorted({edge for span in view.times for edge in span}),
                    0,
                    1,
                    color,
                    ":",
                    linewidth=0.8,
                    transform=axis.get_xaxis_transform(),
                )
        save(path)


@contextmanager
def figure(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A matplotlib figure and a function that writes it as PNG; no window, no global state.

    matplotlib is imported here because it takes a second, which `--help` should not wait for.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A text may hold dollar signs, which would otherwise begin a formula.
    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # shown as a box
        made = Figure(figsize=(width, height), dpi=110, layout="constrained")
        FigureCanvasAgg(made)

        def save(path: Path) -> None:
            buffer = io.BytesIO()
            made.savefig(buffer, format="png")
            write_atomic(path, buffer.getvalue())

        yield made, save


def draw_features(axis: Any, view: View) -> None:
    """The log-mel image, low bands at the bottom, with the texts above it."""
    show_mels(axis, view.frames, view.frame_seconds)
    lines = [shorten(view.title, 60), f"heard: {shorten(view.text) or '(no token)'}"]
    if view.reference is not None:
        lines.insert(1, f"said:  {shorten(view.reference) or '(nothing)'}")
    axis.set_title("\n".join(lines), loc="left", fontsize=10, family="monospace")


def show_mels(axis: Any, frames: NDArray[np.float32], frame_seconds: float) -> None:
    """Draw (T0, M) log-mel values over seconds; outliers do not decide the colours."""
    num_frames, num_mels = frames.shape
    low, high = np.percentile(frames, [1, 99]) if frames.size else (0.0, 1.0)
    axis.imshow(
        frames.T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="magma",
        vmin=low,
        vmax=high,
        extent=(0, num_frames * frame_seconds, 0, num_mels),
    )
    axis.set_ylabel("mel band")


def draw_alphas(axis: Any, view: View) -> None:
    """Bars of alpha, the weight integrated since the last fire, and the token of each stretch."""
    edges = np.arange(len(view.alphas) + 1) * view.step_seconds
    axis.stairs(view.alphas, edges, fill=True, color=BAR)
    times, integrated = sawtooth(view.alphas, view.step_seconds)
    axis.plot(times, integrated, color=FIRE, linewidth=0.9)
    axis.axhline(1, color=FIRE, linewidth=0.5)
    top = max(1.0, float(view.alphas.max(initial=0)))
    axis.set_ylim(0, 1.3 * top)
    every = -(-len(view.tokens) // MOST_LABELS)
    for k, (token, (start, end)) in enumerate(zip(view.tokens, view.times, strict=True)):
        if k % every == 0:
            place = {"x": (start + end) / 2, "y": 1.15 * top}
            axis.text(**place, s=token, ha="center", va="center", clip_on=True, fontsize=11)
    axis.set_ylabel("alpha (bars)\nintegrated (line)")
    axis.set_title(sentence(view), loc="left", fontsize=9)


def sawtooth(
    alphas: NDArray[np.float32], step_seconds: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The integrated weight over time as a line that rises to 1 and falls to 0 at each fire."""
    sums = np.concatenate([[0.0], np.cumsum(alphas, dtype=np.float64)])
    edges = np.arange(len(sums), dtype=np.float64) * step_seconds
    whole = np.arange(1, int(sums[-1] + 1e-6) + 1, dtype=np.float64)
    if not len(whole):
        return edges, sums
    # Where the sum first reaches each whole number, between frame edges by a straight line.
    after = np.searchsorted(sums + 1e-6, whole)
    part = np.clip(
        (whole - sums[after - 1]) / np.maximum(sums[after] - sums[after - 1], 1e-9), 0, 1
    )
    fires = (after - 1 + part) * step_seconds
    # Sorted by time; at a fire first the point 1, then the point 0, then what comes after it.
    times = np.concatenate([edges, fires, fires])
    order = np.concatenate([np.floor(sums + 1e-6) * 3 + 2, whole * 3, whole * 3 + 1])
    values = np.concatenate(
        [np.maximum(sums - np.floor(sums + 1e-6), 0), np.ones(len(whole)), np.zeros(len(whole))]
    )
    sort = np.lexsort((times, order))
    return times[sort], values[sort]


def sentence(view: View) -> str:
    """How the number of tokens came about, in words, also when there is none."""
    total = float(view.alphas.sum(dtype=np.float64))
    count = max(int(total + view.tail), len(view.tokens))
    if not count:
        least = 1 - view.tail
        return f"no token: the sum of alphas is {total:.2f}, and the first token needs {least:.2f}"
    special = count - len(view.tokens)
    left_out = f", {special} special and left out" if special else ""
    return f"sum of alphas {total:.2f} gives {plural(count, 'token')}{left_out}"


def draw_attention(axis: Any, view: View) -> None:
    """Cross-attention, one row for each token from top to bottom; brighter is more.

    The scale begins at 0 and is written down, so that attention to everything alike looks so.
    """
    axis.set_xlabel("seconds")
    num_tokens = len(view.tokens)
    if view.attention is None or not num_tokens:
        why = "no tokens, so no attention" if not num_tokens else "no attention was kept"
        axis.text(0.5, 0.5, why, ha="center", va="center", transform=axis.transAxes)
        axis.set_yticks([])
        return
    end = view.attention.shape[1] * view.step_seconds
    axis.imshow(
        view.attention,
        aspect="auto",
        interpolation="nearest",
        cmap="viridis",
        vmin=0,
        extent=(0, end, num_tokens, 0),
    )
    axis.set_title(f"attention from 0 (dark) to {view.attention.max():.2g}", loc="left", fontsize=9)
    every = -(-num_tokens // MOST_LABELS)
    axis.set_yticks(np.arange(0, num_tokens, every) + 0.5, list(view.tokens)[::every])
    axis.tick_params(axis="y", length=0)
    axis.set_ylabel("cross-attention")


def plural(count: int, noun: str) -> str:
    """`1 token`, `2 tokens`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def shorten(text: str, most: int = 80) -> str:
    """The text, cut at `most` characters with an ellipsis, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
