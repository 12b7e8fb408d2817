"""CLIP's tokenizer against open_clip's and transformers', id by id.

Stored answers run in the ordinary suite; with `-m peers` answers made just now on more texts and on
all real captions. Ids need the merge list, so those tests need the data sets.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from facts import PYTHON, read_facts

from maquette.tasks.image_text.text_cleaning import _SHAPES, clean, split
from maquette.tasks.image_text.tokenizer import ClipTokenizer

LIVE_SEED = 1


@pytest.fixture(scope="module", params=["golden", pytest.param("live", marks=pytest.mark.peers)])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """What the references answered: "golden" from the stored file, "live" just now."""
    folder = tmp_path_factory.mktemp("live")
    return read_facts(request.param, "clip_tokenizer", folder, seed=LIVE_SEED)


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer.from_file("catalogue:clip_vocab")


def test_texts_are_cleaned_and_cut_alike(facts: dict[str, Any]):
    for answer in facts["answers"]:
        assert clean(answer["text"]) == answer["cleaned"], answer["text"]
        assert split(answer["cleaned"]) == answer["pieces"], answer["text"]


@pytest.mark.data
def test_ids_are_equal(facts: dict[str, Any], tokenizer: ClipTokenizer):
    assert (tokenizer.vocab_size, tokenizer.sot, tokenizer.eot) == (49408, 49406, 49407)
    compared = 0
    for answer in facts["answers"]:
        assert tokenizer.encode(answer["text"]) == answer["ids"], answer["text"]
        if "transformers" in answer:
            assert tokenizer.encode(answer["cleaned"]) == answer["transformers"], answer["text"]
            compared += 1
    assert compared > len(facts["answers"]) / 2


@pytest.mark.data
def test_rows_are_padded_and_cut_alike(facts: dict[str, Any], tokenizer: ClipTokenizer):
    assert tokenizer(facts["rows"]["texts"]).tolist() == facts["rows"]["ids"]


def test_every_character_is_of_the_same_class(facts: dict[str, Any]):
    """Apart from characters that this Python's Unicode tables do not have yet."""
    runs = re.findall(r"([LNO-])(\d+)", facts["classes"])
    theirs = "".join(name * int(length) for name, length in runs)
    assert len(theirs) == sys.maxunicode + 1
    names = {"a": "L", "s": "L", "0": "N", "!": "O", " ": "-"}
    for code, name in enumerate(theirs):
        character = chr(code)
        if character.isascii() or unicodedata.category(character) in ("Cn", "Cs"):
            continue
        assert names[character.translate(_SHAPES)] == name, hex(code)


READ_BY_TRANSFORMERS = """
import json, sys
from transformers import CLIPTokenizer
tokenizer = CLIPTokenizer.from_pretrained(sys.argv[1])
ids = tokenizer(json.loads(sys.stdin.read()), add_special_tokens=False)["input_ids"]
tokenizer.save_pretrained(sys.argv[1] + "/saved")
print(json.dumps([ids, tokenizer.bos_token_id, tokenizer.eos_token_id]))
"""


@pytest.mark.peers
def test_a_trained_tokenizer_is_read_by_transformers_and_back(tmp_path: Path):
    if not PYTHON.is_file():
        pytest.skip("there is no .venv-peers; tests/parity/README.md says how to make it")
    facts = read_facts("golden", "clip_tokenizer", tmp_path, seed=0)
    texts = [answer["cleaned"] for answer in facts["answers"] if "transformers" in answer]
    ours = ClipTokenizer.train(texts, vocabulary_size=700)
    ours.save_hugging_face(tmp_path)
    done = subprocess.run(
        [PYTHON, "-c", READ_BY_TRANSFORMERS, tmp_path],
        input=json.dumps(texts),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[ours.encode(text) for text in texts], ours.sot, ours.eot]
    again = ClipTokenizer.from_file(tmp_path / "saved")
    assert again.merges == ours.merges
