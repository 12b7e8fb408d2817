"""A research workspace: one folder, and what lies where in it.

WORKSPACE/
    plan_res.md        the plan, written by a person
    project/           the implementation; it runs without Maquette
        model/ data/ training/ testing/ utils/ tests/
        run.py requirements.txt README.md
    notes.md           what a person says about it: deviations, known issues
    repos/             code that was studied; nothing in project/ may import it
    attempts/001/      a validation: record.json, stdout.txt, stderr.txt, run.json
    results/run.json   the record of the full run that the report speaks of, where there is one
    summary.json       means, deviations and paired differences computed from the records
    ml_res.md          the report, written from the records
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maquette.errors import UsageError


@dataclass(frozen=True)
class Workspace:
    """The paths of one workspace."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Workspace:
        """Open an existing workspace.

        Raises:
            UsageError: there is no plan or no project at `path`.
        """
        workspace = cls(Path(path))
        for needed in (workspace.plan_file, workspace.project):
            if not needed.exists():
                raise UsageError(
                    f"{workspace.path} is not a research workspace: it has no {needed.name}. "
                    f"Make one with: maquette research new {workspace.path} --plan plan_res.md"
                )
        return workspace

    @property
    def plan_file(self) -> Path:
        """The plan."""
        return self.path / "plan_res.md"

    @property
    def project(self) -> Path:
        """The implementation."""
        return self.path / "project"

    @property
    def repos(self) -> Path:
        """Code of others, to read."""
        return self.path / "repos"

    @property
    def notes_file(self) -> Path:
        """Deviations and known issues, in a person's words."""
        return self.path / "notes.md"

    @property
    def attempts(self) -> Path:
        """One folder per validation, numbered from 001."""
        return self.path / "attempts"

    @property
    def results_file(self) -> Path:
        """The record of the full run."""
        return self.path / "results" / "run.json"

    @property
    def summary_file(self) -> Path:
        """What was computed from the records."""
        return self.path / "summary.json"

    @property
    def report_file(self) -> Path:
        """The report."""
        return self.path / "ml_res.md"
