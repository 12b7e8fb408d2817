"""Merge lists of CLIP's byte-level BPE: the alphabet they are written in, reading and checking.

A byte is written as a printable character: those that are printable and no space keep themselves,
the other 68 become the characters from 256 on. The last symbol of a word carries `</w>`. A merge
list is one pair of symbols a line, most frequent first.

Vocabulary: 256 byte symbols, the same 256 with `</w>`, one token per merge, start, end.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from maquette.errors import DataError, UsageError

Pair = tuple[str, str]

WORD_END = "</w>"
ORIGINAL = "bpe_simple_vocab_16e6.txt.gz"
"""The list of the published checkpoints. It holds 262 144 merges, of which CLIP uses the first
48 894: its vocabulary is 49 152 tokens of text and 256 more that are byte symbols with `</w>`."""
MOST_MERGES = 49152 - 256 - 2
NUM_BYTE_TOKENS = 512
_LARGEST = 64 << 20  # bytes of an unpacked list; the original has 3.2 MB


def _printable_bytes() -> list[int]:
    return [*range(33, 127), *range(161, 173), *range(174, 256)]


def _byte_symbols() -> dict[int, str]:
    """Return byte -> character, in the order of the vocabulary."""
    printable = _printable_bytes()
    others = [byte for byte in range(256) if byte not in set(printable)]
    moved = {byte: chr(256 + position) for position, byte in enumerate(others)}
    return {byte: chr(byte) for byte in printable} | moved


BYTE_SYMBOLS = _byte_symbols()
BYTE_TOKENS = [*BYTE_SYMBOLS.values(), *(symbol + WORD_END for symbol in BYTE_SYMBOLS.values())]


def vocabulary_of(
    merges: Sequence[Pair], place: Callable[[int], str] = lambda index: f"merge {index + 1}"
) -> dict[str, int]:
    """Return token -> id of a merge list, without start and end.

    Args:
        place: names the merge of an index in an error.
    Raises:
        DataError: a merge joins what is no token yet, something to a word's end, or makes a token
            a second time.
    """
    ids = {token: position for position, token in enumerate(BYTE_TOKENS)}
    for index, (left, right) in enumerate(merges):
        unknown = next((half for half in (left, right) if half not in ids), None)
        if unknown is not None:
            raise DataError(
                f"{place(index)} joins {left!r} and {right!r}, but {unknown!r} is neither a byte "
                "symbol nor made by an earlier merge; a merge list must be whole and in its order."
            )
        if left.endswith(WORD_END):
            raise DataError(
                f"{place(index)} joins {left!r} and {right!r}, but {left!r} ends a word: nothing "
                "follows it."
            )
        if left + right in ids:
            raise DataError(
                f"{place(index)} makes the token {left + right!r} a second time; remove the line."
            )
        ids[left + right] = len(ids)
    return ids


def read_merges(source: Path) -> tuple[list[Pair], int | None]:
    """Read a merge list: a file like the original (.gz or plain), tokenizer.json, or a folder.

    Of a folder: vocab.json + merges.txt, else tokenizer.json, else the original under its name.

    Returns:
        The merges, and the context length where the folder's tokenizer_config.json has one.
    Raises:
        UsageError: there is no such file, or the folder holds none of the three.
        DataError: a file is damaged, or is no merge list of CLIP's kind.
    """
    if source.is_dir():
        return _read_folder(source), _context_length(source / "tokenizer_config.json")
    if not source.is_file():
        raise UsageError(
            f"There is no tokenizer {source}; expected a merge list such as {ORIGINAL}, a folder "
            "with vocab.json and merges.txt, or a tokenizer.json."
        )
    return (_read_json(source) if source.suffix == ".json" else _read_list(source)), None


def _read_folder(folder: Path) -> list[Pair]:
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if merges.is_file():
        pairs = _read_list(merges)
        if vocabulary.is_file():
            _refuse_other_order(_json(vocabulary), pairs, vocabulary)
        return pairs
    for name, read in (("tokenizer.json", _read_json), (ORIGINAL, _read_list)):
        if (folder / name).is_file():
            return read(folder / name)
    raise UsageError(
        f"{folder} holds no tokenizer: expected vocab.json with merges.txt, tokenizer.json, or "
        f"{ORIGINAL}."
    )


def _read_list(path: Path) -> list[Pair]:
    """Read lines "left right" below an optional header that names a version."""
    lines = _text(path).split("\n")
    header = 1 if "#version" in lines[0] else 0
    used = lines[header : header + MOST_MERGES]
    while used and not used[-1].strip():
        used.pop()

    def place(index: int) -> str:
        return f"{path}:{header + index + 1}"

    return _pairs((line.split(" ") for line in (line.rstrip("\r") for line in used)), place)


def _pairs(parts: Iterable[Sequence[str]], place: Callable[[int], str]) -> list[Pair]:
    pairs: list[Pair] = []
    for index, part in enumerate(parts):
        if len(part) != 2 or not all(part):
            raise DataError(
                f"{place(index)} is {' '.join(part)[:60]!r}, expected two symbols with a space "
                "between them; is this a merge list?"
            )
        pairs.append((part[0], part[1]))
    vocabulary_of(pairs, place)
    return pairs


def _text(path: Path) -> str:
    """Read UTF-8, unpacked where it is packed."""
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_packed else path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Fetch it again.") from None
    if len(content) > _LARGEST:
        raise DataError(f"{path} has more than {_LARGEST >> 20} MiB; it is no merge list.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}); it is no merge list."
        ) from None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(path))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, expected an object.")
    return content


def _read_json(path: Path) -> list[Pair]:
    """Read `model.merges` of a tokenizer.json: "left right", or [left, right]."""
    model = _json(path).get("model")
    if not isinstance(model, dict) or model.get("end_of_word_suffix") != WORD_END:
        raise DataError(
            f"{path} is not a tokenizer of CLIP's kind: its model must be a BPE with "
            f'end_of_word_suffix "{WORD_END}".'
        )
    merges, vocabulary = model.get("merges"), model.get("vocab")
    if not isinstance(merges, list) or not isinstance(vocabulary, dict):
        raise DataError(f"{path} has no model.merges and model.vocab.")
    parts = [merge.split(" ") if isinstance(merge, str) else _texts(merge) for merge in merges]
    pairs = _pairs(parts, lambda index: f"{path}: model.merges[{index}]")
    _refuse_other_order(vocabulary, pairs, path)
    return pairs


def _texts(merge: Any) -> list[str]:
    """Return the symbols of a merge that is written as a list."""
    return [str(part) for part in merge] if isinstance(merge, list) else [str(merge)]


def _refuse_other_order(vocabulary: dict[str, Any], merges: Sequence[Pair], path: Path) -> None:
    """Refuse a vocabulary whose ids are not those that follow from the merges."""
    for token, wanted in vocabulary_of(merges).items():
        if vocabulary.get(token) != wanted:
            raise DataError(
                f"{path} gives the token {token!r} the id {vocabulary.get(token)}, expected "
                f"{wanted}: byte symbols, byte symbols with {WORD_END}, then the merges in their "
                "order. Only tokenizers in CLIP's order can be read."
            )


def _context_length(path: Path) -> int | None:
    """Return `model_max_length`, unless it stands for "no limit" (a huge number)."""
    if not path.is_file():
        return None
    given = _json(path).get("model_max_length")
    return given if isinstance(given, int) and 2 < given <= 1 << 20 else None
