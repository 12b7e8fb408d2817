"""docs/CONTRACTS.md against the code: names, parameters, errors, and shapes by calling.

A row of a table there has five cells:

| cell | what this test does with it |
| --- | --- |
| Name | must be a public name of the module with these parameters and defaults |
| In | every name with `dtype (axes)` in it is made, at random, for the check |
| Out | every `dtype (axes)` in it is compared with what the check returns |
| Errors | `` SegError "text" `` must be raised somewhere below the function; with a call behind it,
  the call is made |
| Check | a Python expression that is evaluated; `-` where there is none |
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import math
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest
import torch
from torch import nn

import unet_seg
from unet_seg.data import batches, sample, toy
from unet_seg.losses import FORMULAS, LOSSES

PACKAGE = Path(unet_seg.__file__).parent
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "CONTRACTS.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")

DTYPES = ("float32", "float64", "int64", "uint8", "bool")
SPEC = re.compile(
    rf"(?:`(?P<name>\.?\w+)`: )?`(?P<dtype>{'|'.join(DTYPES)})(?P<array> array)? "
    r"\((?P<axes>[^()]*)\)(?: in (?P<range>\[[^\]]+\]|0\.\.[\w-]+(?: or 255)?))?`"
)
ERROR = re.compile(r'(?P<kind>\w+) "(?P<text>[^"]+)"(?:: `(?P<call>[^`]+)`)?$')
WRITTEN_BY = "text of "
SIZES = {k: int(v) for k, v in re.findall(r"(\w) = (\d+)", TEXT.split("\n## ")[0])}


@dataclass(frozen=True)
class Row:
    """A row of a table, and the module whose table it is in."""

    module: str
    name: str
    written: str
    takes: str
    gives: str
    errors: str
    check: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def read_rows() -> list[Row]:
    """Every row of every table under a heading that names a module."""
    rows, module = [], ""
    for line in TEXT.splitlines():
        if line.startswith("## "):
            module = line.removeprefix("## ").strip("`")
        elif line.startswith("| `") and module:
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            written = cells[0].strip("`")
            rows.append(Row(module, written.partition("(")[0], written, *cells[1:]))
    return rows


ROWS = read_rows()
CHECKED = [row for row in ROWS if row.check != "-"]
WITH_CALLS = [(row, m) for row in ROWS for m in map(ERROR.match, row.errors.split("<br>")) if m]


def module_names() -> list[str]:
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    names = ("unet_seg." + ".".join(path.parts) for path in paths)
    return sorted(name for name in names if not name.endswith(("__init__", "__main__")))


def public_names(module: ModuleType) -> set[str]:
    """Functions and classes that a module defines itself."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and isinstance(inspect.unwrap(value) if callable(value) else value, (FunctionType, type))
        and getattr(value, "__module__", None) == module.__name__
    }


def find(row: Row) -> object:
    """What a row is about: a name of its module, or a method of a class there."""
    return functools.reduce(getattr, row.name.split("."), importlib.import_module(row.module))


def signature(name: str, value: object) -> str:
    """`name(parameters)` with defaults, as the table writes it; exceptions and protocols bare."""
    is_class = isinstance(value, type)
    if is_class and (issubclass(value, Exception) or getattr(value, "_is_protocol", False)):
        return name
    parameters = [
        p.replace(annotation=inspect.Parameter.empty)
        for p in inspect.signature(value).parameters.values()  # type: ignore[arg-type]
        if p.name != "self"
    ]
    text = str(inspect.Signature(parameters))
    return name + text.replace("<factory>", "…").replace("|", "\\|")


def test_every_public_name_has_one_row_and_every_row_a_name():
    assert {row.module for row in ROWS} | {"unet_seg.cli"} == set(module_names())
    for name in module_names():
        rows = [row.name for row in ROWS if row.module == name and "." not in row.name]
        names = public_names(importlib.import_module(name))
        assert len(rows) == len(set(rows)), f"{name}: a name has two rows"
        assert names == set(rows), f"{name}: add or remove the row of {names ^ set(rows)}"


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_parameters(row):
    assert row.written == signature(row.name, find(row))


# Errors


def called_below(value: object) -> set[object]:
    """A function and everything of this package that it names, directly or indirectly."""
    seen: set[object] = set()
    waiting = [value]
    while waiting:
        function = inspect.unwrap(waiting.pop())  # type: ignore[arg-type]
        if function in seen or not str(getattr(function, "__module__", "")).startswith("unet_seg"):
            continue
        seen.add(function)
        module = sys.modules[function.__module__]
        for node in ast.walk(tree(function)):
            named = None
            if isinstance(node, ast.Name):
                named = getattr(module, node.id, None)
            elif isinstance(node, ast.Attribute):
                named = attribute(node, module, function)
            if isinstance(named, (FunctionType, type, functools._lru_cache_wrapper)):
                waiting.append(named)
        for node in ast.walk(tree(function)):  # names that are imported inside the function
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("unet_seg"):
                source = importlib.import_module(str(node.module))
                found = (getattr(source, alias.name, None) for alias in node.names)
                waiting += [f for f in found if isinstance(f, (FunctionType, type))]
    return seen


