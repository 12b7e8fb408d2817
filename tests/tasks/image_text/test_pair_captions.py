"""Captions that are longer than the text tower takes."""

import pytest
from made_pairs import caption, data_of, made_rows, refusal, write_manifest

from maquette.errors import DataError, UsageError
from maquette.tasks.image_text.captions import check_lengths
from maquette.tasks.image_text.data import check_pairs
from maquette.tasks.image_text.tokenizer import ClipTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return ClipTokenizer.train(["aa bb cc"] * 9, vocabulary_size=520, context_length=6)


PLACES = [f"m.csv:{line}" for line in range(2, 8)]


def test_captions_that_fit_need_no_words(tokenizer):
    texts = [("aa bb",), ("aa bb cc aa", "cc")]
    assert list(check_lengths(PLACES[:2], texts, tokenizer, long_captions="error")) == []


def test_longer_ones_are_counted_the_longest_first(tokenizer):
    texts = [("aa bb",), ("aa " * 5, "cc"), ("bb " * 9,)]
    assert list(check_lengths(PLACES[:3], texts, tokenizer, long_captions="truncate")) == [
        "2 of 4 captions are longer than 6 tokens and will be cut there (tokens in brackets): "
        "m.csv:4 (11), m.csv:3 (7)"
    ]


def test_longer_ones_are_refused_when_asked(tokenizer):
    with pytest.raises(DataError) as caught:
        list(check_lengths(PLACES[:1], [("aa " * 5,)], tokenizer, long_captions="error"))
    assert str(caught.value) == (
        "1 of 1 captions is longer than 6 tokens, start and end included:\n  m.csv:2 (7)\n"
        "Shorten them, raise data.image_text.context_length (a checkpoint's own is its limit), or "
        "set data.image_text.long_captions: truncate."
    )
    places = [f"m.csv:{n}" for n in range(30)]
    with pytest.raises(DataError, match=r"\n  … and 10 more\nShorten them"):
        list(check_lengths(places, [("aa " * 5,)] * 30, tokenizer, long_captions="error"))


def test_checking_a_recipe_measures_captions_when_it_names_a_tokenizer(tmp_path, tokenizer):
    rows = made_rows(8)
    rows[5]["text"] = "aa " * 40
    path = write_manifest(tmp_path / "data", rows)
    tokenizer.save_hugging_face(tmp_path / "words")
    named = {"tokenizer": str(tmp_path / "words"), "context_length": 40}
    warnings = check_pairs(data_of(path, **named)).warnings
    assert warnings == [
        "1 of 8 captions is longer than 40 tokens and will be cut there (tokens in brackets): "
        "pairs.csv:7 (42)"
    ]
    assert "pairs.csv:7 (42)" in refusal(path, **named, long_captions="error")
    assert check_pairs(data_of(path)).warnings == []
    assert caption(0) == rows[0]["text"]
    with pytest.raises(UsageError, match="medicine"):
        check_pairs(data_of(path, domain="medicine"))
