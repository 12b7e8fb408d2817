"""Merge lists: reading every form they come in, and what is said about damaged ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from maquette.errors import DataError, UsageError
from maquette.tasks.image_text import merges as module
from maquette.tasks.image_text.merges import BYTE_TOKENS, read_merges, vocabulary_of
from maquette.tasks.image_text.tokenizer import ClipTokenizer

HEADER = '"bpe_simple_vocab_16e6.txt#version: 0.2'
MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
LINES = [f"{left} {right}" for left, right in MERGES]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def folder_of(path: Path) -> Path:
    """A folder as transformers writes it."""
    ClipTokenizer(MERGES).save_hugging_face(path)
    return path


def tokenizer_json(path: Path, *, as_text: bool, **changes: object) -> Path:
    vocabulary = vocabulary_of(MERGES)
    model = {
        "end_of_word_suffix": "</w>",
        "vocab": vocabulary,
        "merges": LINES if as_text else [list(pair) for pair in MERGES],
    }
    path.write_text(json.dumps({"model": model | changes}), encoding="utf-8")
    return path


def error_of(source: Path, kind: type[Exception] = DataError) -> str:
    with pytest.raises(kind) as caught:
        read_merges(source)
    return str(caught.value)


def test_the_alphabet_is_in_clips_order():
    assert len(set(BYTE_TOKENS)) == 512
    assert BYTE_TOKENS[:3] == ["!", '"', "#"]
    assert BYTE_TOKENS[93:95] == ["~", "¡"]
    assert BYTE_TOKENS[188] == "Ā"  # byte 0, the first of the 68 that move
    assert BYTE_TOKENS[255:258] == ["Ń", "!</w>", '"</w>']


@pytest.mark.parametrize("header", [[], [HEADER], ["#version: 0.2"]])
def test_a_list_with_and_without_a_header(tmp_path: Path, header: list[str]):
    assert read_merges(write(tmp_path / "list.txt", [*header, *LINES])) == (MERGES, None)


def test_a_packed_list_with_windows_line_ends(tmp_path: Path):
    path = tmp_path / "list.txt.gz"
    path.write_bytes(gzip.compress("\r\n".join([HEADER, *LINES, "", ""]).encode()))
    assert read_merges(path) == (MERGES, None)


def test_a_long_list_is_cut_where_clip_cuts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_MERGES", 2)
    assert read_merges(write(tmp_path / "list.txt", [HEADER, *LINES]))[0] == MERGES[:2]


def test_folders(tmp_path: Path):
    folder = folder_of(tmp_path / "both")
    assert read_merges(folder) == (MERGES, None)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 32}')
    assert read_merges(folder) == (MERGES, 32)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    assert read_merges(folder) == (MERGES, None)
    (folder / "vocab.json").unlink()
    assert read_merges(folder) == (MERGES, None)

    (tmp_path / "fast").mkdir()
    tokenizer_json(tmp_path / "fast/tokenizer.json", as_text=True)
    assert read_merges(tmp_path / "fast")[0] == MERGES

    (tmp_path / "original").mkdir()
    (tmp_path / "original" / module.ORIGINAL).write_bytes(gzip.compress("\n".join(LINES).encode()))
    assert read_merges(tmp_path / "original")[0] == MERGES


@pytest.mark.parametrize("as_text", [True, False])
def test_tokenizer_json_old_and_new(tmp_path: Path, as_text: bool):
    assert read_merges(tokenizer_json(tmp_path / "tokenizer.json", as_text=as_text))[0] == MERGES


def test_nothing_there(tmp_path: Path):
    assert error_of(tmp_path / "none", UsageError) == (
        f"There is no tokenizer {tmp_path}/none; expected a merge list such as "
        "bpe_simple_vocab_16e6.txt.gz, a folder with vocab.json and merges.txt, or a "
        "tokenizer.json."
    )
    assert error_of(tmp_path, UsageError) == (
        f"{tmp_path} holds no tokenizer: expected vocab.json with merges.txt, tokenizer.json, or "
        "bpe_simple_vocab_16e6.txt.gz."
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [HEADER, "c a", "one two three"],
            ":3 is 'one two three', expected two symbols with a space between them; is this a "
            "merge list?",
        ),
        (["c a", "", "d o"], ":2 is '', expected two symbols"),
        (
            ["c a", "ca ts"],
            ":2 joins 'ca' and 'ts', but 'ts' is neither a byte symbol nor made by an earlier "
            "merge; a merge list must be whole and in its order.",
        ),
        (
            ["c a</w>", "ca</w> t"],
            ":2 joins 'ca</w>' and 't', but 'ca</w>' ends a word: nothing follows it.",
        ),
        (
            ["c a", "a t", "ca t", "c at"],
            ":4 makes the token 'cat' a second time; remove the line.",
        ),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, lines: list[str], message: str):
    path = write(tmp_path / "list.txt", lines)
    assert error_of(path).startswith(f"{path}{message}")


def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "list.gz"
    path.write_bytes(gzip.compress("\n".join(LINES * 50).encode())[:-20])
    assert "cannot be read: " in error_of(path)
    assert error_of(path).endswith("Fetch it again.")
    path.write_bytes(b"\xff\xfe")
    assert error_of(path) == f"{path} is not UTF-8 text (byte 0); it is no merge list."
    monkeypatch.setattr(module, "_LARGEST", 1 << 20)
    path.write_bytes(gzip.compress(b"a b\n" * (1 << 19)))
    assert error_of(path) == f"{path} has more than 1 MiB; it is no merge list."


def test_json_of_another_kind(tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{")
    assert error_of(path).startswith(f"{path} is not JSON: ")
    path.write_text("[]")
    assert error_of(path) == f"{path} holds a list, expected an object."
    path.write_text("{}")
    assert error_of(path) == (
        f"{path} is not a tokenizer of CLIP's kind: its model must be a BPE with "
        'end_of_word_suffix "</w>".'
    )
    tokenizer_json(path, as_text=True, merges=None)
    assert error_of(path) == f"{path} has no model.merges and model.vocab."
    tokenizer_json(path, as_text=True, merges=["c a", ["d"]])
    assert error_of(path).startswith(f"{path}: model.merges[1] is 'd', expected two symbols")
    tokenizer_json(path, as_text=True, merges=[7])
    assert error_of(path).startswith(f"{path}: model.merges[0] is '7', expected two symbols")


def test_another_order_of_tokens_is_refused(tmp_path: Path):
    folder = folder_of(tmp_path)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary["cat</w>"], vocabulary["do"] = vocabulary["do"], vocabulary["cat</w>"]
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    assert error_of(folder) == (
        f"{folder}/vocab.json gives the token 'cat</w>' the id 514, expected 513: byte symbols, "
        "byte symbols with </w>, then the merges in their order. Only tokenizers in CLIP's order "
        "can be read."
    )
