"""What the checkout promises as a whole: what make enforces, where things are, what is told."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "maquette"
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def commands_of(target: str) -> str:
    """What make runs for a target."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)
    assert found, f"make has no target {target}"
    return found[1]


def test_lint_and_coverage_are_enforced():
    """CI runs lint and test; these fail on style, types, arrows, warnings and low coverage."""
    assert "exec make lint test\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    for tool in ("ruff format --check .", "ruff check .", "mypy\n", "lint-imports"):
        assert tool in commands_of("lint")
    assert re.search(r"^test: test-platform test-segmentation test-speech ", MAKEFILE, re.M)
    for target in ("test-platform", "test-segmentation", "test-speech"):
        least = re.search(r"--cov --cov-fail-under=(\d+)", commands_of(target))
        assert least is not None, target
        assert int(least[1]) >= 85
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert settings["mypy"]["strict"] is True
    assert {"E", "F", "W", "I"} <= set(settings["ruff"]["lint"]["select"])
    assert settings["coverage"]["run"]["source"] == ["maquette"]
    assert settings["pytest"]["ini_options"]["filterwarnings"] == ["error"]


def test_make_has_the_targets_of_the_specification():
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.M))
    assert {"install", "setup", "train", "serve", "docker-build", "docker-run"} <= targets
    assert {"demo", "test", "lint", "evaluate", "bench", "docs", "clean", "help"} <= targets


def test_the_architecture_names_every_room():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in PACKAGE.iterdir():
        if path.name.startswith("__") or path.suffix not in ("", ".py"):
            continue
        name = f"{path.name}/" if path.is_dir() else path.name
        assert re.search(rf"^  {re.escape(name)} ", page, re.M) or f"  {name}\n" in page, name


def test_every_public_name_is_documented():
    bare = []
    for file in PACKAGE.rglob("*.py"):
        module = ast.parse(file.read_text(encoding="utf-8"))
        for node in [module, *module.body] if module.body else []:
            is_definition = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            name = getattr(node, "name", "")
            if is_definition and not name.startswith("_") and not ast.get_docstring(node):
                bare.append(f"{file.relative_to(ROOT)}: {name or 'the module'}")
    assert bare == []
