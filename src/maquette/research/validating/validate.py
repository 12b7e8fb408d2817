"""`maquette research validate`: the project's tests and a short run, in a fresh environment.

`validate` is the way in and `_attempt` the story: environment, tests, run, verdicts, diagnosis,
record. What an attempt leaves and when a person is asked says attempts.py.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maquette.errors import DataError, RunError, UsageError
from maquette.files import cache_folder, held, sha256, write_folder_once, write_json, write_text
from maquette.research.judging.diagnose import diagnose
from maquette.research.judging.judge import judge
from maquette.research.judging.training_checks import EPOCHS
from maquette.research.judging.verdict import GIB, Verdict
from maquette.research.records import read_record
from maquette.research.running.sandbox import Limits, run_watched
from maquette.research.validating.attempts import (
    Attempt,
    ask_a_person_if_stuck,
    issues_sha256,
    project_sha256,
    read_attempt,
    read_attempts,
)
from maquette.research.validating.places import Places
from maquette.research.validating.project_tests import QUIET, counts, judge_tests, run_tests
from maquette.research.workspace import Workspace

if TYPE_CHECKING:
    from maquette.research.planning.plan import Plan
    from maquette.research.running.evidence import Evidence

OUTPUT = "runs/validation"
"""Where in the project a validation's run writes; removed afterwards."""


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What the steps of an attempt gave."""

    verdicts: tuple[Verdict, ...]
    diagnosis: str | None
    evidence: Evidence
    """Of the run, or of the installation where it failed."""
    tests: dict[str, Any] | None
    packages: dict[str, str]


def validate(
    workspace: Workspace, *, epochs: int = EPOCHS, limits: Limits | None = None, fresh: bool = True
) -> Attempt:
    """Run a project's tests and a short training, and keep what was seen as an attempt.

    Args:
        epochs: of the training, 2 at least.
        limits: of the tests and of the run, each; None: those of sandbox.py.
        fresh: in an environment that holds what requirements.txt asks for and nothing else; False:
            with this interpreter, which is quicker and proves less.
    Raises:
        UsageError: too few epochs, a plan that cannot be read, or no requirements.txt.
        RunError: three attempts have failed and nobody has named the problem; or another process
            validates this workspace.
    """
    from maquette.research.planning.plan_reading import read_plan

    if epochs < EPOCHS:
        raise UsageError(
            f"--epochs is {epochs}, expected {EPOCHS} at least: one epoch cannot show that the "
            "loss falls."
        )
    plan = read_plan(workspace.plan_file)
    with _alone(workspace):
        attempts = read_attempts(workspace)
        ask_a_person_if_stuck(workspace, attempts)
        number = attempts[-1].number + 1 if attempts else 1
        allowed = limits or Limits()
        folder = write_folder_once(
            workspace.attempts / f"{number:03}",
            lambda temporary: _attempt(workspace, plan, temporary, epochs, allowed, fresh),
        )
    return read_attempt(folder)


def _attempt(
    workspace: Workspace, plan: Plan, folder: Path, epochs: int, limits: Limits, fresh: bool
) -> None:
    """Make one attempt, and write what came out into `folder`."""
    before = {  # of what is validated, not of what the run may have made of it
        "plan_sha256": sha256(workspace.plan_file),
        "project_sha256": project_sha256(workspace.project),
        "issues_sha256": issues_sha256(workspace),
    }
    outcome = _steps(workspace, plan, folder, epochs, limits, fresh)
    evidence = outcome.evidence
    record = {
        "format": 1,
        "passed": all(verdict.passed for verdict in outcome.verdicts),
        "command": " ".join(_run_command(epochs)),
        "epochs": epochs,
        "seconds": round(evidence.seconds, 2),
        "peak_memory_gib": round(evidence.peak_bytes / GIB, 3),
        "gpu_peak_memory_gib": _in_gib(evidence.gpu_peak_bytes),
        "limits": {
            "seconds": limits.seconds,
            "memory_gib": round(limits.memory_bytes / GIB, 3),
            "gpu_memory_gib": _in_gib(limits.gpu_memory_bytes),
            "output_bytes": limits.output_bytes,
        },
        **before,
        "verdicts": [vars(verdict) for verdict in outcome.verdicts],
        "diagnosis": outcome.diagnosis,
        "tests": outcome.tests,
        "evidence": _facts(evidence),
        "machine": _machine(),
        "fresh_environment": fresh,
        "packages": outcome.packages,
    }
    hide = Places(workspace)
    write_json(folder / "record.json", json.loads(hide(json.dumps(record, ensure_ascii=False))))
    for path in folder.glob("*.txt"):
        write_text(path, hide(path.read_text(encoding="utf-8", errors="replace")))


def _steps(
    workspace: Workspace, plan: Plan, folder: Path, epochs: int, limits: Limits, fresh: bool
) -> _Outcome:
    """Environment, tests, run: what each shows, and the cause of the first that failed."""
    from maquette.research.running.environment import InstallError, packages, prepare_environment

    project = workspace.project.resolve()
    logs = folder / "logs"
    if fresh:
        _tell("environment: as requirements.txt asks; a new one takes minutes, and is kept")
    try:
        python = prepare_environment(project, logs) if fresh else Path(sys.executable)
    except InstallError as error:
        _keep_output(error.evidence, folder, "")
        shutil.rmtree(logs, ignore_errors=True)
        remedy = "correct requirements.txt"
        return _Outcome(
            verdicts=(Verdict("environment", False, str(error).partition("\n")[0], remedy),),
            diagnosis=str(error),
            evidence=error.evidence,
            tests=None,
            packages={},
        )
    installed = packages(python) if fresh else {}
    found = (
        f"{len(installed)} packages, installed from requirements.txt"
        if fresh
        else "this interpreter, as asked; requirements.txt was not tried"
    )
    _tell("tests: those of the project")
    tests = run_tests(python, project, logs, limits)
    _tell(f"run: {epochs} epochs on the data of the plan")
    run = _run(python, workspace, logs, folder, epochs, limits)
    shutil.rmtree(logs, ignore_errors=True)

    tested = judge_tests(tests)
    verdicts = (Verdict("environment", True, found), tested, *judge(run, plan, limits))
    first = next((verdict for verdict in verdicts if not verdict.passed), None)
    diagnosis = None
    if first is not None:
        diagnosis = diagnose(first, tests if first is tested else run, project)
    return _Outcome(
        verdicts=verdicts,
        diagnosis=diagnosis,
        evidence=run,
        tests={**counts(tests.stdout_tail), "seconds": round(tests.seconds, 2)},
        packages=installed,
    )


def _run(
    python: Path, workspace: Workspace, logs: Path, folder: Path, epochs: int, limits: Limits
) -> Evidence:
    """Run run.py for a few epochs, and read the record that it left."""
    project = workspace.project.resolve()
    output = project / OUTPUT
    _remove(output)
    try:
        evidence = run_watched(
            [str(python), *_run_command(epochs)[1:]],
            cwd=project,
            environment=QUIET,
            limits=limits,
            allowed=[project],
            folder=logs / "run",
        )
        for name in ("stdout.txt", "stderr.txt"):
            shutil.move(logs / "run" / name, folder / name)
        left = output / "run.json"
        if not left.is_file():
            problem = f"no run.json in {OUTPUT}, which --output named"
            return replace(evidence, record_problem=problem)
        shutil.copyfile(left, folder / "run.json")
    finally:
        _remove(output)
    try:
        return replace(evidence, record=read_record(folder / "run.json"))
    except DataError as error:
        problem = str(error).replace(str(folder / "run.json"), "run.json")
        return replace(evidence, record_problem=problem)


def _tell(step: str) -> None:
    """Say on stderr what begins now: each step may take minutes."""
    sys.stderr.write(f"{step}\n")
    sys.stderr.flush()


def _run_command(epochs: int) -> list[str]:
    """The run, as a person types it in the project's folder."""
    return ["python", "run.py", "--epochs", str(epochs), "--output", OUTPUT]


