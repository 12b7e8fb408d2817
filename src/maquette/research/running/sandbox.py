"""Runs a program within limits and tells what was seen: time, memory, output, files, gradients.

`run_watched` is the whole of it. A Python program runs with guard.py inside, which refuses writes
outside the allowed folders. This keeps mistakes from doing harm; it is no defence against somebody
who means it, and the network stays open.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO, Any

from maquette.errors import RunError, UsageError
from maquette.files import sha256
from maquette.research.running.evidence import Ended, Evidence
from maquette.research.running.processes import Tree

INTERVAL = 0.1
"""Seconds between two looks at a program's memory and output."""

TAIL = 8000
"""Characters of output that evidence holds."""

GUARD = Path(__file__).with_name("guard.py")

DATA = ("RESEARCH_DATA", "RESEARCH_MIRROR", "MAQUETTE_DATA_MIRROR")
"""Environment variables that name folders of data; into the first, a program may write."""

_CACHES = (
    "CUDA_CACHE_PATH",
    "MPLCONFIGDIR",
    "TEMP",
    "TMP",
    "TMPDIR",
    "TRITON_CACHE_DIR",
    "XDG_CACHE_HOME",
)
"""Where libraries keep what they can make again; each run gets an empty folder for them."""

_DISTURBING = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONSAFEPATH")
"""What a shell may have set that would let another code run than the project's."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a program may take."""

    seconds: float = 1800
    memory_bytes: int = 8 * 2**30
    """Of the program and all its children together."""
    output_bytes: int = 10 * 2**20
    """Of standard output and of standard error, each."""
    gpu_memory_bytes: int | None = None
    """Of tensors on CUDA devices, judged when the program has ended; None: what the cards have."""

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            UsageError: one is not above zero.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if not (value > 0 and math.isfinite(value)):
                raise UsageError(
                    f"The limit of {field.name} is {value:g}, expected a number above 0, "
                    f"such as {field.default:g}."
                )


def run_watched(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    limits: Limits,
    allowed: Sequence[Path] | None,
    folder: Path,
    data: Sequence[Path] = (),
) -> Evidence:
    """Run a program to its end or to a limit; nothing of it runs on afterwards.

    Args:
        command: as a person would type it. With `allowed`, the interpreter, then a script or
            -m and a module.
        environment: set on top of this process's own.
        allowed: folders to write in, besides a temporary one; None: a program that is not Python,
            or is trusted, and runs without a guard.
        folder: gets stdout.txt and stderr.txt.
        data: folders and files whose reading is noted, besides those that `environment` names.
    Returns:
        What was seen; `record` is left to the caller.
    Raises:
        RunError: the program cannot be started, or `folder` cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="research-", ignore_cleanup_errors=True) as scratch:
        report, own = Path(scratch) / "guard.jsonl", Path(scratch)
        started = list(command)
        given = _environment(environment, own if allowed is not None else None)
        if allowed is not None:
            started = _guarded(command, report, given, cwd, allowed=[*allowed, own], data=data)
        evidence = _run(started, cwd=cwd, environment=given, limits=limits, folder=folder)
        seen = _read_report(report)
    peak = max(evidence.peak_bytes, seen.pop("peak_bytes"))
    return replace(evidence, command=tuple(command), peak_bytes=peak, **seen)


def _run(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    limits: Limits,
    folder: Path,
) -> Evidence:
    """Run a program and tell what is seen from outside."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            (folder / "stdout.txt").open("wb+") as stdout,
            (folder / "stderr.txt").open("wb+") as stderr,
        ):
            begin = time.monotonic()
            tree = Tree(command, cwd=cwd, environment=environment, stdout=stdout, stderr=stderr)
            try:
                ended = _watch(tree, limits, (stdout.fileno(), stderr.fileno()))
                seconds = time.monotonic() - begin
            finally:  # at Ctrl-C too
                tree.end()
            tails = [_cut(file, limits.output_bytes) for file in (stdout, stderr)]
    except OSError as error:
        raise RunError(
            f"Could not write {folder}: {error.strerror or error}. "
            "Free some space, or make the folder writable, and run again."
        ) from error
    return Evidence(
        exit_code=tree.program.returncode if ended == "exit" else None,
        ended=ended,
        seconds=seconds,
        peak_bytes=tree.peak_bytes,
        stdout_tail=tails[0],
        stderr_tail=tails[1],
    )


