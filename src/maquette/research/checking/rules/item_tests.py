"""Every item of the plan has a test that can fail: it imports the item, uses it, and asserts.

A test uses what it names, and what the helpers, fixtures and set-up methods that it names use. A
test that is always skipped, or asserts only constants, is none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from maquette.research.checking.rules.base import Finding, Project
from maquette.research.checking.sources import Function, Source, defined_names, dotted, top_level
from maquette.research.planning.plan import Item

_NEVER_RUN = frozenset({"skip", "xfail"})
_SET_UP = frozenset({"setup_method", "setup_class", "setUp", "setUpClass"})


def tests(project: Project) -> Iterator[Finding]:
    """Report items without a test file, and test files that do not test their item."""
    for item in project.promised():
        source = project.by_name.get(item.test_file)
        if source is None:
            yield _finding(
                item,
                0,
                f"{project.named(item)} has no test: this file is missing.",
                f"Write it: import {item.symbol} from {_module(item)} and assert what it does.",
            )
        elif source.problem is None and (message := _weakness(item, source)):
            line, text, remedy = message
            yield _finding(item, line, f"{project.named(item)} {text}", remedy)


def _finding(item: Item, line: int, message: str, remedy: str) -> Finding:
    return Finding(
        rule="tests",
        path=f"project/{item.test_file}",
        line=line,
        message=message[0].upper() + message[1:],
        remedy=remedy,
    )


def _weakness(item: Item, source: Source) -> tuple[int, str, str] | None:
    """Return (line, what is wrong, the fix) of a test file that does not test its item."""
    wanted = _full_names(item)
    found = [node for node in ast.walk(source.tree) if _named(node, source.names) in wanted]
    if not found:
        return (
            0,
            f"is not tested here: nothing uses {item.symbol} of {_module(item)}.",
            f"Add `from {_module(item)} import {item.symbol}` and a test.",
        )
    every = list(_tests(source.tree))
    if not every:
        return 0, "is not tested here: no function is called test_….", "Name one so."
    run = [test for test in every if not _never_runs(test)]
    if not run:
        return every[0].lineno, "is not tested: its tests never run.", "Take the mark away."
    reach = [_reach(test, source.tree) for test in run]
    using = [
        nodes for nodes in reach if any(_named(part, source.names) in wanted for part in nodes)
    ]
    if not using:
        return (
            run[0].lineno,
            f"is not tested here: no test uses {item.symbol}.",
            "Call it in one and assert what comes out.",
        )
    if not any(_asserts(part, source.names) for nodes in using for part in nodes):
        return (
            run[0].lineno,
            "has a test that cannot fail: it asserts nothing.",
            f"Assert what {item.symbol} gives, such as its shape or a value known by hand.",
        )
    return None


def _module(item: Item) -> str:
    return Source(item.file, "", ast.Module(body=[], type_ignores=[])).module


def _full_names(item: Item) -> set[str]:
    """Return how a test can name an item: by its module, or by a package that hands it on."""
    parts = _module(item).split(".")
    return {".".join([*parts[:depth], item.symbol]) for depth in range(1, len(parts) + 1)}


def _named(node: ast.AST, names: Mapping[str, str]) -> str | None:
    return dotted(node, names) if isinstance(node, ast.Name | ast.Attribute) else None


def _tests(tree: ast.AST) -> Iterator[Function]:
    for node in top_level(tree):
        if isinstance(node, Function) and node.name.startswith("test"):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from _tests(node)


def _never_runs(test: Function) -> bool:
    marks = (mark.func if isinstance(mark, ast.Call) else mark for mark in test.decorator_list)
    return any((dotted(mark, {}) or "").rpartition(".")[2] in _NEVER_RUN for mark in marks)


def _reach(test: Function, tree: ast.Module) -> list[ast.AST]:
    """Return every node of a test, and of the helpers of its file that it names."""
    helpers: dict[str, list[ast.stmt]] = {}
    set_up: list[ast.stmt] = []
    for node in top_level(tree):
        inside = list(top_level(node)) if isinstance(node, ast.ClassDef) else []
        for part in [node, *inside]:
            if part is not test and not (isinstance(part, ast.ClassDef) and test in inside):
                for name in defined_names(part):
                    helpers.setdefault(name, []).append(part)
        if test in inside:
            set_up += [part for part in inside if set(defined_names(part)) & _SET_UP]
    nodes: list[ast.AST] = []
    waiting: list[ast.AST] = [test, *set_up]
    while waiting:
        for found in ast.walk(waiting.pop()):
            nodes.append(found)
            waiting += helpers.pop(_word(found), [])
    return nodes


def _word(node: ast.AST) -> str:
    """Return the word by which a node may name a helper: a name, a method, a fixture."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.arg):
        return node.arg
    return str(node.value) if isinstance(node, ast.Constant) else ""  # usefixtures("name")


def _asserts(node: ast.AST, names: Mapping[str, str]) -> bool:
    """Whether a node can make a test fail: an assertion about something that is computed."""
    if isinstance(node, ast.Assert):
        return any(isinstance(part, ast.Name | ast.Call) for part in ast.walk(node.test))
    if not isinstance(node, ast.Call):
        return False
    name = (
        node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func, names) or ""
    )
    last = name.rpartition(".")[2].lstrip("_")
    return last.startswith(("assert", "check")) or last in {"raises", "warns", "gradcheck"}
