"""What a formula names, and why one cannot be parsed."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maquette.research.planning.formula import parse_formula
from maquette.research.planning.latex_words import COMMANDS

NAMES = {
    r"L = \frac{1}{k} \sum_{i=1}^{k} \ell(y, \hat y_i)": (
        *("L", "k", "i", r"\ell", "y", r"\hat{y}_i"),
    ),
    # scripts: below a name they belong to it, elsewhere they are formulas
    r"p_{ik}": ("p_{ik}",),
    r"y_i + y_{i} + y _ { i }": ("y_i",),
    r"W_{l+1}^{(t)}": ("t", "W_{l+1}"),
    r"x_\theta + x_{\theta a}": (r"x_\theta", r"x_{\theta a}"),
    r"(a + b)_k^2": ("a", "b", "k"),
    r"\max_{j \ne y} z_j": ("j", "y", "z_j"),
    r"\log_2 x'_t + y''": ("x'_t", "y''"),
    r"\sin' x": ("x",),
    r"_i x": ("i", "x"),
    "x_12": ("x_1",),  # LaTeX takes one digit
    r"\frac12 x": ("x",),
    # fonts, accents, words
    r"\mathbf W x": (r"\mathbf{W}", "x"),
    r"\mathbb{E}_{x}": (r"\mathbb{E}_x",),
    r"\operatorname*{arg\,min}_{\theta} f": (r"\operatorname*{arg\,min}", r"\theta", "f"),
    r"L_{\text{cross entropy}} \text{ if } y": (r"L_{\text{cross entropy}}", "y"),
    # arguments, brackets, environments
    r"\sqrt[n]{\bar{x}}": ("n", r"\bar{x}"),
    r"\left\| \frac{a}{b} \right\|_2^2 + \bigl( c \bigr)": ("a", "b", "c"),
    r"\begin{cases} 1 & y \\ 0 & \text{else} \end{cases}": ("y",),
    r"\begin{array}{lr} a & b \end{array}": ("a", "b"),
    "λ x̂ 2.5": ("λ", "x"),
    "1 + 1": (),
}


@pytest.mark.parametrize("text", NAMES)
def test_names(text):
    formula = parse_formula(f" {text}\n", 7)
    assert (formula.text, formula.line, formula.warning) == (text, 7, None)
    assert formula.symbols == NAMES[text]


WARNINGS = {
    "": "it is empty",
    "{x": "a { is not closed",
    "x}": "a } has no { before it",
    r"\sqrt[3 x": "a [ is not closed",
    r"\text{x": "a { is not closed",
    r"\left( x": r"\left has no \right",
    r"x \right)": r"\right has no \left",
    r"\left x \right)": r"\left needs a bracket after it, such as \left(",
    r"\left( x \right": r"\right needs a bracket after it, such as \right(",
    r"\begin{align} x": r"\begin has no \end",
    r"x \end{align}": r"\end has no \begin",
    r"\begin{align} x \end{aligned}": r"\begin{align} is closed by \end{aligned}",
    r"\fracc{1}{2}": r"unknown command \fracc. Did you mean \frac?",
    r"\xyzzyq": r"unknown command \xyzzyq.",
    r"\frac{1}": r"\frac needs 2 arguments, found 1",
    r"\sqrt": r"nothing follows \sqrt",
    r"\hat + }": r"a } has no { before it",
    "x_": "nothing follows _",
    "{x^}": "nothing follows ^",
    "x_i_j": "x_i_ begins two subscripts; put braces around the first part",
    "x^2^3": "x^2^ begins two superscripts; put braces around the first part",
    "a $ b": r"a bare $ stands in it; write \$ for the sign",
    "50 % x": r"a bare % stands in it; write \% for the sign",
    "x \\": "it ends in a backslash",
    r"\text x": r"\text needs its words in braces: \text{…}",
    "{" * 41: "it is nested deeper than 40 levels",
    "x" * 10_001: "it is longer than 10000 characters",
}


@pytest.mark.parametrize("text", WARNINGS, ids=lambda text: text[:20] or "empty")
def test_what_cannot_be_parsed_is_kept_with_the_reason(text):
    formula = parse_formula(text, 3)
    assert formula.text == text
    assert formula.symbols == ()
    assert formula.warning == WARNINGS[text]


def test_an_unknown_environment_names_the_nearest_and_all():
    warning = parse_formula(r"\begin{case} x \end{case}", 1).warning
    assert warning is not None
    assert warning.startswith("unknown environment 'case'. Did you mean 'cases'? Known: Bmatrix, ")


PIECES = st.sampled_from(
    [*(f"\\{word}" for word in sorted(COMMANDS)), *"{}[]()_^'&$%# x1\\", "\\\\", "{cases}", "é"]
)


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
@example("\\")
@example("\\\n")
@example("\\hat" * 5000)
@example("\\frac" * 41 + "1")
def test_any_text_is_a_formula_or_has_a_reason(text):
    formula = parse_formula(text, 1)
    assert formula.text == text.strip()
    assert not (formula.symbols and formula.warning)
    assert formula.warning is None or formula.warning.strip()
