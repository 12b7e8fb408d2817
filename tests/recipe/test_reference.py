"""The recipe reference is made from the schema, says something about every key, and is current."""

from __future__ import annotations

from pathlib import Path

from maquette.recipe.reference import render

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipe.md"


def test_the_committed_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "run: python -m maquette.recipe.reference docs/recipe.md"
    )


def test_every_key_says_what_it_does():
    rows = [line for line in render().splitlines() if line.startswith("| `")]
    silent = [row for row in rows if row.endswith("| |")]
    assert len(rows) > 80
    assert not silent
