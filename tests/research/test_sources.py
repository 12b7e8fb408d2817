"""Python files as trees; notes.md as bullets."""

from __future__ import annotations

import ast
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.research.checking.sources import (
    body_of,
    calls,
    defined_names,
    definition,
    dotted,
    read_source,
    read_sources,
    strings,
    top_level,
)
from maquette.research.notes import Deviation, parse_notes, read_notes


def _read(folder, content, name="model/a.py"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_source(path, folder)


def test_names_are_followed_to_their_origin(tmp_path):
    source = _read(
        tmp_path,
        "import numpy as np, os.path, torch.nn\nfrom torch import nn as n\nfrom .b import c\n"
        "from . import d\nimport torch.nn.functional as F\nnp.random.rand(1)\nself.net(2)\n"
        "n.Linear\nos.path.join\nf()(3)\nF.relu(c, d)\n",
    )

    assert source.names == {
        "np": "numpy",
        "os": "os",
        "torch": "torch",
        "n": "torch.nn",
        "c": "model.b.c",
        "d": "model.d",
        "F": "torch.nn.functional",
    }
    assert [name for name, _ in calls(source)] == [
        "numpy.random.rand",
        "self.net",
        "torch.nn.functional.relu",
        "f",
    ]
    assert dotted(ast.parse("n.Linear", mode="eval").body, source.names) == "torch.nn.Linear"
    assert dotted(ast.parse("f().x", mode="eval").body, source.names) is None
    assert source.module == "model.a"
    assert source.package == ("model",)


def test_modules_and_tests_are_known_by_their_place(tmp_path):
    assert _read(tmp_path, "", "model/__init__.py").module == "model"
    assert _read(tmp_path, "", "run.py").module == "run"
    assert _read(tmp_path, "", "tests/test_a.py").is_test
    assert not _read(tmp_path, "", "model/tests.py").is_test


def test_the_last_definition_counts(tmp_path):
    source = _read(
        tmp_path,
        "def a(): 'first'\nif 1:\n    class b: pass\nelse:\n    def a():\n"
        "        'doc'\n        x\n"
        "try:\n    c: int = 1\nexcept OSError:\n    d = e = 2\nfinally:\n    f: int\nimport g\n"
        "for h in []:\n    pass\nwith open() as i:\n    j, k = 1, 2\n    l = 3\n",
    )
    found = {name: definition(source.tree, name) for name in "abcdefghijkl"}

    assert found["a"] is not None
    assert found["a"].lineno == 5
    assert len(body_of(found["a"])) == 1
    assert [name for name, node in found.items() if node is not None] == list("abcdel")
    names = [name for node in top_level(source.tree) for name in defined_names(node)]
    assert names == list("abacdel")


def test_docstrings_are_not_strings_of_the_code(tmp_path):
    source = _read(tmp_path, "'''doc'''\nx = 'a' + f'b{x}'\n'remark'\n")

    assert [node.value for node in strings(source)] == ["a", "b"]


BROKEN = {
    b"x = (": "'(' was never closed",
    b"\xff\xfe": "it is not text in its encoding",
    b"# coding: latin-9000\n": "it is not text in its encoding: unknown encoding: latin-9000",
    b"x = 1\n\0": "null",
    b"(" * 500: "too many nested parentheses",
    b"x = '\\d'\ny = (": "'(' was never closed",
    b"x = 1\ny = 2" + b" + 2" * 300: "more than 200 things in each other",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_file_that_cannot_be_read_says_why(content, tmp_path):
    source = _read(tmp_path, content)

    assert source.problem is not None
    assert BROKEN[content] in source.problem.text
    assert source.tree.body == []


def test_a_problem_has_its_line(tmp_path):
    assert _read(tmp_path, b"x = 1\ny = 2" + b" + 2" * 300).problem.line == 2
    assert _read(tmp_path, b"x = 1\ny = (").problem.line == 2


def test_encodings_and_line_ends(tmp_path):
    assert _read(tmp_path, "# coding: latin-1\r\nx = 'é'\r".encode("latin-1")).text.endswith(
        "\nx = 'é'\n"
    )
    assert _read(tmp_path, b"\xef\xbb\xbfx = 1\n").problem is None


def test_a_file_that_may_not_be_opened(tmp_path):
    (tmp_path / "a.py").mkdir()
    source = read_source(tmp_path / "a.py", tmp_path)

    assert source.problem is not None
    assert source.problem.text == "it cannot be read: Is a directory"


def test_only_written_code_is_read(tmp_path):
    for name in (
        "b.py",
        "a/z.py",
        "a/runs.py",
        ".venv/x.py",
        "env/lib/x.py",
        "a/__pycache__/x.py",
        "data/cache/x.py",
        "data/dataset.py",
        "cache/x.py",
        "a/notes.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "env/pyvenv.cfg").write_text("")
    os.mkfifo(tmp_path / "waits.py")
    (tmp_path / "linked.py").symlink_to(tmp_path / "b.py")

    assert [source.name for source in read_sources(tmp_path)] == [
        "b.py",
        "a/runs.py",
        "a/z.py",
        "cache/x.py",
        "data/dataset.py",
    ]


@given(st.text(max_size=80) | st.binary(max_size=80))
def test_any_bytes_end_in_a_source(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "any"
    source = _read(folder, content if isinstance(content, bytes) else content.encode("utf-16"))

    assert source.imports == () or source.problem is None


NOTES = """# Notes
- **Nothing**: not below the heading

## Deviations from Plan
<!--
- **Hidden**: an example
-->
```
- **Code**: an example
```
- **Batch ensemble**: left out, because `k` is 1
  and more
- **Log-loss** – no reason but this
- Plain words with **Bold** later
  - **Inner**: below another
- **Bare**
- **Colon:** inside
*

## Known Issues
- **Accuracy**: low
"""


def test_bullets_that_name_something():
    notes = parse_notes(NOTES)

    assert notes.headings == ("Deviations from Plan", "Known Issues")
    assert notes.deviations == (
        Deviation("Batch ensemble", "left out, because  k  is 1 and more", 11),
        Deviation("Log-loss", "no reason but this", 13),
        Deviation("Bare", "", 16),
        Deviation("Colon", "inside", 17),
    )
    assert notes.deviation("batch  Ensemble") == notes.deviations[0]
    assert notes.deviation("Accuracy") is None


def test_no_notes(tmp_path):
    assert read_notes(tmp_path / "notes.md").headings == ()


@given(st.text())
def test_any_text_ends_in_notes(text):
    assert len(parse_notes(f"## Deviations from Plan\n{text}").headings) >= 1
