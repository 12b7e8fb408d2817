"""Changed captions: which changes there are, that they repeat, that none empties a caption."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.tasks.image_text.text_augment import MOST_WORDS, TextAugmenter

TEXT = "A heart. Its valves are open; blood flows! Is it red? Yes."
KEYS = np.arange(400, dtype=np.uint64)


def drawn(text: str = TEXT, *, epoch: int = 0, seed: int = 0, **changes: float) -> list[str]:
    augmenter = TextAugmenter(seed=seed, **changes)
    return augmenter([text] * len(KEYS), KEYS, epoch=epoch)


def test_nothing_asked_for_nothing_changed():
    assert drawn() == [TEXT] * 400


def test_a_caption_begins_at_any_of_its_sentences():
    starts = {text.split()[0] for text in drawn(sentence_start=1.0)}
    assert starts == {"A", "Its", "blood", "Is", "Yes."}
    assert all(TEXT.endswith(text) for text in drawn(sentence_start=1.0))


def test_half_of_the_captions_keep_their_start():
    whole = sum(text == TEXT for text in drawn(sentence_start=0.5))
    # One in two is not touched, and one in five of the others begins at the first sentence.
    assert whole / 400 == pytest.approx(0.5 + 0.5 / 5, abs=0.08)


def test_sentences_without_spaces_between_them():
    starts = {text[0] for text in drawn("心脏。肺！肝", sentence_start=1.0)}
    assert starts == {"心", "肺", "肝"}


def test_a_share_of_the_words_is_left_out_in_order():
    words = [f"w{i}" for i in range(100)]
    texts = drawn(" ".join(words), word_dropout=0.25)
    assert np.mean([len(text.split()) for text in texts]) == pytest.approx(75, abs=1)
    for text in texts[:20]:
        places = [words.index(word) for word in text.split()]
        assert places == sorted(set(places))


def test_one_word_stays():
    assert set(drawn("heart", word_dropout=0.99)) == {"heart"}
    assert drawn("", word_dropout=0.5, sentence_start=0.5) == [""] * 400


def test_words_far_behind_are_kept():
    text = " ".join(["w"] * MOST_WORDS + ["end"])
    assert all(changed.endswith("end") for changed in drawn(text, word_dropout=0.9))


def test_changes_repeat_and_differ_by_epoch_seed_and_sample():
    changes = {"sentence_start": 0.5, "word_dropout": 0.3}
    first = drawn(**changes)
    assert first == drawn(**changes)
    assert first != drawn(epoch=1, **changes)
    assert first != drawn(seed=1, **changes)
    assert len(set(first)) > 100


@given(st.lists(st.text(max_size=40), max_size=6))
def test_the_order_and_the_company_do_not_matter(texts):
    augmenter = TextAugmenter(seed=3, sentence_start=0.5, word_dropout=0.3)
    keys = np.arange(len(texts), dtype=np.uint64)
    together = augmenter(texts, keys, epoch=2)
    backwards = augmenter(texts[::-1], keys[::-1], epoch=2)
    alone = [augmenter([text], keys[i : i + 1], epoch=2)[0] for i, text in enumerate(texts)]
    assert together == backwards[::-1] == alone
    assert all(
        bool(new.strip()) == bool(old.strip()) for new, old in zip(together, texts, strict=True)
    )
