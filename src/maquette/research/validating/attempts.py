"""The validations of a workspace, kept as a record: attempts/001/, attempts/002/, …

Each folder holds

    record.json   verdicts, diagnosis, what was measured, and of what: plan, project, machine
    run.json      the record that the project's run left, where it left one (records.py)
    stdout.txt, stderr.txt               what the run printed
    tests-stdout.txt, tests-stderr.txt   what the project's tests printed

and a folder is there whole or not at all. After three failed attempts on the same plan the next one
waits for a person, who names the problem in notes.md under "Known Issues".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.errors import DataError, RunError
from maquette.files import sha256
from maquette.research.judging.verdict import Verdict, verdict_lines
from maquette.research.workspace import Workspace

PATIENCE = 3
"""Failed attempts in a row on the same plan before a person is asked."""

KNOWN_ISSUES = "Known Issues"
"""The section of notes.md in which a person names what cannot be resolved."""

_NO_CODE = frozenset({"__pycache__", "runs", "build", "dist"})
"""Folders of a project that hold no code, wherever they lie."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One validation."""

    folder: Path
    passed: bool
    verdicts: tuple[Verdict, ...]
    diagnosis: str | None
    """The likely cause of the first failed verdict, and the smallest fix; None when all passed."""
    plan_sha256: str
    project_sha256: str
    """Of the project's files, see `project_sha256`."""
    issues_sha256: str
    """Of the section Known Issues at that time."""
    record: Mapping[str, Any]
    """The whole of record.json."""

    @property
    def number(self) -> int:
        """From 1."""
        return int(self.folder.name)

    @property
    def run_file(self) -> Path:
        """The record of the project's run; absent when the run left none."""
        return self.folder / "run.json"

    def lines(self) -> list[str]:
        """What to print: one line per verdict, then the cause and the fix."""
        lines = verdict_lines(self.verdicts)
        failed = sum(not verdict.passed for verdict in self.verdicts)
        if self.diagnosis is not None:
            lines += ["", f"diagnosis: {self.diagnosis}"]
        outcome = "passed" if self.passed else f"failed, {failed} of {len(self.verdicts)} checks"
        return [*lines, f"attempt {self.number} {outcome}; its record: {self.folder}"]


def attempt_folders(workspace: Workspace) -> list[Path]:
    """Return the folders of all attempts, the oldest first."""
    if not workspace.attempts.is_dir():
        return []
    folders = [path for path in workspace.attempts.iterdir() if re.fullmatch(r"\d{3,}", path.name)]
    return sorted(folders, key=lambda path: int(path.name))


def read_attempts(workspace: Workspace) -> list[Attempt]:
    """Read the records of all attempts, the oldest first.

    Raises:
        DataError: a record is missing or was changed into something else.
    """
    return [read_attempt(folder) for folder in attempt_folders(workspace)]


def read_attempt(folder: Path) -> Attempt:
    """Read one attempt.

    Raises:
        DataError: its record.json is missing or not of this form.
    """
    path = folder / "record.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Attempt(
            folder=folder,
            passed=bool(record["passed"]),
            verdicts=tuple(Verdict(**verdict) for verdict in record["verdicts"]),
            diagnosis=record["diagnosis"],
            plan_sha256=str(record["plan_sha256"]),
            project_sha256=str(record["project_sha256"]),
            issues_sha256=str(record["issues_sha256"]),
            record=record,
        )
    except OSError as error:
        raise DataError(
            f"Could not read {path}: {error.strerror or error}. Every attempt has a record; remove "
            f"the folder {folder} when it is none."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        what = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"{path} is not the record of an attempt: {what}. Nothing but `maquette research "
            f"validate` writes it; restore it, or remove the folder {folder}."
        ) from error


def ask_a_person_if_stuck(workspace: Workspace, attempts: list[Attempt]) -> None:
    """Stop after three failures in a row on the same plan, until a person has named the problem.

    The entry grants three more attempts. A changed plan and a passed attempt start afresh.

    Raises:
        RunError: says what to write, and where.
    """
    plan, issues = sha256(workspace.plan_file), issues_sha256(workspace)
    failed: list[Attempt] = []
    for attempt in reversed(attempts):
        if attempt.passed or attempt.plan_sha256 != plan:
            break
        failed.append(attempt)
    if len(failed) < PATIENCE:
        return
    problem = next((one.check for one in failed[0].verdicts if not one.passed), "validation")
    unchanged = sum(attempt.issues_sha256 == issues for attempt in failed[:PATIENCE])
    if names_issue(workspace, problem) and unchanged < PATIENCE:
        return
    raise RunError(
        f"{len(failed)} attempts in a row have failed, the last one at {problem!r}: "
        f"{failed[0].diagnosis} Trying again unchanged will not resolve it. Ask whoever wrote the "
        f"plan, and name the problem in {workspace.notes_file} under `## {KNOWN_ISSUES}`:\n"
        f"  - **{problem}**: what was tried, and what is asked\n"
        "Then `maquette research validate` goes on."
    )


def names_issue(workspace: Workspace, problem: str) -> bool:
    """Whether an entry under Known Issues begins with `problem` in bold and says something."""
    entry = rf"^[ \t]*[-*][ \t]+\*\*{re.escape(problem)}:?\*\*[ \t]*:?[ \t]*[^\s:]"
    return re.search(entry, known_issues(workspace), re.MULTILINE | re.IGNORECASE) is not None


def known_issues(workspace: Workspace) -> str:
    """Return the text of notes.md below `## Known Issues`, without comments; empty without one."""
    try:
        text = workspace.notes_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Could not read {workspace.notes_file}: {error}.") from error
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    found = re.search(
        rf"^##\s+{KNOWN_ISSUES}[ \t]*$(.*?)(?=^##?\s|\Z)", text, re.MULTILINE | re.DOTALL
    )
    return found.group(1).strip() if found else ""


def issues_sha256(workspace: Workspace) -> str:
    """Return the SHA-256 of what stands under Known Issues."""
    return hashlib.sha256(known_issues(workspace).encode()).hexdigest()


def project_sha256(project: Path) -> str:
    """Return one SHA-256 for everything in a project that a person wrote.

    It covers the paths and bytes of all files in sorted order. Left out are hidden files and
    folders, compiled files, `runs`, and the data cache `data/cache`: they come with running it.
    """
    digest = hashlib.sha256()
    for path in project_files(project):
        name = path.relative_to(project).as_posix().encode()
        digest.update(name + b"\0" + sha256(path).encode() + b"\n")
    return digest.hexdigest()


def project_files(project: Path) -> list[Path]:
    """Return the files that `project_sha256` covers, sorted by their path."""
    return sorted(_walk(project, project), key=lambda path: path.relative_to(project).as_posix())


def _walk(folder: Path, project: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.suffix == ".pyc":
            continue
        if path.is_dir():
            cache = path.relative_to(project) == Path("data/cache")
            if path.name not in _NO_CODE and not cache and not path.is_symlink():
                yield from _walk(path, project)
        elif path.is_file():
            yield path