def _watch(tree: Tree, limits: Limits, outputs: Sequence[int]) -> Ended:
    """Wait for the end, or for a limit, at which the program is asked to end."""
    begin = time.monotonic()
    while tree.program.poll() is None:
        if tree.measure() > limits.memory_bytes:
            return "memory_limit"  # no time for a word: it would take more meanwhile
        if any(os.fstat(output).st_size > limits.output_bytes for output in outputs):
            return "output_limit"
        left = limits.seconds - (time.monotonic() - begin)
        if left <= 0:
            tree.ask_to_end()
            return "time_limit"
        with suppress(subprocess.TimeoutExpired):
            tree.program.wait(min(INTERVAL, left))
    return "exit"


def _environment(given: Mapping[str, str], caches: Path | None) -> dict[str, str]:
    """Return what a program finds in its environment; output comes at once, and in UTF-8."""
    kept = {name: value for name, value in os.environ.items() if name not in _DISTURBING}
    for name in DATA:  # relative to where the user stands, and the program starts elsewhere
        if kept.get(name) and "://" not in kept[name]:
            kept[name] = str(Path(kept[name]).absolute())
    fresh = dict.fromkeys(_CACHES, str(caches)) if caches else {}
    return {**kept, **fresh, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", **given}


def _guarded(
    command: Sequence[str],
    report: Path,
    environment: Mapping[str, str],
    cwd: Path,
    *,
    allowed: Sequence[Path],
    data: Sequence[Path],
) -> list[str]:
    """Return the command that runs `command` in guard.py.

    Allowed folders are made where they are absent: the system can permit only what is there.
    """
    python, *program = command
    named = {name: cwd / environment[name] for name in DATA if environment.get(name)}
    writable = [*allowed, *(named[name] for name in named if name == DATA[0])]
    readable = [*data, cwd / "data" / "cache", *named.values()]
    for path in writable:
        path.mkdir(parents=True, exist_ok=True)
    options = [("--allowed", path) for path in writable] + [("--data", path) for path in readable]
    places = [text for option, path in options for text in (option, str(path.resolve()))]
    return [python, str(GUARD), "--report", str(report), *places, "--", *program]


def _cut(file: IO[bytes], limit: int) -> str:
    """Shorten a file of output to the limit and return the end of its text."""
    if os.fstat(file.fileno()).st_size > limit:
        file.truncate(limit)
        file.seek(0, os.SEEK_END)
        file.write(f"\n[cut after {limit} bytes]\n".encode())
        file.flush()
    file.seek(max(0, os.fstat(file.fileno()).st_size - 4 * TAIL))
    return file.read().decode("utf-8", "replace")[-TAIL:]


def _read_report(report: Path) -> dict[str, Any]:
    """Return what guards saw, as fields of the evidence: one line per observation."""
    lines: list[dict[str, Any]] = []
    if report.is_file():
        for line in report.read_text("utf-8", "surrogateescape").splitlines():
            with suppress(json.JSONDecodeError):  # a kill may leave half a line
                lines.append(json.loads(line))

    def of(key: str) -> tuple[Any, ...]:
        found = (line[key] for line in lines if line.get(key) is not None)
        return tuple(dict.fromkeys(found))

    def each_process(key: str) -> dict[int, int]:
        """Return the last value of every process; each only grows."""
        return {line["pid"]: line[key] for line in lines if line.get(key) is not None}

    gpu = each_process("gpu_peak_bytes")
    return {
        "observed": bool(lines),
        "confined": any(of("confined")),
        "wrote_outside": of("wrote_outside"),
        "steps": sum(each_process("steps").values()),
        "bad_gradients": of("bad_gradient"),
        "bad_losses": of("bad_loss"),
        "gpu_peak_bytes": sum(gpu.values()) if gpu else None,
        "peak_bytes": max(of("peak_bytes"), default=0),
        "read_files": {path: sha256(Path(path)) for path in of("read") if Path(path).is_file()},
    }
