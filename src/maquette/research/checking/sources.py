"""Python files as trees: what a file imports, defines, calls, and says in strings.

    sources = read_sources(project)          every Python file of a project
    source.names                             local name -> where it comes from: np -> numpy
    dotted(node, source.names)               np.random.rand -> "numpy.random.rand"

Nothing is imported or run. A file that cannot be parsed has an empty tree and says why.
"""

from __future__ import annotations

import ast
import io
import os
import tokenize
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

NO_CODE = frozenset({"__pycache__", "node_modules", "site-packages", "runs", "data/cache"})
"""Folders that hold nothing a person wrote, besides hidden ones and virtual environments."""

DEPTH = 200
"""Levels of a tree that the rules can walk; code that people write has a few dozen."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class Problem:
    """Why a file could not be parsed."""

    line: int
    text: str


@dataclass(frozen=True)
class Import:
    """One name that a file imports."""

    module: str
    """Dotted, relative ones made absolute: `from .a import x` in model/ is "model.a"."""
    name: str | None
    """What is taken from the module; None for `import module`."""
    local: str
    """What it is called in the file."""
    line: int
    climbs_out: bool
    """A relative import with more dots than the file lies deep, which Python refuses."""
    optional: bool
    """The file does without it: inside `try … except ImportError`, or only for the types."""


@dataclass(frozen=True)
class Source:
    """One Python file."""

    name: str
    """Its path below the folder that was read: "model/tabm.py"."""
    text: str
    tree: ast.Module
    problem: Problem | None = None

    @property
    def module(self) -> str:
        """How the project imports it: "model.tabm"; "model" for model/__init__.py."""
        parts = PurePosixPath(self.name).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def package(self) -> tuple[str, ...]:
        """The folders it lies in."""
        return PurePosixPath(self.name).parts[:-1]

    @property
    def is_test(self) -> bool:
        """It lies in tests/."""
        return self.package[:1] == ("tests",)

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """Everything it imports, wherever in the file."""
        return tuple(_imports(self))

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Local name -> dotted origin, for imported names: {"np": "numpy", "nn": "torch.nn"}."""
        known: dict[str, str] = {}
        for item in self.imports:
            if item.name is not None:
                known[item.local] = f"{item.module}.{item.name}" if item.module else item.name
            elif "." in item.module and item.local == item.module.partition(".")[0]:
                known.setdefault(item.local, item.local)
            else:
                known[item.local] = item.module
        return known

    @cached_property
    def docstrings(self) -> frozenset[int]:
        """Identities of the nodes that are docstrings, or stand alone as remarks."""
        return frozenset(
            id(node.value)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        )


def read_sources(folder: Path) -> tuple[Source, ...]:
    """Read every Python file below a folder, in a fixed order; links are not followed."""
    return tuple(read_source(path, folder) for path in python_files(folder))


def python_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files below a folder, `NO_CODE` left out."""
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if _holds_code(here / name, folder))
        for name in sorted(files):
            path = here / name
            if name.endswith(".py") and path.is_file() and not path.is_symlink():
                yield path


def _holds_code(path: Path, folder: Path) -> bool:
    return not (
        path.name.startswith(".")
        or path.name in NO_CODE
        or path.relative_to(folder).as_posix() in NO_CODE
        or (path / "pyvenv.cfg").exists()
    )


def read_source(path: Path, folder: Path) -> Source:
    """Read one Python file below `folder`; what is wrong with it is in the result."""
    name = path.relative_to(folder).as_posix()
    empty = ast.Module(body=[], type_ignores=[])
    try:
        content = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        return Source(name, "", empty, Problem(1, f"it cannot be read: {error.strerror or error}"))
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        return Source(name, "", empty, Problem(1, f"it is not text in its encoding: {error}"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except SyntaxError as error:
        return Source(name, text, empty, Problem(error.lineno or 1, error.msg))
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte, a nest of brackets
        return Source(name, text, empty, Problem(1, str(error) or type(error).__name__))
    if (line := _too_deep(tree)) is not None:
        return Source(name, text, empty, Problem(line, f"more than {DEPTH} things in each other"))
    return Source(name, text, tree)


def _too_deep(tree: ast.Module) -> int | None:
    """Return the line where a file nests deeper than `DEPTH`, such as a sum of many terms."""
    level: list[ast.AST] = [tree]
    for _ in range(DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return next((line for node in level if (line := getattr(node, "lineno", None))), None)


def _imports(source: Source) -> Iterator[Import]:
    optional = {id(node) for node in _optional(source.tree)}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                local = alias.asname or alias.name.partition(".")[0]
                spare = id(node) in optional
                yield Import(alias.name, None, local, node.lineno, False, spare)
        elif isinstance(node, ast.ImportFrom):
            climb = max(node.level - 1, 0)
            base = source.package[: len(source.package) - climb] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            out = node.level > len(source.package)
            for alias in node.names:
                local, spare = alias.asname or alias.name, id(node) in optional
                yield Import(module, alias.name, local, node.lineno, out, spare)


def _optional(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below `try … except ImportError` and `if TYPE_CHECKING`."""
    for node in ast.walk(tree):
        body: list[ast.stmt] = []
        if isinstance(node, ast.Try):
            caught = " ".join(ast.unparse(h.type) for h in node.handlers if h.type)
            if "ImportError" in caught or "ModuleNotFoundError" in caught:
                body = node.body
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            body = node.body
        for statement in body:
            yield from ast.walk(statement)


def dotted(node: ast.expr, names: Mapping[str, str]) -> str | None:
    """Return the full name of `a.b.c` with `a` replaced by its origin; None for other nodes.

    A name that is not imported stays as it is: `self.net` is "self.net".
    """
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def calls(source: Source) -> Iterator[tuple[str, ast.Call]]:
    """Yield (full name, node) of every call whose function has a name."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and (name := dotted(node.func, source.names)):
            yield name, node


def strings(source: Source) -> Iterator[ast.Constant]:
    """Yield the string constants that the code uses: docstrings are left out."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if id(node) not in source.docstrings:
            yield node


def definition(tree: ast.AST, symbol: str) -> Definition | None:
    """Find a name among the definitions of a file, also within `if` and `try`."""
    found: Definition | None = None
    for node in top_level(tree):
        if symbol in defined_names(node) and isinstance(node, Definition):
            found = node  # the last one wins, as it does when the file runs
    return found


def top_level(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a file or class, those within `if`, `try` and `with` too."""
    for field in ("body", "orelse", "handlers", "finalbody"):
        for node in getattr(tree, field, []):
            if isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
                yield from top_level(node)
            else:
                yield node


def defined_names(node: ast.stmt) -> tuple[str, ...]:
    """Return the names that a statement defines; none for an import."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return (node.name,)
    if isinstance(node, ast.Assign):
        return tuple(target.id for target in node.targets if isinstance(target, ast.Name))
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        return (node.target.id,)
    return ()


def body_of(node: Function | ast.ClassDef) -> list[ast.stmt]:
    """Return the statements of a function or class without its docstring."""
    return node.body[1:] if ast.get_docstring(node) is not None else node.body
