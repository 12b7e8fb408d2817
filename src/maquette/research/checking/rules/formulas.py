"""The code of a loss quotes the formula of the plan in its docstring.

Whitespace and `$` are ignored. The docstring is that of the loss itself or of its file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from maquette.research.checking.rules.base import Finding, Project
from maquette.research.checking.sources import Function, Source, definition
from maquette.research.planning.plan import Formula, Item


def formulas(project: Project) -> Iterator[Finding]:
    """Report losses whose docstring does not quote the plan's formula."""
    for item in project.promised():
        source = project.by_name.get(item.file)
        if item.kind != "loss" or source is None or source.problem is not None:
            continue
        node = definition(source.tree, item.symbol)
        if node is not None:  # the rule `code` speaks of missing ones
            for formula in item.formulas:
                if not _quoted(formula, source, node):
                    yield _finding(project, item, formula, source, node)


def _quoted(formula: Formula, source: Source, node: ast.AST) -> bool:
    return any(_bare(formula.text) in _bare(text) for text in _docstrings(source.tree, node))


def _docstrings(*nodes: ast.AST) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Function | ast.ClassDef | ast.Module):
            yield ast.get_docstring(node, clean=False) or ""
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    yield from _docstrings(method)


def _bare(text: str) -> str:
    return re.sub(r"[\s$]", "", text)


def _finding(
    project: Project, item: Item, formula: Formula, source: Source, node: ast.AST
) -> Finding:
    line = getattr(node, "lineno", 0)
    plan = f"{project.workspace.plan_file.name}:{formula.line}"
    short = " ".join(formula.text.split())
    if _bare(formula.text) in _bare(source.text):
        message = f"The docstring of {item.symbol} loses the backslashes of the formula ({plan})."
        remedy = 'Begin the docstring with r""".'
    else:
        message = f"The docstring of {item.symbol} does not quote the formula of the plan ({plan})."
        remedy = (
            f"Write `{short}` in it and compute just that; if the loss is another one, say so in "
            f"notes.md under Deviations: `- **{item.name}**: why`."
        )
    return Finding(
        rule="formulas", path=f"project/{item.file}", line=line, message=message, remedy=remedy
    )
