"""From captions to pieces; the parity tests compare both steps with the reference."""

from __future__ import annotations

import html

import ftfy
from hypothesis import given
from hypothesis import strategies as st

from maquette.tasks.image_text.text_cleaning import END, START, clean, split


def test_cleaning_repairs_unescapes_and_lowers():
    assert (
        clean("  Caf\u00c3\u00a9 &amp;amp; \u201cCO\u2082\u201d\n\tX-Ray ") == 'café & "co₂" x-ray'
    )
    assert clean("") == clean(" \n ") == ""


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_ascii_needs_no_repair(text: str):
    """The short cut past ftfy and entities changes nothing."""
    slow = " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()
    assert clean(text) == slow


def test_pieces():
    assert split("it's 2024, they'll see co2!?") == [
        *("it", "'s", "2", "0", "2", "4", ",", "they", "'ll", "see", "co", "2", "!?"),
    ]
    assert split("naïve 東京² '’é") == ["naïve", "東京", "²", "'’", "é"]
    assert split(f"{START} cat{END}") == [START, "cat", END]
    assert split("") == []


@given(st.text())
def test_pieces_are_the_text_without_its_spaces(text: str):
    cleaned = clean(text)
    kept = cleaned.replace(" ", "").replace("\u0345", "")  # the one sign the reference drops
    assert "".join(split(cleaned)) == kept
