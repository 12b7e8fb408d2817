"""Learning merges: equal to counting everything anew each time, whatever the captions' order."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.tasks.image_text.bpe_training import count_words, joined, learn_merges
from maquette.tasks.image_text.merges import BYTE_TOKENS, WORD_END, Pair, vocabulary_of

CAPTIONS = [
    "low lower lowest, newer newest wider",
    "the newest x-ray shows the lower lobe",
    "a low wide bridge; the widest bridge",
    "naïve café, banananana",
]


def by_counting_anew(captions: list[str], num_merges: int) -> list[Pair]:
    """Sennrich et al. 2016, algorithm 1, in its plainest form."""
    words = {
        (*(BYTE_TOKENS[_id(byte)] for byte in word.encode()[:-1]), _last(word)): count
        for word, count in count_words(captions).items()
    }
    ages = {token: age for age, token in enumerate(BYTE_TOKENS)}
    merges: list[Pair] = []
    while len(merges) < num_merges:
        pairs: Counter[Pair] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        frequent = {pair: count for pair, count in pairs.items() if count > 1}
        if not frequent:
            break
        best = min(frequent, key=lambda p: (-frequent[p], ages[p[0]], ages[p[1]]))
        merges.append(best)
        ages["".join(best)] = len(ages)
        words = {tuple(joined(list(w), best, "".join(best))): c for w, c in words.items()}
    return merges


def _id(byte: int) -> int:
    return [*range(33, 127), *range(161, 173), *range(174, 256), *_others()].index(byte)


def _others() -> list[int]:
    return [*range(33), *range(127, 161), 173]


def _last(word: str) -> str:
    return BYTE_TOKENS[_id(word.encode()[-1])] + WORD_END


def test_first_merges_by_hand():
    # "hug" 3 times, "pug" twice: ug</w> 5 times, then h+ug</w> 3 times, p+ug</w> twice.
    assert learn_merges(["hug hug hug", "pug pug"], num_merges=9) == [
        ("u", "g</w>"),
        ("h", "ug</w>"),
        ("p", "ug</w>"),
    ]


def test_a_pair_that_became_rarer_waits_for_its_turn():
    # a+b 10 times, b+c</w> 9 times; joining the first leaves only 4 of the second.
    captions = ["abq " * 5, "abc " * 5, "xbc " * 4]
    learned = learn_merges(captions, num_merges=9)
    assert learned[:3] == [("a", "b"), ("ab", "c</w>"), ("ab", "q</w>")]
    assert learned == by_counting_anew(captions, 9)
    assert ("b", "c</w>") in learned[3:]


def test_equals_counting_anew():
    learned = learn_merges(CAPTIONS, num_merges=60)  # of which only 20 pairs come twice
    assert learned == by_counting_anew(CAPTIONS, 60)
    assert len(learned) == 20


@settings(max_examples=40)
@given(st.lists(st.text("abé! ", max_size=20), max_size=8), st.integers(0, 30))
def test_equals_counting_anew_on_anything(captions: list[str], num_merges: int):
    learned = learn_merges(captions, num_merges=num_merges)
    assert learned == by_counting_anew(captions, num_merges)
    vocabulary_of(learned)  # a list that can be read again


def test_order_of_captions_does_not_matter():
    assert learn_merges(CAPTIONS, num_merges=40) == learn_merges(CAPTIONS[::-1], num_merges=40)


def test_no_captions_no_merges():
    assert learn_merges([], num_merges=5) == []
    assert learn_merges(["", "a b c"], num_merges=5) == []


def test_start_and_end_are_no_words():
    assert count_words(["<|startoftext|> cat <|endoftext|>"]) == {"cat": 1}


def test_joined_takes_occurrences_from_the_left():
    assert joined([1, 1, 1], (1, 1), 9) == [9, 1]
    assert joined([1, 2, 1, 2, 3], (1, 2), 9) == [9, 9, 3]
    assert joined([], (1, 2), 9) == []
