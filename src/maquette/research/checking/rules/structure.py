"""The project has the layout of the implementation guide, and every file of it can be parsed."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from maquette.research.checking.rules.base import Finding, Project
from maquette.research.checking.sources import strings
from maquette.research.notes import DEVIATIONS, KNOWN_ISSUES

LAYOUT = (
    "model/__init__.py",
    "data/__init__.py",
    "data/dataset.py",
    "data/loader.py",
    "data/preprocess.py",
    "training/__init__.py",
    "training/trainer.py",
    "training/loss.py",
    "testing/__init__.py",
    "testing/evaluator.py",
    "testing/metrics.py",
    "utils/__init__.py",
    "run.py",
    "requirements.txt",
    "README.md",
)
"""Files that every project has. Component files in model/, helpers in utils/ and tests in tests/
are named by the plan."""

ARGUMENTS = ("--epochs", "--output")
"""What `python run.py` must understand."""


def layout(project: Project) -> Iterator[Finding]:
    """Report missing files of the layout, an empty README, and notes without their sections."""
    for name in LAYOUT:
        path = project.workspace.project / name
        if not path.is_file():
            yield Finding(
                rule="layout",
                path=f"project/{name}",
                line=0,
                message="This file of the layout is missing.",
                remedy=_remedy(name),
            )
        elif name == "README.md" and not path.read_bytes().strip():
            yield Finding(
                rule="layout",
                path=f"project/{name}",
                line=0,
                message="The README is empty.",
                remedy="Say in a sentence what the project finds out, and how to run it.",
            )
    for heading in (DEVIATIONS, KNOWN_ISSUES):
        if heading not in project.notes.headings:
            yield Finding(
                rule="layout",
                path=project.workspace.notes_file.name,
                line=0,
                message=f"There is no section {heading!r}.",
                remedy=f"Add the line `## {heading}`; it may stay empty.",
            )


def _remedy(name: str) -> str:
    if name.endswith("__init__.py"):
        return "Add an empty one: the folder is a package."
    return "Write it, or copy it from a workspace that `maquette research new` made elsewhere."


def parses(project: Project) -> Iterator[Finding]:
    """Report files that Python cannot parse; the other rules do not see into them."""
    for source in project.sources:
        if source.problem is not None:
            yield Finding(
                rule="parses",
                path=f"project/{source.name}",
                line=source.problem.line,
                message=f"Python cannot parse this file: {source.problem.text}.",
                remedy="Correct it first: what is in it has not been checked.",
            )


def run_arguments(project: Project) -> Iterator[Finding]:
    """Report a run.py that cannot be told how long to train, or where to write."""
    run = project.by_name.get("run.py")
    if run is None or run.problem is not None:
        return
    known = {
        node.value for source in project.sources if not source.is_test for node in strings(source)
    }
    known |= {  # typer makes options of parameters
        f"--{node.arg}" for node in ast.walk(run.tree) if isinstance(node, ast.arg)
    }
    for argument in ARGUMENTS:
        if argument not in known:
            yield Finding(
                rule="run_arguments",
                path="project/run.py",
                line=0,
                message=f"Nothing in the project reads the argument {argument}.",
                remedy="`python run.py --epochs 2 --output FOLDER` must write FOLDER/run.json; "
                f'add parser.add_argument("{argument}", …).',
            )
