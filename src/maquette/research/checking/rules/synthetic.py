"""The data of a run is real: nothing makes up samples or targets.

Reported everywhere but in tests/: functions that make toy data (`make_moons`, `FakeData`, Faker).

Reported in run.py, in data/ and in the helpers that data/ imports: random numbers that become
samples or targets by themselves (draws.py says what is random by itself): returned, yielded, kept
in an attribute or under a key, or given to a data set or to a function of the project.

Not reported: noise that is combined with data (`image + 0.1 * torch.randn_like(image)`), indices,
permutations, single numbers such as `torch.rand(1) < 0.5`, and what the name of a variable, a
function, a class or a file calls noise, a mask, an index and so on (`INTENDED`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from maquette.research.checking.rules.base import Finding, Project
from maquette.research.checking.rules.draws import REAL, Kind, Origin, Scope
from maquette.research.checking.sources import Function, Source, calls, dotted

MAKERS = re.compile(
    r"sklearn\.datasets\.(?:\w+\.)?make_\w+|torchvision\.datasets\.(?:\w+\.)?FakeData|faker\.\w+"
    r"|mimesis\.\w+|torch_geometric\.datasets\.(?:\w+\.)?Fake\w+|(?:\w+\.)*make_(?:moons|blobs)"
)
INTENDED = re.compile(
    r"noise|noisy|mask|jitter|augment|perturb|corrupt|mixup|cutmix|erasing|crop|box|perm|indices"
    r"|index|idx|order|offset|position|seed|init"
)
"""Words in a name that say that random numbers are meant: the name of the variable, of the
argument, or of the function that returns them, its class or its file."""
_MAY_DRAW = (("model",), ("training",), ("testing",))
"""Weights and latent variables are drawn there."""
_DATA_SETS = frozenset({"TensorDataset", "DataLoader", "DataFrame", "Series", "from_dict", "zip"})
_REMEDY = (
    "Read the data set that the plan names. If it is noise for real samples, combine it with them "
    "in one expression, or call it noise."
)


def synthetic(project: Project) -> Iterator[Finding]:
    """Report toy data anywhere, and random numbers in the place of data in the pipeline."""
    pipeline = _pipeline(project)
    for source in project.sources:
        if source.is_test:
            continue
        for name, call in calls(source):
            if MAKERS.fullmatch(name):
                yield _finding(source, call.lineno, f"{ast.unparse(call.func)} makes up data.")
        if source.name in pipeline:
            found = {origin.line: origin for origin in _Reader(project, source).found()}
            for line in sorted(found):
                text = f"{found[line].call} stands for data here."
                yield _finding(source, line, text)


def _finding(source: Source, line: int, message: str) -> Finding:
    return Finding(
        rule="synthetic",
        path=f"project/{source.name}",
        line=line,
        message=message,
        remedy=_REMEDY,
    )


def _pipeline(project: Project) -> set[str]:
    """Return run.py, the files of data/, and the helpers that those import."""
    by_module = {source.module: source for source in project.sources}
    waiting = [source for source in project.sources if source.package[:1] == ("data",)]
    seen = {"run.py"}
    while waiting:
        source = waiting.pop()
        if source.name in seen:
            continue
        seen.add(source.name)
        for item in source.imports:
            asked = (item.module, f"{item.module}.{item.name}")
            found = [by_module[module] for module in asked if module in by_module]
            waiting += [other for other in found if other.package[:1] not in _MAY_DRAW]
    return seen


class _Reader:
    """Reads one file statement by statement and collects draws that are used as data."""

    def __init__(self, project: Project, source: Source) -> None:
        self.source = source
        self.tops = {module.partition(".")[0] for module in project.modules}
        self.own = {n.name for n in ast.walk(source.tree) if isinstance(n, Function | ast.ClassDef)}

    def found(self) -> Iterator[Origin]:
        """Yield the origin of every draw that is used as data."""
        file = self.source.name.replace("__init__", "")
        yield from self._block(self.source.tree.body, Scope(self.source.names), file)

    def _block(self, body: list[ast.stmt], scope: Scope, inside: str) -> Iterator[Origin]:
        """Read statements; `inside` holds the names of the file, classes and functions around."""
        for node in body:
            if isinstance(node, Function):
                yield from self._function(node, scope, inside)
            elif isinstance(node, ast.ClassDef):
                yield from self._block(node.body, scope.inner(), f"{inside} {node.name}")
            else:
                yield from self._statement(node, scope, inside)
                for field in ("body", "orelse", "finalbody"):
                    yield from self._block(getattr(node, field, []), scope, inside)
                for part in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
                    yield from self._block(part.body, scope, inside)

    def _function(self, node: Function, scope: Scope, inside: str) -> Iterator[Origin]:
        inner = scope.inner()
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                inner.known[argument.arg] = REAL
        name = "" if node.name == "__init__" else node.name
        yield from self._block(node.body, inner, f"{inside} {name}")

    def _statement(self, node: ast.stmt, scope: Scope, inside: str) -> Iterator[Origin]:
        if INTENDED.search(inside.lower()):
            return
        for call in _calls_of(node):
            yield from self._given(call, scope)
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from self._assigned(target, value, scope)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield from self._assigned(target, value, scope)
            case ast.AugAssign(target=target, value=value):
                scope.bind(target, value, max(scope.origin(target), scope.origin(value)))
            case ast.For(target=target, iter=iterated):
                scope.bind(target, iterated, scope.origin(iterated))
            case ast.Return(value=value) | ast.Expr(value=ast.Yield(value=value)):
                yield from _parts(value, scope)

    def _assigned(self, target: ast.expr, value: ast.expr, scope: Scope) -> Iterator[Origin]:
        meant = INTENDED.search(ast.unparse(target).lower()) is not None
        scope.bind(target, value, REAL if meant else scope.origin(value))
        match target:
            case ast.Attribute() | ast.Subscript(slice=ast.Constant(value=str())) if not meant:
                yield from _parts(value, scope)

    def _given(self, call: ast.Call, scope: Scope) -> Iterator[Origin]:
        """Look at what a call is given; a list that is appended to becomes what it is given."""
        function = dotted(call.func, self.source.names) or ""
        last = function.rpartition(".")[2]
        if last == "append" and isinstance(call.func, ast.Attribute) and call.args:
            holder = call.func.value
            given = scope.origin(call.args[0])
            if isinstance(holder, ast.Name) and given.kind in {Kind.SCALAR, Kind.DRAWN}:
                drawn = Origin(Kind.DRAWN, given.line, given.call)
                scope.known[holder.id] = max(scope.known.get(holder.id, REAL), drawn)
        if (self._is_own(call.func) or last in _DATA_SETS) and not INTENDED.search(last.lower()):
            for argument in call.args:
                yield from _parts(argument, scope)
            for keyword in call.keywords:
                if not INTENDED.search((keyword.arg or "").lower()):
                    yield from _parts(keyword.value, scope)

    def _is_own(self, function: ast.expr) -> bool:
        """Whether a function is the project's: defined in this file, or imported from another."""
        while isinstance(function, ast.Attribute):
            function = function.value
        name = function.id if isinstance(function, ast.Name) else ""
        return name in self.own or self.source.names.get(name, "").partition(".")[0] in self.tops


def _calls_of(node: ast.stmt) -> Iterator[ast.Call]:
    """Yield the calls of a statement itself, those of the blocks inside it left out."""
    for field, value in ast.iter_fields(node):
        if field not in {"body", "orelse", "finalbody", "handlers", "cases"}:
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, ast.AST):
                    yield from (n for n in ast.walk(part) if isinstance(n, ast.Call))


def _parts(node: ast.expr | None, scope: Scope) -> Iterator[Origin]:
    """Yield the draws among the parts of a tuple, list or dictionary, or of one value."""
    if isinstance(node, ast.Tuple | ast.List):
        for part in node.elts:
            yield from _parts(part, scope)
    elif isinstance(node, ast.Dict):
        for part in node.values:
            yield from _parts(part, scope)
    elif node is not None and (origin := scope.origin(node)).kind == Kind.DRAWN:
        yield origin
