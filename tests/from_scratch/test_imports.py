"""The subprojects stand alone: what their code imports, and what it must not use ready-made."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FROM_SCRATCH = Path(__file__).resolve().parents[2] / "from_scratch"
PACKAGES = {"unet_transformer_segmentation": "unet_seg", "paraformer_asr": "paraformer_asr"}
"""Subproject folder -> its package. There are exactly two, and they share no code."""
ALLOWED = {"torch", "numpy", "yaml", "tqdm", "matplotlib", "PIL"}
"""PIL (Pillow) is matplotlib's own dependency for reading and writing images."""
SERVICE = {"fastapi", "uvicorn", "starlette"}
"""Only in the module of the optional service."""
READY_MADE = ("MultiheadAttention", "Transformer", "scaled_dot_product_attention")
FUSED_PATH = ("unet_seg", "attention.py")
"""The one file that may call PyTorch's kernel, behind `attention: fused`."""


def sources() -> list[Path]:
    return sorted(FROM_SCRATCH.glob("*/src/**/*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and top package of every import, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield node.lineno, (node.module or "").split(".")[0]


def ready_made(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every use of a ready-made attention or transformer of PyTorch."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Attribute):
            names = [(node.attr, ast.unparse(node.value))]
        elif isinstance(node, ast.ImportFrom):
            names = [(alias.name, node.module or "") for alias in node.names]
        for name, owner in names:
            is_torch = owner.split(".")[0] in ("torch", "nn", "F")
            if is_torch and any(name.startswith(forbidden) for forbidden in READY_MADE):
                yield node.lineno, name


def test_there_are_only_the_two_subprojects():
    folders = {path.name for path in FROM_SCRATCH.iterdir() if path.is_dir()}
    assert folders <= set(PACKAGES)
    for folder in folders:
        packages = {path.name for path in (FROM_SCRATCH / folder / "src").iterdir()}
        assert PACKAGES[folder] in packages
        for part in ("configs", "src", "tests", "scripts", "docs"):
            assert (FROM_SCRATCH / folder / part).is_dir(), f"{folder} has no {part}/"


@pytest.mark.parametrize("path", sources(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_file_imports_only_what_a_learner_has(path):
    package = PACKAGES[path.relative_to(FROM_SCRATCH).parts[0]]
    allowed = ALLOWED | {package} | (SERVICE if path.name == "service.py" else set())
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for line, name in imports(tree):
        assert name in sys.stdlib_module_names or name in allowed, f"{path.name}:{line}: {name}"


@pytest.mark.parametrize("path", sources(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_attention_is_written_out(path):
    found = list(ready_made(ast.parse(path.read_text(encoding="utf-8"))))
    if (path.parent.name, path.name) == FUSED_PATH:
        assert {name for _, name in found} == {"scaled_dot_product_attention"}
    else:
        assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.nn.MultiheadAttention(8, 2)",
        "from torch import nn\nnn.TransformerEncoderLayer(8, 2)",
        "from torch.nn import Transformer",
        "import torch.nn.functional as F\nF.scaled_dot_product_attention(1, 2, 3)",
    ],
)
def test_the_scan_sees_ready_made_parts(code):
    assert list(ready_made(ast.parse(code)))


def test_the_scan_sees_imports_inside_functions():
    code = "def f():\n    import scipy.ndimage\n    from maquette import train\n"
    assert [name for _, name in imports(ast.parse(code))] == ["scipy", "maquette"]
