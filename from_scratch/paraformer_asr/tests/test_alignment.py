"""Edit distance: all alignments tried, ties, marks, columns of wide characters."""

from __future__ import annotations

import random
from functools import cache

import pytest

from paraformer_asr.alignment import ErrorRate, align, count_edits, display_width


def best_of_all(reference: str, hypothesis: str) -> tuple[int, int, int]:
    """Substitutions, deletions, insertions: fewest edits, then fewest substitutions, by trying."""

    @cache
    def best(i: int, j: int) -> tuple[int, int, int, int]:
        if i == j == 0:
            return 0, 0, 0, 0
        options = []
        if i and j:
            edits, s, d, n = best(i - 1, j - 1)
            wrong = reference[i - 1] != hypothesis[j - 1]
            options.append((edits + wrong, s + wrong, d, n))
        if i:
            edits, s, d, n = best(i - 1, j)
            options.append((edits + 1, s, d + 1, n))
        if j:
            edits, s, d, n = best(i, j - 1)
            options.append((edits + 1, s, d, n + 1))
        return min(options)

    return best(len(reference), len(hypothesis))[1:]


def random_texts(seed: int, number: int, longest: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("abc", k=rng.randint(0, longest))) for _ in range(number)]


def counts(found: ErrorRate) -> tuple[int, int, int]:
    return found.substitutions, found.deletions, found.insertions


def test_counts_are_the_best_of_all_alignments():
    references, hypotheses = random_texts(0, 600, 9), random_texts(1, 600, 9)
    found = count_edits(references, hypotheses)
    expected = [best_of_all(*pair) for pair in zip(references, hypotheses, strict=True)]
    assert [counts(each) for each in found] == expected
    assert [each.reference_length for each in found] == [len(text) for text in references]


def test_an_alignment_has_the_counts_and_spells_both_texts():
    references, hypotheses = random_texts(2, 300, 12), random_texts(3, 300, 12)
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        found = align(reference, hypothesis)
        assert found.error_rate == count_edits([reference], [hypothesis])[0]
        assert "".join(left or "" for left, _ in found.pairs) == reference
        assert "".join(right or "" for _, right in found.pairs) == hypothesis
        assert (None, None) not in found.pairs


def test_a_pair_alone_counts_as_it_does_among_others():
    references, hypotheses = random_texts(4, 50, 30), random_texts(5, 50, 30)
    alone = [count_edits([r], [h])[0] for r, h in zip(references, hypotheses, strict=True)]
    assert count_edits(references, hypotheses) == alone


def test_exchanging_the_sides_exchanges_deletions_and_insertions():
    references, hypotheses = random_texts(6, 100, 10), random_texts(7, 100, 10)
    there, back = count_edits(references, hypotheses), count_edits(hypotheses, references)
    for one, other in zip(there, back, strict=True):
        assert counts(one) == (other.substitutions, other.insertions, other.deletions)


def test_of_equally_short_alignments_the_one_with_more_right_elements_counts():
    assert counts(align("ab", "ba").error_rate) == (0, 1, 1)  # not two substitutions
    assert counts(align("abc", "xyz").error_rate) == (3, 0, 0)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [("", "", (0, 0, 0)), ("", "ab", (0, 0, 2)), ("ab", "", (0, 2, 0)), ("a", "a", (0, 0, 0))],
)
def test_empty_texts_are_all_deletions_or_insertions(
    reference: str, hypothesis: str, expected: tuple[int, int, int]
):
    assert counts(align(reference, hypothesis).error_rate) == expected
    assert counts(count_edits([reference], [hypothesis])[0]) == expected


def test_more_than_a_thousand_substitutions_are_still_told_from_edits():
    assert counts(count_edits(["x" * 1500], ["y" * 1499])[0]) == (1499, 1, 0)


def test_a_batch_of_no_pairs_has_no_counts():
    assert count_edits([], []) == []


def test_lines_show_substituted_deleted_and_inserted():
    assert str(align("kitten", "sittingg")) == (
        "REF: k i t t e n * *\nHYP: s i t t i n g g\n     S       S   I I"
    )
    assert align("abc", "c").lines() == ("REF: a b c", "HYP: * * c", "     D D")


def test_lines_are_aligned_for_wide_and_combining_characters():
    reference, hypothesis, marks = align("今天e\u0301a", "今ae\u0301").lines()
    assert reference == "REF: 今 天 e ◌\u0301 a"
    assert hypothesis == "HYP: 今 a  e ◌\u0301 *"
    assert marks == "        S      D"
    assert display_width("今天") == 4
    assert display_width("e\u0301") == 1
    assert display_width("ｆ") == 2


def test_lists_of_words_are_aligned_by_words():
    assert align(["the", "cat", "sat"], ["a", "cat", "sat", "down"]).lines() == (
        "REF: the cat sat *",
        "HYP: a   cat sat down",
        "     S           I",
    )


def test_white_space_and_empty_words_can_be_seen():
    assert align("a b", "ab").lines() == ("REF: a ␣ b", "HYP: a * b", "       D")
    assert align(["a", ""], ["a"]).lines()[0] == "REF: a ∅"
