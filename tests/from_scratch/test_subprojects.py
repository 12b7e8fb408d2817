"""What the subprojects promise as folders: their own requirements, whole files, a word on each."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUBPROJECTS = sorted(
    p for p in (ROOT / "from_scratch").iterdir() if (p / "pyproject.toml").is_file()
)
FILES = sorted(
    path
    for folder in SUBPROJECTS
    for part in ("src", "scripts", "configs", "docs")
    for path in (folder / part).rglob("*")
    if path.suffix in (".py", ".sh", ".yaml", ".md")
)
PLACEHOLDER = re.compile(r"\b(TODO|FIXME|XXX|TBD|NotImplementedError)\b|not implemented yet")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT / "from_scratch"))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_complete(path):
    text = path.read_text(encoding="utf-8")
    assert text.strip() or path.name == "__init__.py"
    found = PLACEHOLDER.search(text)
    assert found is None, f"{path.name}: {found}"
    if path.suffix == ".py":
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef):
                assert not isinstance(function.body[-1], ast.Pass), f"{path}:{function.lineno}"


def test_the_search_for_placeholders_finds_one():
    assert PLACEHOLDER.search("def f():\n    raise NotImplementedError")
    assert PLACEHOLDER.search("# TODO: write this")


@pytest.mark.parametrize("folder", SUBPROJECTS, ids=lambda p: p.name)
def test_a_subproject_pins_its_requirements_and_is_tested_with_nothing_else(folder):
    pins = (folder / "requirements.txt").read_text(encoding="utf-8")
    lines = [line for line in pins.splitlines() if line and not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"from_scratch/{folder.name}\n" in makefile
    own = r"\$\(call install,\$\(\w+\)/\.venv,-r \$\(\w+\)/requirements\.txt -r \$\(\w+\)/require"
    assert re.search(own, makefile)


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md"])
def test_the_pages_of_the_repository_speak_of_both_subprojects(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "from_scratch/" in text
    assert "segmentation" in text
    assert "speech" in text.lower()
