"""paraformer_asr's error rates and alignments against jiwer's, on random pairs of texts.

Stored numbers run in the ordinary suite; with `-m peers` numbers made just now from another seed.
Edits and rates are the same. Where several alignments have the fewest edits, the kinds of edits can
differ: ours is one with the most right elements, jiwer's is the one its search meets first. The
other differences are asserted here on purpose:

- nothing said, something heard: our rate is infinite, jiwer's is the number of edits;
- white space at the ends of a text: jiwer takes it off, for us it is text.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from facts import read_facts
from paraformer_asr.metrics import ErrorRate, align, error_rate, word_error_rate

LIVE_SEED = 1
RATES: dict[str, Callable[[list[str], list[str]], ErrorRate]] = {
    "characters": error_rate,
    "words": word_error_rate,
}


@pytest.fixture(scope="module", params=["golden", pytest.param("live", marks=pytest.mark.peers)])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What jiwer counted: "golden" from the stored file, "live" just now."""
    folder = tmp_path_factory.mktemp("live")
    return read_facts(request.param, "asr_metrics", folder, seed=LIVE_SEED)


@pytest.mark.parametrize("kind", list(RATES))
def test_every_pair_has_the_same_number_of_edits_and_at_least_as_many_right(
    facts: Any, kind: str
) -> None:
    same = 0
    pairs = facts[kind]["pairs"]
    for reference, hypothesis, hits, substitutions, deletions, insertions in pairs:
        ours = RATES[kind]([reference], [hypothesis])
        assert ours.edits == substitutions + deletions + insertions
        assert ours.reference_length == hits + substitutions + deletions
        right = ours.reference_length - ours.substitutions - ours.deletions
        theirs = (substitutions, deletions, insertions)
        if right == hits:  # with edits and lengths fixed, this fixes all three kinds
            assert (ours.substitutions, ours.deletions, ours.insertions) == theirs
            same += 1
        assert right >= hits
    assert same > 0.85 * len(pairs)


@pytest.mark.parametrize("kind", list(RATES))
def test_an_alignment_has_the_counts_of_its_pair(facts: Any, kind: str) -> None:
    for reference, hypothesis, *_ in facts[kind]["pairs"]:
        sides = [
            list(text) if kind == "characters" else text.split() for text in (reference, hypothesis)
        ]
        assert align(*sides).error_rate == RATES[kind]([reference], [hypothesis])


@pytest.mark.parametrize("kind", list(RATES))
def test_rates_of_each_pair_and_of_the_corpus_are_the_same(facts: Any, kind: str) -> None:
    pairs = [(reference, hypothesis) for reference, hypothesis, *_ in facts[kind]["pairs"]]
    each = [RATES[kind]([r], [h]).rate for r, h in pairs if r]
    assert each == pytest.approx(facts[kind]["rate of each"], abs=1e-12)
    references, hypotheses = (list(side) for side in zip(*pairs, strict=True))
    all_of_them = RATES[kind](references, hypotheses).rate
    assert all_of_them == pytest.approx(facts[kind]["rate of all"], abs=1e-12)


def test_where_nothing_was_said_the_rules_differ(facts: Any) -> None:
    assert facts["nothing said"] == {"heard": 2, "not heard": 0}
    assert error_rate([""], ["ab"]).rate == math.inf
    assert error_rate([""], [""]).rate == 0


def test_white_space_at_the_ends_is_text_for_us(facts: Any) -> None:
    assert facts["white space at the ends"] == 0
    assert error_rate([" a "], ["a"]) == ErrorRate(2 / 3, 0, 2, 0, 3)


def test_the_pairs_hold_what_they_are_for(facts: Any) -> None:
    for kind in RATES:
        pairs = facts[kind]["pairs"]
        assert any(not reference and hypothesis for reference, hypothesis, *_ in pairs)
        assert any(reference and not hypothesis for reference, hypothesis, *_ in pairs)
        assert all(sum(pair[number] for pair in pairs) > 100 for number in (2, 3, 4, 5))
