"""A running program with all its children: what memory they hold together, and how all of them end.

Children are found by descent, by the process group, and by a mark in their environment, so that
one that left its parent and its group is found too.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

import psutil

from maquette.errors import RunError

MARK = "MAQUETTE_WATCHED"
"""Environment variable that marks a program and whatever it starts."""

GRACE = 2.0
"""Seconds between the request to end, at which a program shows where it is, and the end."""


class Tree:
    """A program and all its children."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        stdout: IO[bytes],
        stderr: IO[bytes],
    ) -> None:
        """Start `command` in a process group of its own, with nothing to read on standard input.

        Raises:
            RunError: it cannot be started.
        """
        self.mark = uuid4().hex
        try:
            self.program = subprocess.Popen(
                command,
                cwd=cwd,
                env={**environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise RunError(
                f"Could not start {command[0]} in {cwd}: {error.strerror or error}. "
                "Check that the file and the folder exist and that the file is executable."
            ) from error
        self._known: dict[int, psutil.Process] = {}
        self.peak_bytes = 0

    def measure(self) -> int:
        """Return the bytes that all processes hold now, and keep the peak.

        Memory that several of them share counts once where the system tells (Linux); it takes
        longer to ask, so only a sum that could be a new peak is looked at that way.
        """
        found = self._alive()
        held = sum(_resident(process) for process in found)
        if held > self.peak_bytes and len(found) > 1:
            held = sum(_proportional(process) for process in found)
        self.peak_bytes = max(self.peak_bytes, held)
        return held

    def ask_to_end(self) -> None:
        """Ask the program to end and wait a little: a guarded one shows where it is."""
        self.program.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.program.wait(GRACE)

    def end(self) -> None:
        """End whatever still runs of it, at once. Safe to call again."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.program.pid, signal.SIGKILL)
        while left := [process for process in self._all() if _is_running(process)]:
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=1)
        self.program.wait()

    def _alive(self) -> list[psutil.Process]:
        """Return the processes known by descent; one keeps its place when its parent is gone."""
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.program.pid)
            for process in (first, *first.children(recursive=True)):
                self._known.setdefault(process.pid, process)
        self._known = {pid: found for pid, found in self._known.items() if _is_running(found)}
        return list(self._known.values())

    def _all(self) -> list[psutil.Process]:
        """Return the processes known by descent and those that carry the mark."""
        marked = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # it is another user's, or just ended
                if process.environ().get(MARK) == self.mark:
                    marked.append(process)
        return [*self._alive(), *marked]


def _is_running(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _resident(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _proportional(process: psutil.Process) -> int:
    """Return a process's share of memory, or all it sees of it where the system does not say."""
    with suppress(psutil.Error, AttributeError):
        return int(process.memory_full_info().pss)
    return _resident(process)
