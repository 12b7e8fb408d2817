"""The requirements table is complete, and every test it names exists."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "requirements.md"
ROW = re.compile(r"^\| (\S+) \| (.+?) \| (.+) \|$", re.M)
TEST = re.compile(r"`((?:from_scratch/\w+/)?tests/[\w/]+\.py)::((?:\w+::)?test_\w+)`")
"""A file of the platform's or a subproject's tests, and a test in it, with its class if any."""


def counted(prefix: str, *sizes: int) -> list[str]:
    """ "P8.", 4 gives P8.1 to P8.4; several sizes add a level: R1.1 to R1.5, R2.1, …"""
    if len(sizes) == 1:
        return [f"{prefix}{n}" for n in range(1, sizes[0] + 1)]
    return [
        f"{prefix}{group}.{n}"
        for group, size in enumerate(sizes, start=1)
        for n in range(1, size + 1)
    ]


CRITERIA = [
    *counted("P4.", 7, 6, 5),
    *counted("P5.", 12),
    *counted("P6.", 20),
    *counted("P7.", 9),
    *counted("P8.", 4),
    *counted("P9.", 2),
    *counted("P10.", 6),
    *counted("P11.", 8),
    *counted("P12.", 8),
    *counted("P14.", 10),
    *counted("R", *10 * [5]),
    *counted("T", 11),
    *counted("T", 0, 4, 3, 4, 4, 3, 4, 4, 3, 2, 4),
    *counted("G-principle-", 3),
    *("G-structure", "G-sequence", "G-validation", "G-report"),
    *counted("G-rule-", 6),
    *counted("C", *7 * [4]),
]


def rows() -> list[tuple[str, str, str]]:
    found = ROW.findall(TABLE.read_text(encoding="utf-8"))
    return [row for row in found if re.match(r"[PRTC]\d|G-", row[0])]


def test_every_criterion_has_exactly_one_line():
    assert Counter(name for name, _, _ in rows()) == Counter(CRITERIA)


def test_every_line_says_what_shows_it():
    for name, _, shown in rows():
        tests = ", ".join(f"`{file}::{test}`" for file, test in TEST.findall(shown))
        if shown.startswith("partly: "):
            assert re.fullmatch(rf"partly: {re.escape(tests)}; missing: .+", shown), name
        else:
            assert shown == (tests or "not yet"), name


def test_every_named_test_exists():
    for name, _, shown in rows():
        for file, test in TEST.findall(shown):
            assert (ROOT / file).is_file(), f"{name} names {file}, which does not exist"
            assert test in functions_of(ROOT / file), f"{name} names {file}::{test}: no such test"


def functions_of(file: Path) -> set[str]:
    """The top-level functions of a file and Class::method, read without importing it."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = (part for part in node.body if isinstance(part, ast.FunctionDef))
            found |= {f"{node.name}::{method.name}" for method in methods}
    return found
