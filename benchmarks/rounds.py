"""Jobs of ours and of peers, measured in turns; used by the speech_*.py benchmarks and clip.py.

Two processes run the same jobs: "plain" with everything as it comes, "levers" with what our own
launcher may set: large pages for the allocator (THP_MEM_ALLOC_ENABLE=1, read when torch is
imported) and, where it measures them to be faster and exact, other fp32 products. The parent asks
for one job at a time, round after round, so that whatever else the machine does falls on all of
them, and takes ratios within a round. Medians over rounds are reported with their quartiles.

With one thread the processes read their own CPU clock, which a busy machine hardly disturbs; with
more, the wall clock.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ("plain", "levers")
Jobs = dict[str, Callable[[], object]]


def parser(doc: str) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--rounds", type=int, default=15)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--out", type=Path, help="also write all seconds to this JSON file")
    made.add_argument("--worker", choices=SETTINGS, help=argparse.SUPPRESS)
    return made


def serve(
    options: argparse.Namespace,
    jobs_of: Callable[[argparse.Namespace], Jobs],
    *,
    source: str,
    use_levers: Callable[[], object],
) -> None:
    """A worker: makes the jobs and runs the one whose name is read, until there is no more.

    Args:
        source: the folder of our package, from the root of the repository.
        use_levers: switches the faster products on and tells what was measured; called where the
            setting is "levers".
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the peer prints while it is imported must not mix with the answers
    sys.path.insert(0, str(ROOT / source))
    import torch

    torch.set_num_threads(options.threads)
    setting = f"torch {torch.__version__}, {options.threads} threads"
    if options.worker == "levers":
        setting = f"large pages; {use_levers()}"
    jobs = jobs_of(options)
    for job in jobs.values():  # choosing algorithms and filling caches is no part of the job
        job()
        job()
    print(json.dumps({"setting": setting, "jobs": list(jobs)}), file=answers, flush=True)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    gc.disable()
    for line in sys.stdin:
        gc.collect()
        start = clock()
        jobs[line.strip()]()
        print(clock() - start, file=answers, flush=True)


class Worker:
    """A process that runs jobs when asked."""

    def __init__(self, script: str, setting: str, arguments: Sequence[str], threads: int) -> None:
        command = [sys.executable, script, "--worker", setting, *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        environment |= {"THP_MEM_ALLOC_ENABLE": "1" if setting == "levers" else "0"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        self.about: dict[str, Any] = json.loads(self._line())

    def seconds(self, job: str) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{job}\n")
        self.process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the benchmark's process ended:\n{self.process.communicate()[1]}")
        return line


def measure(script: str, options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """Seconds of every (setting, job), round by round.

    Returns:
        seconds: setting -> job -> a number a round; about: setting -> what was set.
    """
    shared = ["--threads", str(options.threads), *arguments]
    workers = {name: Worker(script, name, shared, options.threads) for name in SETTINGS}
    jobs = workers["plain"].about["jobs"]
    seconds: dict[str, dict[str, list[float]]] = {s: {job: [] for job in jobs} for s in SETTINGS}
    for _ in range(options.rounds):
        for job in jobs:
            for setting, worker in workers.items():
                seconds[setting][job].append(worker.seconds(job))
    for worker in workers.values():
        worker.close()
    return {"seconds": seconds, "about": {n: w.about["setting"] for n, w in workers.items()}}


def report(
    result: Mapping[str, Any],
    pairs: Sequence[tuple[str, str]],
    units: Callable[[float], str],
) -> dict[str, Any]:
    """Print the seconds of every job, then how many times faster ours are than the peer's.

    Args:
        result: of `measure`.
        pairs: (our job, the peer's job it is compared with).
        units: from the median seconds of a job to what the job is about, such as "12 ms".
    Returns:
        what is printed: median_seconds, setting -> job -> seconds; times_faster, peer's job ->
        column -> low, median, high.
    """
    seconds = result["seconds"]
    medians = {s: {job: statistics.median(x) for job, x in seconds[s].items()} for s in SETTINGS}
    faster: dict[str, dict[str, dict[str, float]]] = {}
    for setting, text in result["about"].items():
        print(f"{setting}: {text}")
    print(f"{'':<36}{'plain':>20}{'levers':>20}")
    for job in seconds["plain"]:
        cells = [units(medians[setting][job]) for setting in SETTINGS]
        print(f"{job:<36}{cells[0]:>20}{cells[1]:>20}")
    columns = {
        "only ours with levers": ("plain", "levers"),
        "both plain": ("plain", "plain"),
        "both with levers": ("levers", "levers"),
    }
    print(f"{'times faster than':<36}" + "".join(f"{name:>25}" for name in columns))
    for own, peer in pairs:
        faster[peer] = {
            name: ratio(seconds[a][peer], seconds[b][own]) for name, (a, b) in columns.items()
        }
        cells = [
            f"{r['median']:.2f} ({r['low']:.2f}-{r['high']:.2f})" for r in faster[peer].values()
        ]
        print(f"{peer:<36}" + "".join(f"{cell:>25}" for cell in cells), flush=True)
    return {"median_seconds": medians, "times_faster": faster}


def ratio(peer: Sequence[float], own: Sequence[float]) -> dict[str, float]:
    """Median over rounds of how many times faster, with the quartiles `low` and `high`."""
    ratios = [theirs / mine for theirs, mine in zip(peer, own, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {"low": low, "median": middle, "high": high}


def save(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write the result as JSON where a path is given."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
