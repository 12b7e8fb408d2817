"""CLIP's tokenizer: ids, padding, cutting, saving; the parity tests compare ids with the peers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from maquette.errors import BundleError, DataError, UsageError
from maquette.tasks.image_text import tokenizer as module
from maquette.tasks.image_text.bpe_training import joined
from maquette.tasks.image_text.text_cleaning import END, START, clean, split
from maquette.tasks.image_text.tokenizer import ClipTokenizer

CAPTIONS = ["a photo of a cat", "a photo of two cats", "an x-ray of the chest", "naïve 写真 😀"] * 3


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer.train(CAPTIONS, vocabulary_size=540, context_length=12)


@pytest.fixture(scope="module")
def clips() -> ClipTokenizer:
    return ClipTokenizer.from_file("catalogue:clip_vocab")


VECTORS = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "a diagram": [320, 22697],
    "Hello, World! 2024": [3306, 267, 1002, 256, 273, 271, 273, 275],
    "an x-ray showing pneumothorax": [550, 343, 268, 3077, 3649, 28714, 617, 4130, 9203],
    "defect-free PCB": [44013, 268, 1139, 26235],
}


@pytest.mark.data
@pytest.mark.parametrize("text", VECTORS)
def test_known_ids(clips: ClipTokenizer, text: str):
    assert clips.encode(text) == VECTORS[text]
    assert clips(text)[0, : len(VECTORS[text]) + 2].tolist() == [49406, *VECTORS[text], 49407]


@pytest.mark.data
def test_the_published_vocabulary(clips: ClipTokenizer):
    assert (clips.vocab_size, clips.sot, clips.eot, clips.context_length) == (
        *(49408, 49406, 49407, 77),
    )
    again = ClipTokenizer.from_json(clips.to_json())
    assert again.merges == clips.merges
    assert again.encode("defect-free PCB") == [44013, 268, 1139, 26235]


def lowest_rank_first(tokenizer: ClipTokenizer, word: str) -> list[int]:
    """The definition: find the lowest-ranked pair, join it everywhere, repeat."""
    ids = [i for byte in word.encode() for i in [module._FIRST_ID[byte]]]
    ids[-1] += 256
    while True:
        made = [tokenizer._made_by.get(pair, 1 << 30) for pair in pairwise(ids)]
        if not made or min(made) == 1 << 30:
            return ids
        place = made.index(min(made))
        ids = joined(ids, (ids[place], ids[place + 1]), min(made))


@given(st.text("aefhoptxcs'-é写 ", max_size=40))
def test_merging_follows_the_definition(tokenizer: ClipTokenizer, text: str):
    expected = [i for word in split(clean(text)) for i in lowest_rank_first(tokenizer, word)]
    assert tokenizer.encode(text) == expected


def test_overlapping_pairs_join_from_the_left():
    tokenizer = ClipTokenizer([("a", "a"), ("aa", "aa")])
    names = {0 + 64: "a", 64 + 256: "a</w>", 512: "aa", 513: "aaaa"}
    assert [names[i] for i in tokenizer.encode("aaaaaa")] == ["aaaa", "a", "a</w>"]


@given(st.text(max_size=20))
def test_decoding_gives_the_pieces_back(tokenizer: ClipTokenizer, text: str):
    pieces = " ".join(piece for piece in split(clean(text)) if piece not in (START, END))
    assume(clean(pieces) == pieces)  # cleaning twice may repair more: "ƒà" becomes "ĉ"
    assert tokenizer.decode(tokenizer.encode(pieces)) == pieces


def test_decoding_rows_skips_start_end_and_padding(tokenizer: ClipTokenizer):
    row = tokenizer(["a photo of a cat"])[0].tolist()
    assert tokenizer.decode(row) == "a photo of a cat"
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode(ClipTokenizer([]).encode("é")[:1]) == "\ufffd"


def test_rows_are_padded_with_zero_and_cut_before_the_end(tokenizer: ClipTokenizer):
    texts = ["a cat", "", "cat " * 10, "cat " * 11]
    rows = tokenizer(texts)
    assert rows.shape == (4, 12)
    assert rows.dtype == torch.int64
    cat = tokenizer.encode("cat")
    assert len(cat) == 1
    assert rows[0].tolist() == [
        *(tokenizer.sot, *tokenizer.encode("a cat"), tokenizer.eot),
        *[0] * 8,
    ]
    assert rows[1].tolist() == [tokenizer.sot, tokenizer.eot] + [0] * 10
    assert rows[2].tolist() == rows[3].tolist() == [tokenizer.sot, *cat * 10, tokenizer.eot]
    assert [tokenizer.num_tokens(text) for text in texts] == [4, 2, 12, 13]
    assert rows.argmax(dim=1).tolist() == [3, 1, 11, 11]


def test_trimmed_rows_are_the_first_columns(tokenizer: ClipTokenizer):
    texts = ["a cat", "", "an x-ray"]
    rows, trimmed = tokenizer(texts), tokenizer.trimmed(texts)
    assert trimmed.shape[1] == max(map(tokenizer.num_tokens, texts))
    assert torch.equal(trimmed, rows[:, : trimmed.shape[1]])
    assert not rows[:, trimmed.shape[1] :].any()
    assert torch.equal(tokenizer.trimmed("a cat"), trimmed[:1, :4])


def test_no_texts(tokenizer: ClipTokenizer):
    assert tokenizer([]).shape == (0, 12)
    assert tokenizer.trimmed([]).shape == (0, 0)


def test_a_literal_end_token_ends_the_caption(tokenizer: ClipTokenizer):
    ids = tokenizer.encode(f"cat {END} cat")
    assert ids == [*tokenizer.encode("cat"), tokenizer.eot, *tokenizer.encode("cat")]
    assert tokenizer.decode(ids) == "cat"
    assert tokenizer.encode(START) == [tokenizer.sot]


def test_training_reaches_the_size_or_says_how_far_it_came(tokenizer: ClipTokenizer):
    assert (tokenizer.vocab_size, tokenizer.sot, tokenizer.eot) == (540, 538, 539)
    few = ClipTokenizer.train(["hug hug"], vocabulary_size=2048)
    assert few.vocab_size == 512 + 2 + 2
    assert few.encode("hug") == [513]
    bytes_only = ClipTokenizer.train([], vocabulary_size=514)
    assert bytes_only.encode("é!") == ClipTokenizer([]).encode("é!")
    assert bytes_only.decode(bytes_only.encode("é!")) == "é !"


@pytest.mark.parametrize("size", [513, 49409])
def test_a_vocabulary_of_an_impossible_size(size: int):
    with pytest.raises(UsageError) as error:
        ClipTokenizer.train(CAPTIONS, vocabulary_size=size)
    assert str(error.value) == (
        f"vocabulary_size is {size}, expected 514 (each byte inside and at the end of a word, "
        "start and end) to 49408."
    )


def test_a_context_without_room():
    with pytest.raises(UsageError) as error:
        ClipTokenizer([], context_length=2)
    assert str(error.value) == (
        "context_length is 2, expected at least 3: the start, one token, the end."
    )


def test_merges_that_do_not_build_on_each_other():
    with pytest.raises(DataError, match=r"^merge 2 joins 'ca' and 'xy', but 'xy' is neither"):
        ClipTokenizer([("c", "a"), ("ca", "xy")])


def test_json_is_short_and_whole(tokenizer: ClipTokenizer):
    content = json.loads(json.dumps(tokenizer.to_json()))
    again = ClipTokenizer.from_json(content)
    assert torch.equal(again(CAPTIONS), tokenizer(CAPTIONS))
    assert again.context_length == 12
    assert ClipTokenizer.from_json(ClipTokenizer([]).to_json()).vocab_size == 514
    with pytest.raises(BundleError) as error:
        ClipTokenizer.from_json({"kind": "sentencepiece"})
    assert str(error.value) == (
        "The bundle's tokenizer is of the kind 'sentencepiece'; this version knows 'clip_bpe'."
    )


def test_a_saved_folder_is_read_back(tokenizer: ClipTokenizer, tmp_path: Path):
    tokenizer.save_hugging_face(tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert (vocabulary[START], vocabulary[END]) == (tokenizer.sot, tokenizer.eot)
    assert len(vocabulary) == tokenizer.vocab_size
    again = ClipTokenizer.from_file(tmp_path, context_length=12)
    assert torch.equal(again(CAPTIONS), tokenizer(CAPTIONS))
    assert ClipTokenizer.from_file(str(tmp_path)).context_length == 77
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 40}')
    assert ClipTokenizer.from_file(tmp_path).context_length == 40


def test_the_cache_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_LARGEST_CACHE", 4)
    tokenizer = ClipTokenizer([("a", "b")])
    first = tokenizer.encode("ab cd ef gh")
    assert tokenizer.encode("ab cd ef gh") == first
    assert len(tokenizer._cache) == 4


def test_a_huge_word_takes_no_quadratic_time(tokenizer: ClipTokenizer):
    started = time.monotonic()
    text = "photocatx" * 20_000
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert time.monotonic() - started < 20  # the plain method takes minutes


def test_reading_a_tokenizer_imports_no_torch():
    code = (
        "import sys; from maquette.tasks.image_text.tokenizer import ClipTokenizer\n"
        "ClipTokenizer.train(['a cat'], vocabulary_size=520).encode('a cat')\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