def attribute(node: ast.Attribute, module: ModuleType, function: object) -> object:
    """What `x.name` is: of an imported module, or a method of the function's own class."""
    if not isinstance(node.value, ast.Name):  # a method of an object: of which class is not known
        classes = [c for c in vars(module).values() if isinstance(c, type)]
        return next((vars(c)[node.attr] for c in classes if node.attr in vars(c)), None)
    if node.value.id == "self" and "." in getattr(function, "__qualname__", ""):
        owner = getattr(module, str(function.__qualname__).split(".")[0], None)  # type: ignore[attr-defined]
        return getattr(owner, node.attr, None)
    owner = getattr(module, node.value.id, None)
    return getattr(owner, node.attr, None) if isinstance(owner, (ModuleType, type)) else None


@functools.cache
def tree(value: object) -> ast.AST:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(value)))  # type: ignore[arg-type]
    except OSError:  # made at run time, such as the __init__ of a dataclass
        return ast.Module(body=[], type_ignores=[])


@functools.cache
def messages(value: object) -> frozenset[tuple[str, str]]:
    """(kind, text) of every error that a function makes itself; … stands for a value."""
    found = set()
    assigned = [node for node in ast.walk(tree(value)) if isinstance(node, ast.Assign)]
    variables = {ast.unparse(node.targets[0]): node.value for node in assigned}
    for node in ast.walk(tree(value)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        kind = node.func.id if isinstance(node.func, ast.Name) else ""
        kind = {"_need": "SegError", "_need_pair": "SegError"}.get(kind, kind)
        arguments = [variables.get(ast.unparse(arg), arg) for arg in node.args]
        text = " ".join(" ".join(map(literal, arguments)).split())
        helper = node.args[0].func if isinstance(node.args[0], ast.Call) else None
        if isinstance(helper, (ast.Name, ast.Attribute)):  # raise SegError(_report(...))
            text = WRITTEN_BY + (helper.id if isinstance(helper, ast.Name) else helper.attr)
        if "super().__init__" in ast.unparse(node.func):
            found.add((getattr(value, "__name__", ""), text))
        found.add((kind, text))
    return frozenset(found)


def written_by(name: str, functions: set[object]) -> list[str]:
    """All text in the function of this name, which puts messages together."""
    makers = [f for f in functions if getattr(f, "__name__", "") == name]
    return [literal(node) for f in makers for node in ast.walk(tree(f))]


def literal(node: ast.AST) -> str:
    """The constant text in an argument."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return literal(node.left) + literal(node.right)
    return "…"


@pytest.mark.parametrize("row", [r for r in ROWS if r.errors != "-"], ids=str)
def test_every_error_is_raised_by_the_code(row):
    functions = called_below(find(row))
    raised = set().union(*map(messages, functions))
    for item in row.errors.split("<br>"):
        match = ERROR.match(item)
        assert match, f'{item!r} is not: SegError "text"'
        if match["call"]:
            continue  # test_errors_by_calling does it
        known = [text for kind, text in raised if kind == match["kind"]]
        for text in [text for text in known if text.startswith(WRITTEN_BY)]:
            known += written_by(text.removeprefix(WRITTEN_BY), functions)
        assert any(match["text"] in text for text in known), f"{item} is not among\n{known}"


def raises_itself(value: object) -> bool:
    """Whether a function has a raise statement of its own that can reach its caller."""
    return any(
        isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) for node in own_nodes(value)
    )


def own_nodes(value: object) -> list[ast.AST]:
    """The nodes of a function, or of the __init__ and __post_init__ of a class."""
    names = ("__init__", "__post_init__")
    is_class = isinstance(value, type) and not getattr(value, "_is_protocol", False)
    bodies = [vars(value)[n] for n in names if n in vars(value)] if is_class else [value]
    functions = (inspect.unwrap(body) for body in bodies if not isinstance(body, type))
    return [node for function in functions for node in ast.walk(tree(function))]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_function_that_raises_says_so(row):
    if raises_itself(find(row)):
        assert row.errors != "-"


# Shapes


def make(match: re.Match[str], generator: torch.Generator) -> object:
    """A random tensor or array of a specification."""
    shape = sizes(match["axes"])
    low, high = limits(match["range"])
    if match["dtype"] == "bool":
        value = torch.rand(shape, generator=generator) < 0.5
    elif match["dtype"].startswith("float"):
        value = torch.randn(shape, generator=generator)
        if low is not None:
            value = low + (high - low) * torch.rand(shape, generator=generator)
        value = value.to(getattr(torch, match["dtype"]))
    else:
        low, high = (0, 255) if low is None else (low, high)
        value = torch.randint(int(low), int(high) + 1, shape, generator=generator)
        value = value.to(getattr(torch, match["dtype"]))
        if "or 255" in (match["range"] or ""):
            value[torch.rand(shape, generator=generator) < 0.2] = 255
    return value.numpy() if match["array"] else value


def sizes(axes: str) -> tuple[int, ...]:
    """(B,2*H) -> numbers, by the letters in the introduction of the document."""
    parts = [part.strip() for part in axes.split(",") if part.strip()]
    return tuple(int(eval(part, {"ceil": math.ceil}, SIZES)) for part in parts)


def limits(text: str | None) -> tuple[float, float] | tuple[None, None]:
    """[0, 1] or 0..N-1 -> numbers."""
    if text is None:
        return None, None
    if text.startswith("["):
        low, high = text.strip("[]").split(",")
        return float(low), float(high)
    _, last = text.removesuffix(" or 255").split("..")
    return 0, eval(last, {}, SIZES)


def namespace(row: Row, folder: Path) -> dict[str, object]:
    """What an expression may name: its module, the classes around data, sizes and the inputs."""
    generator = torch.Generator().manual_seed(0)
    module = importlib.import_module(row.module)
    shared = {"torch": torch, "np": np, "nn": nn, "Path": Path, "folder": folder}
    inputs = {m["name"]: make(m, generator) for m in SPEC.finditer(row.takes) if m["name"]}
    around = {**vars(sample), "ToyShapes": toy.ToyShapes, "collate": batches.collate}
    for name in ("config", "pixels", "sliding", "seed", "models"):
        around |= vars(importlib.import_module(f"unet_seg.{name}"))
    return {**vars(builtins), **around, **vars(module), **shared, **SIZES, **inputs}


def compare(row: Row, match: re.Match[str], value: object) -> None:
    assert isinstance(value, np.ndarray if match["array"] else torch.Tensor), f"{row}: {value!r}"
    dtype = str(value.dtype).removeprefix("torch.")
    assert dtype == match["dtype"], f"{row} gives {dtype}, expected {match['dtype']}"
    assert tuple(value.shape) == sizes(match["axes"]), f"{row}: {match[0]}"
    low, high = limits(match["range"])
    if low is not None and high is not None:
        numbers = np.asarray(value)
        if "or 255" in match["range"]:
            numbers = numbers[numbers != 255]
        numbers = numbers[~np.isnan(numbers)] if numbers.dtype.kind == "f" else numbers
        assert numbers.size == 0 or (low <= numbers.min() and numbers.max() <= high), f"{row}"


@pytest.mark.parametrize("row", CHECKED, ids=str)
def test_shapes_and_dtypes(row, tmp_path):
    torch.manual_seed(0)
    result = eval(row.check.strip("`"), namespace(row, tmp_path))
    wanted = list(SPEC.finditer(row.gives))
    plain = re.match(r"(float|int|bool|str|dict)\b(?! array| \()", row.gives)
    if plain:
        assert type(result).__name__ == plain[1]
        return
    assert wanted, f"{row}: the Out cell names no dtype (axes)"
    for place, match in enumerate(wanted):
        if match["name"] and match["name"].startswith("."):
            compare(row, match, getattr(result, match["name"][1:]))
        else:
            compare(row, match, result[place] if isinstance(result, (tuple, list)) else result)


@pytest.mark.parametrize(
    ("row", "match"), [x for x in WITH_CALLS if x[1]["call"]], ids=lambda x: str(x)[:60]
)
def test_errors_by_calling(row, match, tmp_path):
    with pytest.raises(Exception, match=re.escape(match["text"]).replace("…", ".*")) as caught:
        eval(match["call"], namespace(row, tmp_path))
    assert type(caught.value).__name__ == match["kind"]


def test_enough_is_checked_by_calling():
    """All modules of networks, losses, metrics and transforms, and no fewer than now."""
    called = {str(row) for row in CHECKED}
    for row in ROWS:
        value = find(row)
        if isinstance(value, type) and issubclass(value, nn.Module):
            assert str(row) in called, row
    for module, spared in (
        ("losses", {"build_loss"}),
        ("metrics", {"SegmentationMeter"}),
        ("data.transforms", {"check_sample", "Change", "draw"}),
    ):
        rows = {row.name for row in ROWS if row.module == f"unet_seg.{module}"}
        missing = {n for n in rows if f"unet_seg.{module}.{n}" not in called and "." not in n}
        assert missing <= spared, missing
    assert len(called) >= 100


def test_every_loss_by_name_is_a_scalar():
    logits = torch.randn(2, 5, 8, 8)
    target = torch.randint(5, (2, 8, 8))
    assert LOSSES.keys() == FORMULAS.keys()
    for loss in LOSSES.values():
        assert loss(logits, target).shape == ()
        assert loss(logits, target).dtype == torch.float32
