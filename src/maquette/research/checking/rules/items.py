"""Every item of the plan has its code, and a bullet under Deviations when it has none.

Code is there when the plan's symbol is defined in the plan's file and is more than a skeleton: a
body that only passes, or raises NotImplementedError, is one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from maquette.errors import nearest
from maquette.research.checking.rules.base import Finding, Project
from maquette.research.checking.rules.structure import LAYOUT
from maquette.research.checking.sources import (
    Definition,
    Function,
    Source,
    body_of,
    defined_names,
    definition,
    dotted,
    top_level,
)
from maquette.research.planning.plan import Item


def code(project: Project) -> Iterator[Finding]:
    """Report items whose class or function is missing, imported from elsewhere, or a skeleton."""
    for item in project.promised():
        source = project.by_name.get(item.file)
        if source is None:
            if item.file not in LAYOUT:  # the rule `layout` names those
                yield _finding(
                    item,
                    0,
                    f"{project.named(item)} has no code: this file is missing.",
                    f"Write {item.symbol} in it.{_otherwise(item)}",
                )
            continue
        if source.problem is not None:
            continue
        node = definition(source.tree, item.symbol)
        if node is None:
            yield _missing(project, item, source)
        elif (line := skeleton(node)) is not None:
            yield _finding(
                item,
                line,
                f"{project.named(item)} is a skeleton: {item.symbol} does nothing yet.",
                f"Write it.{_otherwise(item)}",
            )


def _missing(project: Project, item: Item, source: Source) -> Finding:
    for found in source.imports:
        if found.local == item.symbol:
            return _finding(
                item,
                found.line,
                f"{project.named(item)} is imported from {found.module}, not written here.",
                f"Define {item.symbol} in this file; it may call the imported one.",
            )
    for other in project.sources:
        node = definition(other.tree, item.symbol)
        if node is not None and not other.is_test:
            return _finding(
                item,
                0,
                f"{project.named(item)} is not in this file: {item.symbol} is in "
                f"project/{other.name}:{node.lineno}.",
                f"Move it, or write `- code: {other.name}:{item.symbol}` below its heading.",
            )
    names = [name for node in top_level(source.tree) for name in defined_names(node)]
    return _finding(
        item,
        0,
        f"{project.named(item)} has no code: this file defines no {item.symbol}."
        f"{nearest(item.symbol, names)}",
        f"Write it.{_otherwise(item)}",
    )


def _otherwise(item: Item) -> str:
    return f" If it is left out, say so in notes.md under Deviations: `- **{item.name}**: why`."


def _finding(item: Item, line: int, message: str, remedy: str) -> Finding:
    return Finding(
        rule="code",
        path=f"project/{item.file}",
        line=line,
        message=message[0].upper() + message[1:],
        remedy=remedy,
    )


def finished(project: Project) -> Iterator[Finding]:
    """Report functions outside the plan's items that still raise NotImplementedError."""
    excused = _item_lines(project)
    for source in project.sources:
        for node in [] if source.is_test else _unfinished_functions(source):
            if (source.name, node.lineno) not in excused:
                yield Finding(
                    rule="finished",
                    path=f"project/{source.name}",
                    line=node.lineno,
                    message=f"{node.name} is a skeleton: it raises NotImplementedError.",
                    remedy="Write it, or delete it when nothing calls it.",
                )


def _item_lines(project: Project) -> set[tuple[str, int]]:
    """Return (file, line) of everything inside an item: the rule `code` speaks of those."""
    lines: set[tuple[str, int]] = set()
    for item in project.plan.items:
        source = project.by_name.get(item.file)
        node = definition(source.tree, item.symbol) if source is not None else None
        if node is not None:
            end = node.end_lineno or node.lineno
            lines |= {(item.file, line) for line in range(node.lineno, end + 1)}
    return lines


def _unfinished_functions(source: Source) -> Iterator[Function]:
    """Yield functions that only raise; a method that a subclass in the file writes is none."""
    methods = {
        id(method): node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
        for method in node.body
    }
    bases = {
        ast.unparse(base)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    }
    for node in ast.walk(source.tree):
        if isinstance(node, Function) and _raises(node) is not None and not _abstract(node):
            owner = methods.get(id(node))
            if owner is None or owner.name not in bases:
                yield node


def skeleton(node: Definition) -> int | None:
    """Return the line that shows that a definition is only a skeleton, or None."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return node.lineno if isinstance(node.value, ast.Constant) else None
    if isinstance(node, Function):
        return node.lineno if _empty(node) else _raises(node)
    body = body_of(node)
    if all(isinstance(part, ast.Pass) or _is_constant(part) for part in body):
        return node.lineno
    methods = [part for part in body if isinstance(part, Function) and not _abstract(part)]
    for method in methods:
        if (line := _raises(method)) is not None:
            return line
        if method.name in {"forward", "__call__"} and _empty(method):
            return method.lineno
    only_empty = methods and len(methods) == len(body) and all(_empty(m) for m in methods)
    return methods[0].lineno if only_empty else None


def _empty(node: Function) -> bool:
    """Whether a function passes, or returns nothing, whatever it is given."""
    return all(
        isinstance(part, ast.Pass)
        or _is_constant(part)
        or (isinstance(part, ast.Return) and (part.value is None or _is_none(part.value)))
        for part in body_of(node)
    )


def _raises(node: Function) -> int | None:
    """Return the line of a NotImplementedError that no call of the function can avoid."""
    for part in body_of(node):
        if any(isinstance(inner, ast.Return | ast.Yield) for inner in ast.walk(part)):
            return None
        if isinstance(part, ast.Raise) and part.exc is not None:
            error = part.exc.func if isinstance(part.exc, ast.Call) else part.exc
            if dotted(error, {}) == "NotImplementedError":
                return part.lineno
    return None


def _abstract(node: Function) -> bool:
    names = {(dotted(mark, {}) or "").rpartition(".")[2] for mark in node.decorator_list}
    return bool(names & {"abstractmethod", "overload"})


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def reasons(project: Project) -> Iterator[Finding]:
    """Report bullets under Deviations that leave an item out without a reason."""
    for item in project.plan.items:
        found = project.notes.deviation(item.name)
        if found is not None and not found.reason:
            yield Finding(
                rule="reasons",
                path=project.workspace.notes_file.name,
                line=found.line,
                message=f"The deviation {found.name!r} gives no reason.",
                remedy=f"Say why after the name: `- **{found.name}**: because …`.",
            )
