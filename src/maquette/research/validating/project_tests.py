"""The tests of a project: run under watch, counted, judged."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from maquette.research.judging.verdict import Verdict, last_line
from maquette.research.running.evidence import Evidence
from maquette.research.running.sandbox import Limits, run_watched

TESTS = (
    *("-m", "pytest", "-x", "-q", "--tb=native", "-p", "no:cacheprovider"),
    "--capture=sys",  # what the guard says of a test that hangs must reach stderr
)
"""The project's tests, to the first failure."""

QUIET = {"PYTHONDONTWRITEBYTECODE": "1"}
"""What a validated program gets in its environment: it shall leave the project as it was."""


def run_tests(python: Path, project: Path, logs: Path, limits: Limits) -> Evidence:
    """Run the project's tests; their output goes beside the run's."""
    command = [str(python), *TESTS, *_no_settings(project), "tests"]
    folder = logs / "tests"
    evidence = run_watched(
        command, cwd=project, environment=QUIET, limits=limits, allowed=[project], folder=folder
    )
    for name in ("stdout.txt", "stderr.txt"):
        shutil.move(folder / name, logs.parent / f"tests-{name}")
    return evidence


def _no_settings(project: Path) -> list[str]:
    """Keep the settings of a repository that the workspace lies in from reaching its tests."""
    own = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
    options = ["--rootdir=.", "--confcutdir=."]
    if any((project / name).is_file() for name in own):
        return options
    return [*options, "-c", os.devnull]


def judge_tests(tests: Evidence) -> Verdict:
    """The project's tests pass, and there are some."""
    name, said = "tests", last_line(tests.stdout_tail).strip("= ")
    if tests.exit_code == 0:
        return Verdict(name, True, said or "passed")
    if tests.ended != "exit":
        limit = {"time_limit": "time", "memory_limit": "memory", "output_limit": "output"}
        found = f"stopped at the limit of {limit[tests.ended]}"
        return Verdict(name, False, found, "make them small: a test needs no whole data set")
    if tests.exit_code == 5:
        return Verdict(name, False, "there are none", "write tests/test_ITEM.py for every item")
    said = said or last_line(tests.stderr_tail) or f"exit code {tests.exit_code}"
    return Verdict(name, False, said, "see the diagnosis, and tests-stdout.txt of the attempt")


def counts(output: str) -> dict[str, int]:
    """Read pytest's last line: "1 failed, 3 passed in 0.12s"."""
    found = {word: int(count) for count, word in re.findall(r"(\d+) ([a-z]+)", last_line(output))}
    failed = sum(found.get(word, 0) for word in ("failed", "error", "errors"))
    return {"passed": found.get("passed", 0), "failed": failed}
