"""A project of one file that runs watched; shared by the tests of the sandbox and the guard."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent

from maquette.research.running.evidence import Evidence
from maquette.research.running.sandbox import Limits, run_watched


def watched(
    folder: Path,
    code: str,
    *arguments: str,
    limits: Limits | None = None,
    environment: Mapping[str, str] | None = None,
    data: Sequence[Path] = (),
) -> Evidence:
    """Write `code` to folder/project/run.py and run it there, allowed to write in project/."""
    project = folder / "project"
    project.mkdir(exist_ok=True)
    (project / "run.py").write_text(dedent(code), encoding="utf-8")
    return run_watched(
        [sys.executable, "run.py", *arguments],
        cwd=project,
        environment=environment or {},
        limits=limits or Limits(seconds=280),
        allowed=[project],
        folder=folder / "seen",
        data=data,
    )
