"""Nothing in the project comes from repos/, or from any other place outside the project.

Looked at: imports, paths in strings, changes of sys.path, links, and the configuration files that
may name a folder to import from. A web address with /repos/ in it is no path.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from maquette.research.checking.rules.base import Finding, Project
from maquette.research.checking.sources import Source, calls, dotted, strings

_PATH = re.compile(r"(?:^|.*[/\\.])repos(?:[/\\.].*)?")
_CONFIGURATION = ("pyproject.toml", "setup.cfg", "pytest.ini", "tox.ini", "*.pth")
_OF_PATHS = frozenset({"join", "joinpath", "Path", "PurePath", "import_module", "__import__"})
_REWRITE = (
    "Understand it, write it anew inside project/, and name the origin in a comment: "
    "`# Adapted from repos/NAME/FILE`."
)


def repos(project: Project) -> Iterator[Finding]:
    """Report whatever reaches for code outside the project."""
    for source in project.sources:
        lines: set[int] = set()
        for line, message, remedy in _reaching(source, project.modules):
            if line not in lines:
                lines.add(line)
                yield _finding(source.name, line, message, remedy)
    for path in _configuration(project.workspace.project):
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, written in enumerate(text.splitlines(), 1):
            if re.search(r"\brepos[/\\]|[/\\]repos\b", written) and "://" not in written:
                yield _finding(path.name, number, "This names a folder in repos/.")
    yield from _links(project)


def _reaching(source: Source, own: frozenset[str]) -> Iterator[tuple[int, str, str]]:
    """Yield (line, message, remedy)."""
    for item in source.imports:
        if item.module.partition(".")[0] == "repos" or (
            item.name == "repos" and (not item.module or item.climbs_out)
        ):
            yield item.line, "This imports from repos/.", _REWRITE
        elif item.climbs_out and item.module in own:
            message = "This relative import climbs above its package, which Python refuses."
            yield item.line, message, f"Write `from {item.module} import {item.name}`."
        elif item.climbs_out:
            yield item.line, "This relative import leads out of the project.", _REWRITE
    inside = _path_strings(source)
    for node in strings(source):
        text = str(node.value)
        is_path = _PATH.fullmatch(text) and "://" not in text and not re.search(r"\s", text)
        if is_path and (text != "repos" or id(node) in inside):
            yield node.lineno, f"This reaches for repos/: {text!r}.", _REWRITE
    for path in _search_paths(source):
        if _leads_out(path, source):
            message = "This lets the project import from outside its folder (sys.path)."
            yield path.lineno, message, _REWRITE


def _path_strings(source: Source) -> set[int]:
    """Return the strings that are part of a path: `folder / "repos"`, `join(x, "repos")`."""
    found: set[int] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Add):
            found |= {id(node.left), id(node.right)}
    for name, call in calls(source):
        if name.rpartition(".")[2] in _OF_PATHS:
            found |= {id(argument) for argument in call.args}
    for call in (node for node in ast.walk(source.tree) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr in _OF_PATHS:
            found |= {id(argument) for argument in call.args}
    return found


def _search_paths(source: Source) -> Iterator[ast.expr]:
    """Yield what is put into sys.path, site directories or PYTHONPATH."""
    for name, call in calls(source):
        if name in {"sys.path.insert", "sys.path.append", "sys.path.extend", "site.addsitedir"}:
            yield from call.args
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assign | ast.AugAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                base = target.value if isinstance(target, ast.Subscript) else target
                key = ast.unparse(target.slice) if isinstance(target, ast.Subscript) else ""
                if dotted(base, source.names) == "sys.path" or "PYTHONPATH" in key:
                    yield node.value


def _leads_out(node: ast.expr, source: Source) -> bool:
    """Whether a path climbs above the project, or names a place by itself."""
    up = 0
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            if part.value.startswith(("/", "~", "..")) or "repos" in re.split(r"[/\\]", part.value):
                return True
        elif isinstance(part, ast.Attribute) and part.attr == "parent":
            up += 1
        elif isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Constant):
            if isinstance(part.value, ast.Attribute) and part.value.attr == "parents":
                up += int(part.slice.value) + 1 if isinstance(part.slice.value, int) else 0
        elif isinstance(part, ast.Attribute) and part.attr in {"dirname", "pardir"}:
            up += 1
    return up > len(source.package) + 1


def _configuration(folder: Path) -> Iterator[Path]:
    for pattern in _CONFIGURATION:
        yield from (path for path in sorted(folder.glob(pattern)) if path.is_file())


def _links(project: Project) -> Iterator[Finding]:
    """Report links below the project whose target lies outside it, caches of data left out."""
    folder = project.workspace.project
    inside = folder.resolve()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_symlink() or name.startswith((".", "data/cache", "runs")):
            continue
        target = path.resolve()
        if not target.is_relative_to(inside):
            yield _finding(name, 0, "This is a link to a place outside the project.")


def _finding(name: str, line: int, message: str, remedy: str = _REWRITE) -> Finding:
    return Finding(rule="repos", path=f"project/{name}", line=line, message=message, remedy=remedy)
