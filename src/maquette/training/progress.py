"""What a person sees while a run trains, on standard error.

On a terminal one live line; elsewhere (a log file, a pipe) one plain line every few seconds.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from maquette.training.callbacks import View

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PLAIN_INTERVAL = 5.0
"""Seconds between plain lines."""


class Progress:
    """Shows epoch, loss, the monitored metric, samples per second and the time still to go."""

    def __init__(self, *, monitor: str, stream: TextIO | None = None) -> None:
        self.monitor = monitor
        self.stream = sys.stderr if stream is None else stream
        self._started = time.monotonic()
        self._first_step: int | None = None
        self._last_line = self._started
        self._live: RichProgress | None = None
        self._line: TaskID | None = None

    def on_step(self, view: View) -> None:
        self._show(view, ended=False)

    def on_epoch_end(self, view: View) -> None:
        self._show(view, ended=False)

    def on_end(self, view: View) -> None:
        self._show(view, ended=True)
        self.close()

    def close(self) -> None:
        """Give the terminal back; safe to call again."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, text: str) -> None:
        """Print a line of its own, above the live one if there is one."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            self.stream.write(text + "\n")
            self.stream.flush()

    def describe(self, view: View, *, ended: bool = False) -> str:
        """Return the line for a person: "epoch 3/50  loss 0.4121  valid/accuracy 0.9130  …"."""
        parts = [f"epoch {view.epoch}/{view.epochs}", f"loss {view.train_loss:.4f}"]
        if view.history:
            parts.append(f"{self.monitor} {view.history[-1].get(self.monitor, float('nan')):.4f}")
        parts.append(f"{view.samples_per_second:,.0f} samples/s")
        if not ended and view.step < view.total_steps:
            parts.append(f"ETA {self._time_left(view)}")
        return "  ".join(parts)

    def _show(self, view: View, *, ended: bool) -> None:
        if self._first_step is None:
            self._first_step, self._started = view.step, time.monotonic()
        if self.stream.isatty():
            self._show_live(view, ended=ended)
        elif ended or time.monotonic() - self._last_line >= PLAIN_INTERVAL:
            self._last_line = time.monotonic()
            self.stream.write(self.describe(view, ended=ended) + "\n")
            self.stream.flush()

    def _show_live(self, view: View, *, ended: bool) -> None:
        if self._live is None or self._line is None:
            self._live, self._line = self._start_live(view.total_steps)
        self._live.update(
            self._line, completed=view.step, description=self.describe(view, ended=ended)
        )

    def _start_live(self, total_steps: int) -> tuple[RichProgress, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        live = RichProgress(
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            console=Console(file=self.stream),
        )
        live.start()
        return live, live.add_task("", total=total_steps)

    def _time_left(self, view: View) -> str:
        """Assume the steps to come take as long as those this display has seen, validation too."""
        seen = view.step - (self._first_step or 0)
        if seen <= 0:
            return "…"
        seconds = (time.monotonic() - self._started) / seen * (view.total_steps - view.step)
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
