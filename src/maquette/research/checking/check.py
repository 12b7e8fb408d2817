"""`maquette research check`: is everything of the plan there, and is it what the guide asks?

Nothing of the project is imported or run: the rules read its files. A rule takes the project and
yields findings; `RULES` is the whole list, in the order in which a person would mend them.
"""

from __future__ import annotations

from collections.abc import Mapping

from maquette.errors import DataError
from maquette.research.checking.rules.base import Finding, Project, Rule
from maquette.research.checking.rules.debugging import debugging
from maquette.research.checking.rules.formulas import formulas
from maquette.research.checking.rules.item_tests import tests
from maquette.research.checking.rules.items import code, finished, reasons
from maquette.research.checking.rules.origins import origins
from maquette.research.checking.rules.repos import repos
from maquette.research.checking.rules.requirements import requirements
from maquette.research.checking.rules.structure import layout, parses, run_arguments
from maquette.research.checking.rules.synthetic import synthetic
from maquette.research.checking.sources import read_sources
from maquette.research.notes import read_notes
from maquette.research.planning.plan import Plan
from maquette.research.planning.plan_reading import read_plan
from maquette.research.workspace import Workspace

__all__ = ["RULES", "Finding", "check_workspace", "failed"]

RULES: Mapping[str, Rule] = {
    "layout": layout,
    "parses": parses,
    "run_arguments": run_arguments,
    "code": code,
    "tests": tests,
    "finished": finished,
    "reasons": reasons,
    "formulas": formulas,
    "repos": repos,
    "origins": origins,
    "synthetic": synthetic,
    "requirements": requirements,
    "debugging": debugging,
}
"""Name -> rule. A finding carries the name of its rule."""


def check_workspace(workspace: Workspace, plan: Plan | None = None) -> tuple[Finding, ...]:
    """Hold a project against its plan, and return what is not as it should be.

    Args:
        workspace: the folder with plan, project and notes.
        plan: the plan, when it has been read already.
    Returns:
        the findings rule by rule, within a rule by file and line; none for a clean project.
    Raises:
        MaquetteError: the plan, the notes or a file of the project cannot be read.
    """
    project = Project(
        workspace,
        plan or read_plan(workspace.plan_file),
        read_notes(workspace.notes_file),
        read_sources(workspace.project),
    )
    try:
        return tuple(
            finding
            for rule in RULES.values()
            for finding in sorted(rule(project), key=lambda f: (f.path, f.line, f.message))
        )
    except OSError as error:
        raise DataError(
            f"Could not read {error.filename}: {error.strerror or error}. "
            "Make it readable and check again."
        ) from error


def failed(findings: tuple[Finding, ...]) -> bool:
    """Whether a check fails: notes alone do not make it."""
    return any(not finding.note for finding in findings)
