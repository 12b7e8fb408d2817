"""docs/CONTRACTS.md says what the code does: each row is called, and no door is left out.

A door is what one file of the package imports from another (or a class's public method), if there
are tensors in its signature; a module of PyTorch; a class that holds tensors. `contract_calls.py`
calls each of them.
"""

from __future__ import annotations

import ast
import importlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract_calls import CALLS, Call
from torch import Tensor

from paraformer_asr.errors import AsrError

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "paraformer_asr"
PAGE = (ROOT / "docs" / "CONTRACTS.md").read_text(encoding="utf-8")
ARROW = "→ "
REMARKS = {"padding not read", "finite padding", "0 in the padding", "-1 in the padding"}
RANGE = re.compile(r"finite|\[(?P<low>[^,]+), (?P<high>[^\])]+)(?P<open>[\])])|>= (?P<least>\S+)")


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    door: str
    tensor: str
    shape: tuple[str, ...]
    dtype: str
    values: str
    """The range, or the meaning of True."""
    remark: str
    refused: str

    @property
    def comes_out(self) -> bool:
        return self.tensor.startswith(ARROW)

    def __str__(self) -> str:
        return f"{self.door}({self.tensor})"


def read_rows() -> list[Row]:
    found = []
    door = ""
    for line in PAGE.partition("\n## `audio`")[2].partition("\n## Doors without")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 6 or cells[0] in ("Door", "---"):
            continue
        door = cells[0].strip("`") or door
        values, _, remark = cells[4].partition("; ")
        axes = tuple(cells[2].split()) if cells[2] != "-" else ()
        found.append(Row(door, cells[1], axes, cells[3], values, remark, cells[5]))
    return found


ROWS = read_rows()
DOORS = {door: [row for row in ROWS if row.door == door] for door in {row.door for row in ROWS}}


def as_tensor(value: object) -> object:
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def results(door: str, given: object) -> dict[str, Tensor]:
    """What came out by the names of the rows; a row too many or too few is a failure."""
    names = [row.tensor for row in DOORS[door] if row.comes_out]
    given = as_tensor(given)
    if not names:
        assert not isinstance(given, Tensor), f"{door}: the table names nothing that comes out"
        return {}
    if isinstance(given, Tensor):
        assert len(names) == 1, f"{door}: one tensor comes out, the table names {names}"
        return {names[0]: given}
    if isinstance(given, tuple):
        tensors = [each for each in given if isinstance(each, Tensor)]
        return dict(zip(names, tensors, strict=True))
    if not isinstance(given, dict):
        buffers = dict(given.named_buffers()) if isinstance(given, torch.nn.Module) else {}
        fields = given.__dataclass_fields__ if is_dataclass(given) else buffers
        given = {name: as_tensor(getattr(given, name)) for name in fields}
    tensors = {f"{ARROW}{name}": v for name, v in given.items() if isinstance(v, Tensor)}
    assert sorted(tensors) == sorted(names), f"{door}: {sorted(tensors)} came out, not {names}"
    return tensors


def size_of(text: str, letters: dict[str, float]) -> float:
    words = {"ceil": math.ceil, "floor": math.floor}
    return eval(text, {"__builtins__": {}}, words | letters)  # our own page


def check_shape(row: Row, tensor: Tensor, letters: dict[str, float]) -> None:
    """The axes; a letter that no row before has told gets its size."""
    assert tensor.ndim == len(row.shape), f"{row} is {list(tensor.shape)}, not {row.shape}"
    for axis, size in zip(row.shape, tensor.shape, strict=True):
        if re.fullmatch(r"[A-Za-z]\d?", axis):
            letters.setdefault(axis, size)
        assert size == size_of(axis, letters), f"{row} is {list(tensor.shape)}, not {row.shape}"


