"""Being asked to stop: SIGTERM (a scheduler) and SIGINT (Ctrl-C) wait for the step to end.

The handler only takes a note; the loop looks at it between steps, saves, and leaves with 128 + the
signal's number, as a shell expects: 143 and 130. A second signal acts at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(SystemExit):
    """The run was asked to stop and has saved what it needs; `code` is the exit status."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)
        self.signal_name = signal.Signals(signal_number).name


class StopRequest:
    """Whether a signal has come, and which."""

    def __init__(self) -> None:
        self.signal_number: int | None = None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note SIGTERM and SIGINT inside the block; outside the main thread nothing is noted."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        request.signal_number = number
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