def _remove(output: Path) -> None:
    """Remove a run's folder, and `runs` above it where that is empty then."""
    shutil.rmtree(output, ignore_errors=True)
    if output.parent.is_dir() and not any(output.parent.iterdir()):
        output.parent.rmdir()


def _keep_output(evidence: Evidence, folder: Path, prefix: str) -> None:
    write_text(folder / f"{prefix}stdout.txt", evidence.stdout_tail)
    write_text(folder / f"{prefix}stderr.txt", evidence.stderr_tail)


def _facts(evidence: Evidence) -> dict[str, Any]:
    """Return evidence as JSON; the run's record is a file of its own."""
    facts = vars(evidence) | {"command": " ".join(evidence.command)}
    return {name: fact for name, fact in facts.items() if name != "record"}


def _in_gib(size: int | None) -> float | None:
    return None if size is None else round(size / GIB, 3)


def _machine() -> dict[str, str]:
    """What a reader needs to weigh times and memory."""
    from maquette.device import describe

    facts = describe()
    return {name: facts[name] for name in ("system", "processor", "cores", "gpu") if name in facts}


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    """Let one validation of a workspace run at a time.

    Raises:
        RunError: another one runs.
    """
    name = sha256_of(str(workspace.path.resolve()).encode()).hexdigest()[:16]
    lock = cache_folder("research") / f"{name}.lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Could not write {lock.parent}: {error.strerror or error}.") from error
    try:
        with held(lock, patience=0):
            yield
    except TimeoutError:
        raise RunError(
            f"Another process validates {workspace.path}; wait for it, or end it."
        ) from None