def check_dtype(row: Row, tensor: Tensor, known: dict[str, Tensor]) -> None:
    name = str(tensor.dtype).removeprefix("torch.")
    if row.dtype == "float":
        assert tensor.is_floating_point(), f"{row} is {name}"
    elif row.dtype.startswith("as "):
        assert tensor.dtype == known[row.dtype.removeprefix("as ")].dtype, f"{row} is {name}"
    else:
        assert name == row.dtype, f"{row} is {name}, not {row.dtype}"


def check_values(row: Row, tensor: Tensor, letters: dict[str, float]) -> None:
    if tensor.dtype == torch.bool:
        assert row.values.startswith("True = "), row
        return
    found = RANGE.fullmatch(row.values)
    assert found, f"{row}: {row.values!r} is no range"
    assert torch.isfinite(tensor).all(), row
    if tensor.numel() == 0 or row.values == "finite":
        return
    least, most = tensor.min().item(), tensor.max().item()
    if found["least"]:
        assert least >= float(found["least"]) - 1e-6, f"{row}: {least}"
        return
    assert least >= size_of(found["low"], letters) - 1e-6, f"{row}: {least}"
    high = size_of(found["high"], letters)
    assert most < high if found["open"] == ")" else most <= high + 1e-5, f"{row}: {most}"


def in_padding(tensor: Tensor, lens: Tensor) -> Tensor:
    """The values behind the lengths of the second axis."""
    return tensor[torch.arange(tensor.shape[1]) >= lens[:, None]]


def prepared(door: str, folder: Path) -> Call:
    return CALLS[door](folder)


@pytest.mark.parametrize("door", sorted(DOORS))
def test_a_door_takes_and_gives_what_its_rows_say(door: str, tmp_path: Path) -> None:
    call = prepared(door, tmp_path)
    assert list(call.takes) == [row.tensor for row in DOORS[door] if not row.comes_out]
    known: dict[str, Tensor] = dict(call.takes)
    known |= results(door, call.run(**call.takes))
    letters: dict[str, float] = dict(call.letters)
    for row in DOORS[door]:
        check_shape(row, known[row.tensor], letters)
    for row in DOORS[door]:
        check_dtype(row, known[row.tensor], known)
        check_values(row, known[row.tensor], letters)


@pytest.mark.parametrize(
    "door", sorted({row.door for row in ROWS if row.remark.endswith(" in the padding")})
)
def test_padding_is_what_the_rows_say(door: str, tmp_path: Path) -> None:
    call = prepared(door, tmp_path)
    known = call.takes | results(door, call.run(**call.takes))
    for row in DOORS[door]:
        if row.remark.endswith(" in the padding"):
            if row.tensor not in call.lens and not row.comes_out:
                continue
            value = float(row.remark.split()[0])
            padding = in_padding(known[row.tensor], call.lens[row.tensor])
            assert padding.numel(), f"{row}: the call has no padding"
            assert (padding == value).all(), row


@pytest.mark.parametrize("row", [row for row in ROWS if row.remark == "padding not read"], ids=str)
def test_padding_that_is_not_read_may_hold_anything(row: Row, tmp_path: Path) -> None:
    call = prepared(row.door, tmp_path)
    before = results(row.door, call.run(**call.takes))
    tensor, lens = call.takes[row.tensor], call.lens[row.tensor]
    anything = math.nan if tensor.is_floating_point() else 12345
    real = torch.arange(tensor.shape[1]) < lens[:, None]
    real = real.view(*real.shape, *[1] * (tensor.ndim - 2))
    assert not real.all(), f"{row}: the call has no padding"
    poisoned = call.takes | {row.tensor: tensor.where(real, anything)}
    after = results(row.door, call.run(**poisoned))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("row", [row for row in ROWS if not row.comes_out], ids=str)
def test_an_axis_too_many_is_refused_where_the_row_says_so(row: Row, tmp_path: Path) -> None:
    assert row.refused == ("axes" if refuses(row, tmp_path) else "-")


def refuses(row: Row, folder: Path) -> bool:
    """Whether a tensor with another axis is an error in words."""
    call = prepared(row.door, folder)
    wrong = call.takes | {row.tensor: call.takes[row.tensor][None]}
    try:
        call.run(**wrong)
    except AsrError:
        return True
    except (RuntimeError, ValueError, IndexError, TypeError, AttributeError, AssertionError):
        return False
    return False


