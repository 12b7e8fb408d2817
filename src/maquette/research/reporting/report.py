"""`maquette research report`: ml_res.md and summary.json, written from the records.

No number is typed: each is a link to its place in a record (references.py), so `lint` can tell when
one no longer holds. The same records give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from maquette.errors import DataError, RunError
from maquette.files import sha256, write_json, write_text
from maquette.research.numbers.lint import check_numbers
from maquette.research.planning.plan import Plan
from maquette.research.records import RunRecord, read_record
from maquette.research.reporting.report_results import results, shortfalls
from maquette.research.reporting.report_sections import (
    components,
    persons_words,
    quick_validation,
    record_of,
)
from maquette.research.reporting.report_words import plain
from maquette.research.reporting.summary import Summary, summarise
from maquette.research.validating.attempts import Attempt, project_sha256, read_attempts
from maquette.research.workspace import Workspace


@dataclass(frozen=True)
class _Basis:
    """What a report stands on."""

    attempts: list[Attempt]
    attempt: Attempt | None
    """The last one that passed."""
    quick: RunRecord | None
    full: RunRecord | None
    problems: tuple[str, ...]
    """Why the report is a draft."""


def write_report(workspace: Workspace, *, draft: bool = False) -> list[str]:
    """Write the report, and the summary where there is a full run; return lines to print.

    Args:
        draft: write also what is not validated; the report says so at its top.
    Raises:
        RunError: no validation has passed on this plan and project (unless `draft`).
        UsageError: the plan cannot be read, or compares models that the full run does not have.
        DataError: a record cannot be read or does not fit the validation.
    """
    from maquette.research.planning.plan_reading import read_plan

    plan = read_plan(workspace.plan_file)
    basis = _basis(workspace)
    if basis.problems and not draft:
        raise RunError(
            f"{' '.join(basis.problems)} Run: maquette research validate {workspace.path}; "
            "or write a draft that says so, with --draft."
        )
    summary = None
    if basis.full is not None:
        source = workspace.results_file.relative_to(workspace.path).as_posix()
        summary = summarise(plan, basis.full, source=source)
    text = _report(plan, workspace, basis, summary)
    if summary is not None:
        write_json(workspace.summary_file, summary.to_json())
    write_text(workspace.report_file, text)
    checked = check_numbers([workspace.report_file], strict=True)
    lines = [f"{workspace.report_file}: {checked.numbers} numbers, each with its record"]
    if basis.full is not None:
        runs = len(basis.full.trainings)
        lines.append(f"{workspace.summary_file}: means and differences of {runs} trainings")
    else:
        lines.append(
            f"There is no {workspace.results_file}, so it has no section Results. Make it by "
            f"`python run.py --output ../results` in {workspace.project}, and report again."
        )
    lines += [f"draft: {problem}" for problem in basis.problems]
    return lines + [str(problem) for problem in checked.problems]


def _report(plan: Plan, workspace: Workspace, basis: _Basis, summary: Summary | None) -> str:
    lines = ["# Implementation Report", "", plain(plan.title), ""]
    if basis.problems:
        lines += [f"> **Draft, not validated.** {plain(' '.join(basis.problems))}", ""]
    folder = f"attempts/{basis.attempt.folder.name}" if basis.attempt else ""
    lines += components(plan, workspace)
    lines += quick_validation(basis.attempt, basis.quick, folder)
    commands = []
    if basis.attempt is not None and basis.quick is not None:
        commands.append(("Validation", basis.quick.command, sha256(basis.attempt.run_file)))
    if basis.full is not None and summary is not None:
        file = workspace.results_file.relative_to(workspace.path).as_posix()
        short = shortfalls(plan, basis.full, file)
        lines += results(summary, workspace.summary_file.name, short)
        commands.append(("Full run", basis.full.command, sha256(workspace.results_file)))
    lines += persons_words(workspace)
    lines += record_of(basis.attempts, basis.attempt, commands)
    return "\n".join(lines).rstrip("\n") + "\n"


def _basis(workspace: Workspace) -> _Basis:
    """Gather the records, and what speaks against them."""
    attempts = read_attempts(workspace)
    attempt = next((one for one in reversed(attempts) if one.passed), None)
    quick = read_record(attempt.run_file) if attempt else None
    full = read_record(workspace.results_file) if workspace.results_file.is_file() else None
    problems = list(_changes(workspace, attempts, attempt))
    if quick is not None and full is not None:
        _same_data(quick, full, workspace)
    return _Basis(attempts, attempt, quick, full, tuple(problems))


def _changes(
    workspace: Workspace, attempts: list[Attempt], attempt: Attempt | None
) -> tuple[str, ...]:
    if attempt is None:
        tried = f" ({len(attempts)} tried)" if attempts else ""
        return (f"No validation of {workspace.path.name or workspace.path} has passed{tried}.",)
    checked = (
        (workspace.plan_file.name, sha256(workspace.plan_file), attempt.plan_sha256),
        (f"{workspace.project.name}/", project_sha256(workspace.project), attempt.project_sha256),
    )
    return tuple(
        f"{name} has changed since attempt {attempt.number}, the last that passed."
        for name, now, then in checked
        if now != then
    )


def _same_data(quick: RunRecord, full: RunRecord, workspace: Workspace) -> None:
    """Refuse a full run on other bytes than those that the validation read and checked."""
    for name, fact in full.datasets.items():
        validated = quick.datasets.get(name)
        if validated is None or validated.sha256 != fact.sha256:
            what = "did not read" if validated is None else "read with another sha256"
            raise DataError(
                f"{workspace.results_file} is of {name}, sha256 {fact.sha256[:12]}…, which the "
                f"validation {what}. Repeat the full run on the plan's data, or validate again."
            )
