"""Which expressions hold random numbers instead of data.

Every expression is of one of four kinds. What is computed from several takes the highest, so noise
that is added to an image is an image, and noise alone is not.

    CONSTANT   written in the code        0.5, torch.zeros(8), []
    SCALAR     one random number          torch.rand(1), rng.random()
    DRAWN      an array of them           torch.randn(100, 5), [random.random() for _ in range(9)]
    REAL       something from elsewhere   a parameter, what a function returns, a file
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from maquette.research.checking.sources import dotted


class Kind(IntEnum):
    """Where the numbers of an expression come from; the higher one wins."""

    CONSTANT = 0
    SCALAR = 1
    DRAWN = 2
    REAL = 3


@dataclass(frozen=True, order=True)
class Origin:
    """The kind of an expression, and where its random numbers are drawn."""

    kind: Kind
    line: int = 0
    call: str = ""
    """The function that draws, as the code writes it."""


CONSTANT = Origin(Kind.CONSTANT)
REAL = Origin(Kind.REAL)

SIZE_AT: Mapping[str, int] = {
    "rand": 0,
    "randn": 0,
    "random": 0,
    "random_sample": 0,
    "ranf": 0,
    "standard_normal": 0,
    "exponential": 1,
    "poisson": 1,
    "standard_t": 1,
    "integers": 2,
    "randint": 2,
    "random_integers": 2,
    "normal": 2,
    "uniform": 2,
    "laplace": 2,
    "lognormal": 2,
    "gamma": 2,
    "multivariate_normal": 2,
}
"""Functions that draw, of numpy and its generators -> position of the size of the result."""
_LIKE = frozenset({"rand_like", "randn_like", "randint_like"})
_IN_PLACE = frozenset({"normal_", "uniform_", "random_", "exponential_"})
_DISTRIBUTIONS = frozenset({"Normal", "Uniform", "MultivariateNormal", "LogNormal", "Categorical"})
_GENERATORS = frozenset({"numpy.random.default_rng", "numpy.random.RandomState"})
_GENERATOR_NAMES = frozenset({"rng", "generator", "random_state", "gen", "prng"})
_PYTHON = frozenset({"random", "uniform", "gauss", "normalvariate", "randint", "randrange"})
_EMPTY = frozenset({"zeros", "ones", "empty", "full", "arange", "linspace", "eye"})
_WRAPS = frozenset({"array", "asarray", "tensor", "as_tensor", "list", "tuple", "float", "int"})
_COMBINES = frozenset({"add", "sub", "mul", "div", "where", "lerp", "append", "add_", "mul_"})
_SETTINGS = frozenset({"device", "dtype", "generator", "size", "shape", "axis", "dim", "seed"})


@dataclass
class Scope:
    """What the names of a function stand for, in the order in which it runs."""

    imported: Mapping[str, str]
    known: dict[str, Origin] = field(default_factory=dict)
    generators: set[str] = field(default_factory=set)

    def inner(self) -> Scope:
        """Open the scope of a function inside: it sees what is known so far."""
        return Scope(self.imported, dict(self.known), set(self.generators))

    def bind(self, target: ast.expr, value: ast.expr, origin: Origin) -> None:
        """Note what an assignment puts into its names; `a, b = x, y` goes part by part."""
        if isinstance(target, ast.Name):
            self.known[target.id] = origin
            if isinstance(value, ast.Call) and dotted(value.func, self.imported) in _GENERATORS:
                self.generators.add(target.id)
        elif isinstance(target, ast.Tuple | ast.List):
            parts = value.elts if isinstance(value, ast.Tuple | ast.List) else []
            for index, part in enumerate(target.elts):
                inner = parts[index] if len(parts) == len(target.elts) else value
                self.bind(part, inner, self.origin(inner) if inner is not value else origin)
        elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            name = target.value.id
            self.known[name] = max(self.known.get(name, REAL), origin)

    def origin(self, node: ast.AST | None) -> Origin:
        """Return where the numbers of an expression come from."""
        match node:
            case None | ast.Constant() | ast.JoinedStr():
                return CONSTANT
            case ast.Name():
                return self.known.get(node.id, REAL)
            case ast.Attribute():
                return CONSTANT if self._is_imported(node) else self.origin(node.value)
            case ast.Subscript() | ast.Starred() | ast.NamedExpr() | ast.Await():
                return self.origin(node.value)
            case ast.UnaryOp():
                return self.origin(node.operand)
            case ast.BinOp():
                return max(self.origin(node.left), self.origin(node.right))
            case ast.Compare():
                return max(map(self.origin, [node.left, *node.comparators]))
            case ast.BoolOp():
                return max(map(self.origin, node.values))
            case ast.IfExp():
                return max(self.origin(node.body), self.origin(node.orelse))
            case ast.Tuple() | ast.List() | ast.Set():
                return max(map(self.origin, node.elts), default=CONSTANT)
            case ast.Dict():
                return max(map(self.origin, node.values), default=CONSTANT)
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
                return self._repeated(node.elt)
            case ast.DictComp():
                return self._repeated(node.value)
            case ast.Call():
                return self._call(node)
            case _:
                return REAL

    def _is_imported(self, node: ast.Attribute) -> bool:
        while isinstance(node.value, ast.Attribute):
            node = node.value
        return isinstance(node.value, ast.Name) and node.value.id in self.imported

    def _repeated(self, element: ast.expr) -> Origin:
        """One random number, again and again, is an array of them."""
        one = self.origin(element)
        return Origin(Kind.DRAWN, one.line, one.call) if one.kind == Kind.SCALAR else one

    def _call(self, node: ast.Call) -> Origin:
        drawn = self._drawn(node)
        if drawn is not None:
            return drawn
        arguments = [*node.args, *(k.value for k in node.keywords if k.arg not in _SETTINGS)]
        given = max(map(self.origin, arguments), default=CONSTANT)
        function = dotted(node.func, self.imported) or ""
        library, _, last = function.rpartition(".")
        if library in {"torch", "numpy"} and last in _EMPTY:
            return CONSTANT
        if last in _WRAPS and library in {"torch", "numpy", ""}:
            return given
        if isinstance(node.func, ast.Attribute) and not self._is_imported(node.func):
            receiver = self.origin(node.func.value)
            return max(receiver, given) if node.func.attr in _COMBINES else receiver
        return given if given.kind in {Kind.SCALAR, Kind.DRAWN} else REAL

    def _drawn(self, node: ast.Call) -> Origin | None:
        """Return the origin of a call that draws random numbers, None for other calls."""
        function = dotted(node.func, self.imported) or ""
        library, _, last = function.rpartition(".")
        scalar, drawn = (
            Origin(kind, node.lineno, ast.unparse(node.func)) for kind in (Kind.SCALAR, Kind.DRAWN)
        )
        if library == "torch" and last in _LIKE:
            return drawn
        if library == "torch" and last in {"rand", "randn", "randint", "normal"}:
            around = max(map(self.origin, node.args[:2]), default=CONSTANT)
            if last == "normal" and around.kind == Kind.REAL and "size" not in _words(node):
                return around  # around the data that is there
            return scalar if _is_one(node, first=last in {"rand", "randn"}) else drawn
        if library == "random" and last in _PYTHON:
            return scalar
        if isinstance(node.func, ast.Attribute):
            if node.func.attr in _IN_PLACE:
                return drawn
            if self._is_generator(node.func.value) and node.func.attr in SIZE_AT:
                return self._numpy(node, node.func.attr, scalar, drawn)
            if node.func.attr in {"sample", "rsample"} and self._is_distribution(node.func.value):
                return drawn if node.args or node.keywords else scalar
        return None

    def _numpy(self, node: ast.Call, name: str, scalar: Origin, drawn: Origin) -> Origin:
        size = next((k.value for k in node.keywords if k.arg == "size"), None)
        if size is None and len(node.args) > SIZE_AT[name]:
            size = node.args[SIZE_AT[name]]
        if size is not None:
            return scalar if _is_single(size) and len(node.args) <= SIZE_AT[name] + 1 else drawn
        around = max(map(self.origin, node.args), default=CONSTANT)
        return max(around, scalar) if name not in {"integers", "randint"} else scalar

    def _is_generator(self, node: ast.expr) -> bool:
        name = dotted(node, self.imported) or ""
        if isinstance(node, ast.Call):
            return dotted(node.func, self.imported) in _GENERATORS
        last = name.rpartition(".")[2]
        return name == "numpy.random" or last in self.generators or last in _GENERATOR_NAMES

    def _is_distribution(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call):
            return False
        library, _, last = (dotted(node.func, self.imported) or "").rpartition(".")
        return library.startswith("torch.distributions") and last in _DISTRIBUTIONS


def _words(node: ast.Call) -> set[str | None]:
    return {keyword.arg for keyword in node.keywords}


def _is_one(node: ast.Call, *, first: bool) -> bool:
    """Whether torch draws a single number: torch.rand(1), torch.randint(9, (1,))."""
    sizes = [k.value for k in node.keywords if k.arg == "size"]
    if first:
        sizes += node.args
    else:
        sizes += [argument for argument in node.args if isinstance(argument, ast.Tuple | ast.List)]
    return len(sizes) == 1 and _is_single(sizes[0])


def _is_single(size: ast.expr) -> bool:
    if isinstance(size, ast.Tuple | ast.List):
        return all(_is_single(part) for part in size.elts)
    return isinstance(size, ast.Constant) and size.value in (1, None)
