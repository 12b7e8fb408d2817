"""An item of the plan as code: docstrings, literals and imports survive any text."""

from __future__ import annotations

import ast
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.research.planning.plan import Formula, Item, Kind
from maquette.research.scaffolding.skeletons import (
    WIDTH,
    call,
    docstring,
    import_lines,
    item_code,
    item_test,
    module_code,
    quoted,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def item(kind: Kind = "loss", **changes: object) -> Item:
    """Return an item of a plan."""
    facts: dict[str, object] = {
        "kind": kind,
        "name": "Mean loss",
        "line": 1,
        "file": "training/loss.py",
        "symbol": "mean_loss",
        "text": "",
        "fields": {},
    }
    return Item(**facts | changes)  # type: ignore[arg-type]


def squeezed(text: str) -> str:
    """Return text without whitespace and control characters."""
    return re.sub(r"[\s\x00-\x1f\x7f]", "", text)


@given(TEXTS)
def test_any_text_is_a_docstring(text: str):
    code = docstring(text, "    ")

    found = ast.get_docstring(ast.parse(f"def f():\n{code}\n").body[0])

    assert squeezed(found or "") == squeezed(text.replace('"""', "'''")) or not squeezed(text)


@given(TEXTS)
def test_any_text_is_a_literal(text: str):
    assert ast.literal_eval(quoted(text)) == re.sub(r"[\x00-\x1f\x7f]", " ", text)


@given(TEXTS, TEXTS, TEXTS)
def test_any_item_is_code_and_test(name: str, text: str, formula: str):
    for kind in ("dataset", "model", "loss", "metric"):
        made = item(kind, name=name, text=text, formulas=(Formula(formula, 1),))
        ast.parse(module_code([made], {"mean_loss": 'fetch(SOURCES["mean_loss"])'}))
        ast.parse(item_test(made))


def test_the_formula_is_quoted_word_for_word():
    formulas = (Formula("a \\cdot b", 3), Formula("\nc\n  = d\n", 5))

    code = item_code(item(text="It is\n\n- a list\n- of two", formulas=formulas))

    assert (
        code
        == '''\
def mean_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""Mean loss.

    It is

    - a list
    - of two

    Formulas of the plan:

        $$ a \\cdot b $$

        $$ c
          = d $$
    """
    raise NotImplementedError("Mean loss: write its formula.")'''
    )


def test_fields_are_quoted_except_those_that_are_code():
    fields = {"code": "a.py:b", "goal": "higher", "baseline": "majority"}

    code = item_code(item("metric", fields=fields))

    assert "Fields of the plan:\n        goal: higher\n        baseline: majority\n" in code
    assert "a.py:b" not in code


def test_long_lines_are_broken_with_their_indent():
    code = docstring(f"Name.\n\n  - {'word ' * 30}\n{'long' * 40}", "    ")

    lines = code.split("\n")
    assert all(len(line) <= WIDTH for line in lines[:-2])
    assert lines[2].startswith("      - word")
    assert lines[3].startswith("        word")
    assert "long" * 40 in lines[4]


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("plain", '"plain"'),
        ("it's", '"it\'s"'),
        ('say "x"', "'say \"x\"'"),
        ('it\'s "x"', "'it\\'s \"x\"'"),
        ("a\\b\n", '"a\\\\b "'),
    ],
)
def test_literals_have_few_escapes(text: str, literal: str):
    assert quoted(text) == literal


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Short.", '"""Short."""'),
        ('"Quoted"', '""" "Quoted"\n"""'),
        ("\x00", '"""No words."""'),
        ("a\\", 'r"""a\\\n"""'),
    ],
)
def test_docstrings_close_where_they_should(text: str, code: str):
    assert docstring(text) == code


def test_imports_are_sorted_as_ruff_sorts_them():
    wanted = {
        "model.layer10": {"b"},
        "model.layer2": {"value", "CONSTANT", "Class"},
        "torch": {"nn", "Tensor"},
        "pytest": (),
    }

    assert import_lines(wanted) == [
        "import pytest",
        "from torch import Tensor, nn",
        "",
        "from model.layer2 import CONSTANT, Class, value",
        "from model.layer10 import b",
    ]


def test_long_imports_and_calls_take_several_lines():
    names = {f"a_rather_long_name_{number}" for number in range(5)}

    (line,) = import_lines({"model": names})

    assert line.split("\n")[0] == "from model import ("
    assert line.split("\n")[1] == "    a_rather_long_name_0,"
    assert call("  ", "raise E", "'x'") == "  raise E('x')"
    assert call("  ", "raise E", "x" * 95) == f"  raise E(\n      {'x' * 95}\n  )"
