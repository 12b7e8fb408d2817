"""Code of others: never imported, named where it was adapted."""

from __future__ import annotations

import pytest
from check_cases import FILES, findings, where

from maquette.research.checking.rules.similarity import fingerprint, run_hashes, shared_lines

LOADER = "project/data/loader.py"
REWRITE = (
    "Understand it, write it anew inside project/, and name the origin in a comment: "
    "`# Adapted from repos/NAME/FILE`. [repos]"
)


def _with(line: str) -> dict[str, str | None]:
    return {LOADER: f"{FILES[LOADER]}\n\n{line}\n"}


REACHING = {
    "import repos.tabm": "This imports from repos/.",
    "from repos import tabm": "This imports from repos/.",
    "from repos.tabm.model import Layer": "This imports from repos/.",
    "from ...repos.tabm import Layer": "This imports from repos/.",
    "from ... import repos": "This imports from repos/.",
    "from ...elsewhere import thing": "This relative import leads out of the project.",
    "import importlib; importlib.import_module('repos.tabm')": "reaches for repos/: 'repos.tabm'.",
    "X = __import__('repos')": "This reaches for repos/: 'repos'.",
    "exec(open('../repos/tabm/model.py').read())": "reaches for repos/: '../repos/tabm/model.py'.",
    "from pathlib import Path; F = Path('..') / 'repos' / 'tabm'": "reaches for repos/: 'repos'.",
    "F = f'{torch}/repos/{batches}'": "This reaches for repos/: '/repos/'.",
    "F = __file__.parent.joinpath('repos')": "This reaches for repos/: 'repos'.",
    "import sys; sys.path.insert(0, '../repos/tabm')": "This reaches for repos/",
    "import sys; sys.path.append('..')": "import from outside its folder (sys.path).",
    "import sys; sys.path += ['/opt/code']": "import from outside its folder (sys.path).",
    "import sys; sys.path[:0] = [str(P(__file__).parents[2])]": "outside its folder (sys.path).",
    "import sys; sys.path.append(P(__file__).parent.parent.parent)": "folder (sys.path).",
    "import os; os.environ['PYTHONPATH'] = '~/code'": "import from outside its folder (sys.path).",
    "import sys, os.path as o; sys.path.append(o.dirname(o.dirname(o.dirname(__file__))))": (
        "import from outside its folder (sys.path)."
    ),
    "import sys, os; n = os.path.dirname; sys.path.append(n(n(__file__)))": None,
    "import sys; sys.path.append(str(P(__file__).parent.parent))": None,
    "import sys; sys.path.insert(0, str(P(__file__).resolve().parents[1]))": None,
    "URL = 'https://api.github.com/repos/a/b'": None,
    "COUNTS = {'repos': 3}": None,
    "HELP = 'never import from repos/ here'": None,
    "'''See repos/tabm/model.py'''": None,
}


@pytest.mark.parametrize("line", REACHING)
def test_reaching_for_repos(line, tmp_path):
    found = findings(tmp_path, _with(line))

    if REACHING[line] is None:
        assert found == ()
    else:
        assert where(found) == [("repos", LOADER, 14)]
        assert REACHING[line] in str(found[0])
        assert str(found[0]).endswith(REWRITE)


def test_a_relative_import_stays_in_its_package(tmp_path):
    (found,) = findings(tmp_path, _with("from ..model.two_heads import TwoHeads"))

    assert where((found,)) == [("repos", LOADER, 14)]
    assert str(found).endswith(
        "This relative import climbs above its package, which Python refuses. "
        "Write `from model.two_heads import TwoHeads`. [repos]"
    )


def test_configuration_may_not_name_repos_either(tmp_path):
    setup = "[pytest]\npythonpath = . ../repos/tabm\n# https://example.org/repos/x\n"
    (found,) = findings(tmp_path, {"project/pytest.ini": setup})

    assert where((found,)) == [("repos", "project/pytest.ini", 2)]
    assert "This names a folder in repos/." in str(found)


def test_a_link_out_of_the_project_is_found(tmp_path):
    (tmp_path / "repos/tabm").mkdir(parents=True)
    (tmp_path / "project/data/cache").mkdir(parents=True)
    (tmp_path / "project/tabm").symlink_to(tmp_path / "repos/tabm")
    (tmp_path / "project/readme").symlink_to("README.md")
    (tmp_path / "project/data/cache/x.csv").symlink_to(tmp_path / "repos")
    (found,) = findings(tmp_path, {})

    assert where((found,)) == [("repos", "project/tabm", 0)]
    assert "This is a link to a place outside the project." in str(found)


