"""Every message that docs/TROUBLESHOOTING.md quotes is one that the code can say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from pages import ROOT, quoted

PAGE = ROOT / "docs" / "TROUBLESHOOTING.md"
TEXT = PAGE.read_text(encoding="utf-8")
FREE = "\0"
"""In a text of the code, what is only known when it is said."""


def texts_of_code() -> list[str]:
    """All strings of the package, joined where the code joins them; {values} become FREE."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(map(part, node.values)))
    return found


def part(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else FREE


CODE = texts_of_code()


def says(message: str, text: str) -> bool:
    """Whether the code's text can become a line that holds the message, … being anything.

    Words of the message may come from a value, but not most of them.
    """
    chunks = [chunk for chunk in re.split(r"\s*…\s*", message) if chunk.strip()]
    place = 0
    for chunk in chunks:
        place = text.find(chunk, place)
        if place < 0:
            return False
        place += len(chunk)
    return True


def messages() -> list[str]:
    """Lines with a bar, and the first cells of the table under Files."""
    barred = re.findall(r"^ *> (.+)$", TEXT, re.M)
    table = TEXT.partition("\n## Files")[2].partition("\n## ")[0]
    return barred + re.findall(r"^\| `([^`]+)` \|", table, re.M)


@pytest.mark.parametrize("message", messages())
def test_a_quoted_message_is_one_of_the_code(message: str) -> None:
    words = " ".join(chunk.strip() for chunk in message.split("…"))
    assert len(words) >= 12, "too short to mean one message"
    assert any(says(message, text) for text in CODE), f"no code says: {message}"


def test_the_search_does_not_find_what_nobody_says() -> None:
    assert not any(says("the loss is … and the moon is full", text) for text in CODE)
    assert says("a … c d", f"a {FREE} b c d")
    assert not says("c d … a", f"a {FREE} b c d")


def test_every_symptom_leads_to_a_part_of_the_page() -> None:
    table = TEXT.partition("| You see |")[2].partition("\n\n")[0]
    linked = set(re.findall(r"\]\(#([\w-]+)\)", table))
    headings = re.findall(r"^## (.+)$", TEXT, re.M)
    assert linked == {heading.lower().replace(" ", "-") for heading in headings}


def test_columns_of_the_metrics_that_are_named_exist() -> None:
    columns = Path(ROOT / "src/paraformer_asr/runs.py").read_text(encoding="utf-8")
    named = {"ce", "quantity", "ctc", "accuracy", "grad_norm", "valid_count_error"}
    assert named <= set(quoted(PAGE))
    for name in named:
        assert f'"{name}"' in columns
