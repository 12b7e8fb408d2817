"""Markdown as its headings, fields, formulas and text, with the lines."""

from __future__ import annotations

import pytest

from maquette.research.planning.plan_outline import read_outline


def only(text: str):
    """The part below the one heading `### X` on line 1."""
    first, part = read_outline(f"### X\n{text}")
    assert (first.heading, first.text, part.heading, part.line) == ("", "", "X", 1)
    return part


def fields(text: str) -> list[tuple[str, str, int]]:
    return [(f.key, f.value, f.line) for f in only(text).fields]


def formulas(text: str) -> list[tuple[str, int]]:
    return [(f.text, f.line) for f in only(text).formulas]


def test_headings_of_three_levels_in_both_styles():
    parts = read_outline(
        "before\n# *A* `b`\n\nB\n---\n### C $$x$$ #\n#### not a part\n<!-- ### no -->\n"
        "```\n# no\n```\n"
    )
    assert [(p.level, p.heading, p.line) for p in parts] == [
        (0, "", 1),
        (1, "A b", 2),
        (2, "B", 4),
        (3, "C x", 6),
    ]
    assert parts[0].text == "before"
    assert parts[3].text == "#### not a part\n\n```\n# no\n```"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- goal: higher", ("goal", "higher", 2)),
        ("\n* Learning rate:  0.1 ", ("learning_rate", "0.1", 3)),
        ("+ weight-decay:0", ("weight_decay", "0", 2)),
        ("- **goal**: higher", ("goal", "higher", 2)),
        ("- **goal:** higher", ("goal", "higher", 2)),
        ("- `source`: `catalogue:adult`", ("source", "catalogue:adult", 2)),
        ("- source: <https://example.org/a>", ("source", "https://example.org/a", 2)),
        ("- code: model/batch_ensemble.py:Batch_E", ("code", "model/batch_ensemble.py:Batch_E", 2)),
        ("- goal: higher <!-- or lower -->", ("goal", "higher", 2)),
        ("- splits: 60 %,\n  20 %,\n\n  20 %\n", ("splits", "60 %, 20 %, 20 %", 2)),
        ("- splits:\n  - train: 60\n  - test: 40", ("splits", "train: 60 test: 40", 2)),
        ("- goal:", ("goal", "", 2)),
    ],
)
def test_a_field(text, expected):
    assert fields(text) == [expected]
    assert only(text).text == ""


@pytest.mark.parametrize(
    "text",
    [
        "- https://example.org/a",
        "- see model/tabm.py:TabM",
        "- a remark with more than three: words",
        "1. goal: higher",
        "> - goal: higher",
        "goal: higher",
        "- 12:30 it is",
    ],
)
def test_what_is_no_field_is_text(text):
    assert fields(text) == []
    assert only(text).text == text


def test_words_directly_below_a_field_are_text():
    part = only("- goal: higher\nThe share of hits.\n- range: 0 to 1\n  \nMore.\n")
    assert [(f.key, f.value) for f in part.fields] == [("goal", "higher"), ("range", "0 to 1")]
    assert part.text == "The share of hits.\n\nMore."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$$ x $$", [("x", 2)]),
        ("words\n$$ x $$\nwords", [("x", 3)]),
        ("- goal: higher\n$$ x $$", [("x", 3)]),
        ("$$\nx\n$$", [("x", 2)]),
        ("$$ x\n= y $$", [("x\n= y", 2)]),
        ("$$\nx\n=\n- y\n$$", [("x\n=\n- y", 2)]),  # no heading, no list
        ("$$\n\nx\n\n$$", [("x", 2)]),
        ("$$ x $$\n\n$$ y $$", [("x", 2), ("y", 4)]),
        ("It is $$x$$ and\n$$ y $$.", [("x", 2), ("y", 3)]),
        ("$$ x $$ or $$ y $$", [("x", 2), ("y", 2)]),
        ("- formula: $$ x $$", [("x", 2)]),
        ("[see $$x]$$](a.md)", [("x]", 2)]),
        ("- formula:\n  $$\n  x\n  $$", [("x", 3)]),
        ("> $$\n> x\n> $$", [("x", 2)]),
        ("    $$ code $$", []),
        ("`$$ code $$` and ``$$``", []),
        ("```\n$$ code $$\n```", []),
        ("it costs 5 $ or 6 $", []),
        ("$$$$", [("", 2)]),
    ],
)
def test_formulas(text, expected):
    assert formulas(text) == expected
    assert only(text).odd == []


def test_a_formula_on_lines_of_its_own_is_no_text():
    assert only("a\n$$\nx\n$$\nb\n\n\n\nc").text == "a\nb\n\nc"
    assert only("It is $$x$$ here.").text == "It is $$x$$ here."


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("$$ x\n\nwords", "x"),
        ("$$\nx\n\nwords", "x"),
        ("$$ x\n$$ y $$", "x"),
        ("- splits: a\n\n  $$ x\n\nwords", "x"),
        ("$$ x", "x"),
        ("$$ x\n#### more", "x"),
    ],
)
def test_a_formula_that_is_not_closed_ends_at_the_gap(text, kept):
    formula = only(text).formulas[0]
    assert formula.text == kept
    assert formula.warning == "its second $$ is missing; write $$ below it"


def test_an_open_formula_swallows_no_heading():
    parts = read_outline("### X\n$$ x\n### Y\n- goal: higher\n")
    assert [p.heading for p in parts] == ["", "X", "Y"]
    assert [f.key for f in parts[2].fields] == ["goal"]


@pytest.mark.parametrize(
    ("text", "line", "odd"),
    [
        ("It\nis $$x here", 3, "a $$ has no second $$ behind it, so no formula is read here"),
        ("\n<!-- a\n### b\n", 3, "the comment is never closed; write --> behind it"),
        ("~~~\n### b\n", 2, "the code is never closed; write ~~~ below it"),
        ("```", 2, "the code is never closed; write ``` below it"),
    ],
)
def test_slips_are_told(text, line, odd):
    assert only(text).odd == [(line, odd)]


def test_comments_are_no_text():
    assert only("a <!-- b\nc --> d\n\n<!--\ne\n-->\n\nf").text == "a  d\n\nf"
