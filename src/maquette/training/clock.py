"""Time spent on a run, and the pace of the epoch under way."""

from __future__ import annotations

import time


class Clock:
    """Starts running when it is made."""

    def __init__(self, spent: float = 0.0) -> None:
        """Continue from `spent` seconds: what a resumed run had taken before."""
        self._started = time.perf_counter() - spent
        self.start_epoch()

    def start_epoch(self) -> None:
        """Measure the pace from here on."""
        self._epoch_started = time.perf_counter()
        self.samples = 0
        """Samples learned from since; the loop counts them."""

    @property
    def seconds(self) -> float:
        """Spent on the run, before a resume included."""
        return time.perf_counter() - self._started

    @property
    def epoch_seconds(self) -> float:
        """Since `start_epoch`."""
        return time.perf_counter() - self._epoch_started

    @property
    def samples_per_second(self) -> float:
        """Since `start_epoch`."""
        return self.samples / max(self.epoch_seconds, 1e-9)