def test_every_row_is_understood() -> None:
    for row in ROWS:
        assert row.remark in REMARKS or not row.remark, row
        assert row.refused in ("axes", "-"), row
        assert row.comes_out <= (row.refused == "-"), row
    assert sorted(DOORS) == sorted(CALLS)


# Which doors there are


def modules() -> Iterator[tuple[str, ast.Module]]:
    """`cif` and so on; those of data/ by their own name, which no other module has."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.stem not in ("__init__", "__main__"):
            yield path.stem, ast.parse(path.read_text(encoding="utf-8"))


def imported() -> set[str]:
    """`module.name` of all that a file of the package takes from another."""
    found = set()
    for _, tree in modules():
        aliases = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("paraformer_asr"):
                module = str(node.module).rpartition(".")[2]
                for each in node.names:
                    found.add(f"{module}.{each.name}")
                    aliases[each.asname or each.name] = each.name
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found.add(f"{aliases.get(node.value.id)}.{node.attr}")
    return found


def definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def has_tensor(function: ast.FunctionDef) -> bool:
    """Whether tensors go in or come out, but for functions that are handed over."""
    hints = [each.annotation for each in (*function.args.args, *function.args.kwonlyargs)]
    written = [ast.unparse(hint) for hint in (*hints, function.returns) if hint is not None]
    return any("Tensor" in text and "Callable" not in text for text in written)


def required() -> set[str]:
    """The doors that must have rows."""
    found = set()
    used = imported()
    for module, tree in modules():
        for node in definitions(tree):
            name = f"{module}.{node.name}"
            if isinstance(node, ast.FunctionDef):
                if name in used and has_tensor(node):
                    found.add(name)
                continue
            is_module = any("Module" in ast.unparse(base) for base in node.bases)
            if name not in used and not is_module:
                continue
            found |= {
                f"{name}.{method.name}"
                for method in node.body
                if isinstance(method, ast.FunctionDef)
                and not method.name.startswith("_")
                and has_tensor(method)
            }
            if any(isinstance(b, ast.AnnAssign) and "Tensor" in ast.unparse(b) for b in node.body):
                found.add(name)
    return found


EXEMPT = {
    "batches.Batch": "its rows are those of collate",
    "checkpoints.fill": "a whole state dict",
    "contracts.expect_dtype": "any tensor",
    "contracts.expect_finite": "any tensor",
    "convert_files.read_weights": "a whole state dict",
}
"""Doors without rows, and why."""


def test_no_door_is_missing() -> None:
    missing = required() - set(DOORS) - set(EXEMPT)
    assert not missing, f"add rows and calls for {sorted(missing)}"
    assert set(EXEMPT) <= required()


@pytest.mark.parametrize("door", sorted(DOORS))
def test_a_row_names_what_exists(door: str) -> None:
    stem, *names = door.split(".")
    inside = "data." if (PACKAGE / "data" / f"{stem}.py").is_file() else ""
    value: Any = importlib.import_module(f"paraformer_asr.{inside}{stem}")
    for name in names:
        value = getattr(value, name)
    assert callable(value) or isinstance(value, property)


def test_other_doors_are_listed_with_their_modules() -> None:
    listed = dict(
        re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.partition("## Doors without")[2], re.M)
    )
    used = imported()
    with_rows = {".".join(door.split(".")[:2]) for door in DOORS}
    for module, tree in modules():
        here = {node.name for node in definitions(tree)}
        known = {name for name in here if f"{module}.{name}" in with_rows}
        told = set(re.findall(r"`(\w+)`", listed.get(module, "")))
        needed = {name for name in here if f"{module}.{name}" in used} - known
        assert needed <= told, f"{module}: {sorted(needed - told)} are used elsewhere; list them"
        assert told <= here, f"{module} has no {sorted(told - here)}"
    assert set(listed) <= {module for module, _ in modules()}
