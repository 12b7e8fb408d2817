"""Each promise of docs/SPEC.md names tests, and these exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from pages import ROOT

TEXT = (ROOT / "docs" / "SPEC.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`((?:parity/)?test_\w+\.py)::(test_\w+)`")
PARITY = ROOT.parents[1] / "tests" / "parity"


def promises() -> list[tuple[str, str]]:
    """(promise, what shows it) of all tables with these two columns."""
    tables = re.findall(r"^\| promise \| shown by \|\n\| --- \| --- \|\n((?:\|.*\n)+)", TEXT, re.M)
    rows = [line.strip("| ").split(" | ", 1) for table in tables for line in table.splitlines()]
    return [(promise, shown) for promise, shown in rows]


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("promise", "shown"), promises(), ids=lambda text: text[:40])
def test_a_promise_has_tests_that_exist(promise: str, shown: str) -> None:
    assert re.fullmatch(rf"{NAMED.pattern}(, {NAMED.pattern})*", shown), promise
    for file, name in NAMED.findall(shown):
        if file.startswith("parity/"):
            if not PARITY.is_dir():  # the package was copied out of its repository
                continue
            path = PARITY / file.removeprefix("parity/")
        else:
            path = ROOT / "tests" / file
        assert path.is_file(), f"{promise}: there is no {file}"
        assert name in functions(path), f"{promise}: {file} has no {name}"


def test_every_part_of_the_specification_has_promises_or_targets() -> None:
    parts = re.split(r"^## ", TEXT, flags=re.M)[1:]
    assert len(parts) >= 12
    for part in parts:
        assert "| promise | shown by |" in part or part.startswith("Targets"), part[:20]
