"""The linter: which links it follows, what it says, what it mends, what strictness adds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.errors import UsageError
from maquette.research.numbers.lint import check_numbers, fix, lint
from maquette.research.numbers.marked import bare_numbers, find_numbers, section

RECORD = '{"a": 0.8541, "b c": {"d": [12, -3.5]}, "n": null}\n'


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "r.json").write_text(RECORD)
    return tmp_path / "page.md"


def messages(page: Path, text: str, *, strict: bool = False) -> list[str]:
    page.write_text(text, encoding="utf-8")
    return [str(p).removeprefix(f"{page}:") for p in lint([page], strict=strict)]


def test_numbers_that_hold_are_no_problem(page: Path) -> None:
    text = """\
Accuracy [0.854](r.json#/a), **[85.4 %](./r.json#/a)**, [**12**](r.json#/b%20c/d/0) runs.

| x | y |
| --- | --- |
| [−3.5](r.json#/b%20c/d/1) | [0.85][there] |

[there]: r.json#/a
See [the record](r.json), [here](other.md#a), [1](https://example.org/r.json#/a) and
`[0.1](r.json#/a)`.

    [0.2](r.json#/a)
"""
    page.write_text(text, encoding="utf-8")
    checked = check_numbers([page])
    assert checked.problems == []
    assert (checked.files, checked.numbers) == (1, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a\n[0.853](r.json#/a)",
            "2: [0.853] is stale: r.json#/a is 0.8541; write [0.854], or let --fix do it",
        ),
        (
            "[0.854](r.json#/A)",
            "1: [0.854] cannot be checked in r.json: the record has no 'A': it has a, b c, n",
        ),
        (
            "[0.854](r.json)",
            "1: [0.854] names the record r.json, but no place in it; add the place, such as "
            "#/trainings/0/seconds",
        ),
        (
            "[0.854 ± 0.1](r.json#/a)",
            "1: [0.854 ± 0.1] points into r.json but is not one number; write the number alone, "
            "with a unit at most, and one link for each number",
        ),
        (
            "[0.854](r.json#/n)",
            "1: [0.854] cannot be checked in r.json: /n is null, not a number",
        ),
        (
            "[12](r.json#/b c/d/0)",
            "1: [12](r.json#/b c/d/0) is shown as text, not as a link; in the target write %20 "
            "for a space, %28 and %29 for brackets",
        ),
    ],
)
def test_what_is_said_of_a_number_that_does_not_hold(page: Path, text: str, message: str) -> None:
    assert messages(page, text) == [message]


def test_a_record_that_is_not_there(page: Path) -> None:
    found = messages(page, "[1](no.json#/a)")
    assert found == [
        f"1: [1] cannot be checked in no.json: could not read {page.parent / 'no.json'}: "
        "No such file or directory"
    ]


def test_a_problem_says_what_was_found_and_expected(page: Path) -> None:
    page.write_text("On  [85 % ](r.json#/b%20c/d/0)")
    (problem,) = lint([page])
    assert (problem.line, problem.column, problem.text) == (1, 5, "85 %")
    assert (problem.found, problem.expected) == ("12", "1200 %")


STALE = """\
# About [0.1](r.json#/a)\r
\r
> 1. 1 [0.1](r.json#/a) and `[0.1](r.json#/a)` then [0.1](r.json#/a)\r
>    next [**0.1**](r.json#/a "title"), [0.1][r]\r
\r
| [0.1](r.json#/a) | `0.1` | [0.1](r.json#/a)\r
| --- | --- | ---\r
| 0.1 | [0.1](r.json#/a) | [0.1](r.json#/a) |\r
\r
[r]: r.json#/a\r
[0.1](r.json#/none)"""


def test_fix_writes_stale_numbers_anew_and_nothing_else(page: Path) -> None:
    page.write_bytes(STALE.encode())
    lines = fix(lint([page]))
    assert len(lines) == 9
    assert lines[0] == f"{page}:1: 0.1 is now 0.9"
    now = page.read_bytes().decode()
    assert now == STALE.replace("[0.1](r.json#/a)", "[0.9](r.json#/a)").replace(
        "`[0.9](r.json#/a)`", "`[0.1](r.json#/a)`"
    ).replace("**0.1**", "**0.9**").replace("[0.1][r]", "[0.9][r]")
    (left,) = lint([page])
    assert "has no 'none'" in left.message
    assert fix([left]) == []


def test_fix_leaves_a_line_that_has_changed_meanwhile(page: Path) -> None:
    page.write_text("[0.1](r.json#/a)")
    problems = lint([page])
    page.write_text("Now [0.1](r.json#/a)")
    assert fix(problems) == []
    assert page.read_text() == "Now [0.1](r.json#/a)"


def test_where_a_number_cannot_be_placed_fix_leaves_it(page: Path) -> None:
    text = "a [0&#46;1](r.json#/a)"
    assert len(messages(page, text)) == 1
    assert fix(lint([page])) == []
    assert page.read_text() == text


@settings(max_examples=50)
@given(st.text(alphabet="[]()|>#*-`0.1 \n\r\tar.json#/\\_!<&;", max_size=120))
def test_no_text_breaks_the_reader(text: str) -> None:
    for found in find_numbers(text).links:
        assert found.line >= 1


REPORT = """\
# Report 7
Here 5 is free.
## Results
### Run 2 of `k=3`
Accuracy 0.85, loss = 0.3 (±0.1): 12s, 5 %, 2-epoch, top-5, v1.2, 1.2.3, 3rd, 2D, 2026-11-21,
`0.9`, [0.854](r.json#/a), and 3 more<br>4

<table><tr><td width="9">0.7</td></tr></table>

### Loss 0.25
## Known Issues
After 3 attempts.
## Quick Validation Results
- Epochs: 2
"""


def test_strictness_asks_for_a_record_of_every_number_of_the_results(page: Path) -> None:
    assert messages(page, REPORT) == []
    page.write_text(REPORT)
    found = lint([page], strict=True)
    assert [(p.line, p.text) for p in found] == [
        *[(5, n) for n in ("0.85", "0.3", "0.1", "12", "5")],
        *[(6, n) for n in ("3", "4")],
        (8, "0.7"),
        (10, "0.25"),
        (14, "2"),
    ]
    assert found[0].message == (
        "0.85 has no record; link it to one, such as "
        "[0.85](results/run.json#/trainings/0/metrics/accuracy), "
        "or put it into `code` where it is part of a name"
    )
    assert fix(found) == []


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("−0.5 .5 1,234.5 $5 5× 3e-4", ["0.5", ".5", "1,234.5", "5", "5", "3e-4"]),
        ("0.85-0.86, 1/3; k=5 at 12:30", ["0.85", "1", "5", "12", "30"]),
        ("H200 float32 3.py 64-bit #5 r_5 1st", []),
    ],
)
def test_what_counts_as_a_number(words: str, numbers: list[str]) -> None:
    assert bare_numbers(words) == numbers


def test_folders_are_searched_hidden_and_generated_ones_left_out(tmp_path: Path) -> None:
    for name in ("a/b.md", "a/.venv/c.md", "site/d.md", ".e.md", "F.MD", "g.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("[1](x.json)")
    found = lint([tmp_path, tmp_path / "a"])
    assert [str(p.path.relative_to(tmp_path)) for p in found] == ["F.MD", "a/b.md"]


def test_what_cannot_be_checked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no .*x\.md; give Markdown files, or folders"):
        lint([tmp_path / "x.md"])
    with pytest.raises(UsageError, match=r"There is no \.md file in .*, so nothing would be check"):
        lint([tmp_path])
    (tmp_path / "x.txt").touch()
    with pytest.raises(UsageError, match=r"x\.txt is not Markdown; give \.md files"):
        lint([tmp_path / "x.txt"])


def test_a_file_that_is_no_text_does_not_hide_the_others(page: Path) -> None:
    (page.parent / "a.md").write_bytes(b"ab\xff")
    (page.parent / "b.md").symlink_to(page.parent / "nowhere")
    page.write_text("[0.1](r.json#/a)")
    found = [p.message for p in lint([page.parent])]
    assert found[0] == "byte 2 is not UTF-8; save the file as UTF-8"
    assert found[1] == "could not be read: No such file or directory"
    assert "is stale" in found[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("## B\nx\n\n### C\ny\n## D\nz", "x\n\n### C\ny"),
        ("## B\n\nlast\n", "last"),
        ("## B\n```\n## A\n```\n# D", "```\n## A\n```"),
        ("## A\nx", None),
        ("> ## B\n> x", None),
    ],
)
def test_a_section_of_a_text(text: str, expected: str | None) -> None:
    assert section(text, "B") == expected