ORIGIN = '''"""Blocks of the original."""
from torch import nn, cat


class Attention(nn.Module):
    """Attend."""

    def __init__(self, dim, heads=8, dropout=0.1):
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.to_qkv = nn.Linear(dim, dim * 3, bias=False)
        self.out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x, mask=None):
        b, n, d = x.shape  # sizes
        q, k, v = self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        q = q.view(b, n, self.heads, -1).transpose(1, 2)
        k = k.view(b, n, self.heads, -1).transpose(1, 2)
        v = v.view(b, n, self.heads, -1).transpose(1, 2)
        scores = q @ k.transpose(-2, -1) * self.scale
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        mixed = scores.softmax(dim=-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(b, n, d)) + x
'''
REFORMATTED = """import torch.nn as nn

class Attention(nn.Module):
    def __init__( self, dim, heads=8, dropout=0.1, ):
        super().__init__()
        self.heads = heads; self.scale = (dim // heads) ** -0.5
        self.to_qkv = nn.Linear(dim, dim*3, bias=False)
        self.out = nn.Sequential(
            nn.Linear(dim, dim),
            nn.Dropout(dropout),
        )
        self.norm = nn.LayerNorm(dim)
    def forward(self, x, mask=None):
        # split into heads
        b, n, d = x.shape
        q, k, v = self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        q = q.view(b, n, self.heads, -1).transpose(1, 2)
        k = k.view(b, n, self.heads, -1).transpose(1, 2)
        v = v.view(b, n, self.heads, -1).transpose(1, 2)
        scores = q @ k.transpose(-2, -1) * self.scale
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], float('-inf'))
        mixed = scores.softmax(dim=-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(b, n, d)) + x
"""
RENAMED = ORIGIN
for old, new in {
    "to_qkv": "project",
    "scores": "weights",
    "heads": "num_heads",
    "mixed": "answer",
    "Attention": "SelfAttention",
    "dim//": "width//",
    "norm": "before",
}.items():
    RENAMED = RENAMED.replace(old, new)
REWRITTEN = '''"""Attention by the library's own function."""
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    """Mix the tokens of a sequence, then add what was there."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.queries = nn.Linear(width, width)
        self.keys_and_values = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens):
        queries = self._split(self.queries(tokens))
        keys, values = map(self._split, self.keys_and_values(tokens).tensor_split(2, -1))
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return tokens + self.output(mixed.movedim(1, 2).flatten(-2))

    def _split(self, tokens):
        return tokens.unflatten(-1, (self.num_heads, -1)).movedim(2, 1)
'''
BLOCK = "project/model/block.py"
STUDIED = {"repos/vit/model/attention.py": ORIGIN, "repos/vit/setup.py": "from setuptools import *"}


@pytest.mark.parametrize(("text", "line"), [(ORIGIN, 5), (REFORMATTED, 3), (RENAMED, 5)])
def test_code_that_follows_another_names_it(text, line, tmp_path):
    (found,) = findings(tmp_path / "a", {**STUDIED, BLOCK: text})

    assert (found.rule, found.path, found.line) == ("origins", BLOCK, line)
    assert "lines are as in repos/vit/model/attention.py, unnamed." in found.message
    assert found.remedy == (
        "Put `# Adapted from repos/vit/model/attention.py` above them, or write them anew."
    )
    told = f"# Adapted from repos/vit/model/attention.py.\n{text}"
    assert findings(tmp_path / "b", {**STUDIED, BLOCK: told}) == ()


def test_code_that_was_written_anew_needs_no_origin(tmp_path):
    assert findings(tmp_path, {**STUDIED, BLOCK: REWRITTEN}) == ()


def test_another_origin_does_not_account_for_the_lines(tmp_path):
    told = f"# Adapted from repos/vit/setup.py#L3\n{ORIGIN}"
    (found,) = findings(tmp_path, {**STUDIED, BLOCK: told})

    assert where((found,)) == [("origins", BLOCK, 6)]


def test_an_origin_has_to_be_there(tmp_path):
    named = _with("# Adapted from `repos/vit/model/attn.py`")
    (found,) = findings(tmp_path / "a", {**STUDIED, **named})

    assert where((found,)) == [("origins", LOADER, 14)]
    assert str(found).endswith(
        "There is no repos/vit/model/attn.py in the workspace. "
        "Correct the path of the origin. [origins]"
    )
    (note,) = findings(tmp_path / "b", named)
    assert str(note).endswith(
        "note: repos/vit/model/attn.py cannot be looked at: the workspace has no repos/. "
        "Keep the code that was studied there, if others should compare. [origins]"
    )
    assert note.note


def test_a_folder_and_lines_are_origins_too(tmp_path):
    text = "# Adapted from repos/vit/model\n# adapted from repos/vit/model/attention.py:5-12,\n"

    assert findings(tmp_path, {**STUDIED, BLOCK: text}) == ()


def test_forty_lines_of_a_long_file_are_many(tmp_path):
    copied = "".join(f"    total = total * {i} + rows[{i}] - {i % 7}\n" for i in range(45))
    own = "".join(f"OWN_{i} = [{i}, {i * i}]\nMORE_{i} = OWN_{i} or {i}\n" for i in range(100))
    body = f"def f(rows, total):\n{copied}    return total\n"
    (found,) = findings(tmp_path, {"repos/a.py": body, BLOCK: own + body})

    assert found.line in {201, 202}
    assert "lines are as in repos/a.py" in found.message


def test_files_of_the_past_can_be_compared():
    ours = fingerprint("x = 1\n" + ORIGIN)
    old = run_hashes(ORIGIN.replace("        super", "        print 'old', 1\n        super"))

    assert len(shared_lines(ours, old)) > 15
    assert shared_lines(fingerprint("a = 1\n"), old) == frozenset()
    assert fingerprint("# only\n'''words'''\nimport os\n").num_lines == 0


def test_two_lists_are_not_the_same_code(tmp_path):
    ours = "NAMES = [\n" + "".join(f"    'ours {i}',\n" for i in range(60)) + "]\n"

    assert findings(tmp_path, {"repos/a.py": ours.replace("ours", "their"), BLOCK: ours}) == ()
