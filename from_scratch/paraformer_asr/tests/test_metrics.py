"""Error rates of a corpus, their empty cases, words, and what normalisation does and says."""

from __future__ import annotations

import math

import pytest

from paraformer_asr.errors import AsrError
from paraformer_asr.metrics import (
    ErrorRate,
    Normalization,
    align,
    error_rate,
    normalize,
    summed,
    word_error_rate,
)


def test_an_error_rate_sums_before_it_divides():
    found = error_rate(["ab", "abcdefgh"], ["", "abcdefgh"])
    assert found == ErrorRate(0.2, 0, 2, 0, 10)  # the mean of the rates would be 0.5


def test_substitutions_deletions_and_insertions_are_told_apart():
    assert error_rate(["abc", "abc", "abc"], ["axc", "ac", "abbc"]) == ErrorRate(3 / 9, 1, 1, 1, 9)


def test_nothing_wrong_is_zero_and_everything_inserted_can_exceed_one():
    assert error_rate(["你好"], ["你好"]).rate == 0
    assert error_rate(["a"], ["abc"]).rate == 2


def test_an_empty_reference_adds_its_insertions_and_no_length():
    assert error_rate(["", "ab"], ["x", "ab"]) == ErrorRate(0.5, 0, 0, 1, 2)
    assert error_rate([""], [""]) == ErrorRate(0.0, 0, 0, 0, 0)
    assert error_rate([], []).rate == 0
    assert error_rate([""], ["x"]).rate == math.inf


def test_the_order_of_utterances_does_not_matter():
    pairs = [("abc", "abd"), ("", "x"), ("hello", "hallo"), ("aa", "aaaa")]
    assert error_rate(*zip(*pairs, strict=True)) == error_rate(*zip(*pairs[::-1], strict=True))


def test_words_are_what_white_space_separates():
    assert word_error_rate(["the  cat\tsat"], ["the cat sat down"]) == ErrorRate(1 / 3, 0, 0, 1, 3)
    assert word_error_rate(["  "], [""]).rate == 0


def test_characters_are_code_points_and_spaces_count():
    assert error_rate(["a b"], ["ab"]) == ErrorRate(1 / 3, 0, 1, 0, 3)
    assert error_rate(["今天"], ["今"]).reference_length == 2


def test_alignments_add_up_to_the_corpus():
    references, hypotheses = ["abc", "hello", ""], ["abd", "hell", "x"]
    found = [align(r, h).error_rate for r, h in zip(references, hypotheses, strict=True)]
    assert summed(found) == error_rate(references, hypotheses)


def test_an_error_rate_is_printed_with_its_counts():
    assert str(error_rate(["abcd"], ["abxdy"])) == (
        "50.00 % (1 substitutions, 0 deletions, 1 insertions in 4)"
    )


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (Normalization(), " Ａ b,  C's-x! "),
        (Normalization(width=True), " A b,  C's-x! "),
        (Normalization(lowercase=True), " ａ b,  c's-x! "),
        (Normalization(punctuation=True), " Ａ b  C's-x "),
        (Normalization(spaces="single"), "Ａ b, C's-x!"),
        (Normalization(spaces="remove"), "Ａb,C's-x!"),
    ],
)
def test_each_step_of_normalisation_does_its_own(steps: Normalization, expected: str):
    assert normalize(" Ａ b,  C's-x! ", steps) == expected


def test_normalisation_says_what_it_did():
    assert str(Normalization()) == "none (texts as they are)"
    assert str(Normalization(width=True, lowercase=True, punctuation=True, spaces="single")) == (
        "Unicode NFKC, lower case, without punctuation, single spaces"
    )
    assert str(Normalization(spaces="remove")) == "without spaces"


def test_normalize_takes_all_steps_by_default_and_twice_is_once():
    once = normalize("“Hello”,  ＷＯＲＬＤ！ it's 3 o’clock - e\u0301té。")
    assert once == "hello world it's 3 o’clock été"
    assert normalize(once) == once


def test_an_error_rate_can_normalise_both_sides():
    assert error_rate(["Hello!"], ["hello"]).edits == 2
    steps = Normalization(lowercase=True, punctuation=True)
    assert error_rate(["Hello!"], ["hello"], steps=steps) == ErrorRate(0.0, 0, 0, 0, 5)
    assert word_error_rate(["Hello , you"], ["hello you"], steps=steps).reference_length == 2


@pytest.mark.parametrize("rate", [error_rate, word_error_rate])
def test_lists_that_do_not_fit_are_named(rate):
    with pytest.raises(AsrError, match=r"^2 references and 1 hypotheses; each utterance needs bot"):
        rate(["a", "b"], ["a"])
    with pytest.raises(
        AsrError, match=r"^references is one text; give a list .* as \['hello'\]\.$"
    ):
        rate("hello", ["hello"])
    with pytest.raises(AsrError, match=r"^hypotheses is one text"):
        rate(["hello"], "hello")
