"""CLIP's tokenizer: a caption becomes byte-pair ids between a start and an end token.

    tokenizer = ClipTokenizer.from_file("catalogue:clip_vocab")       # the published checkpoints'
    tokenizer = ClipTokenizer.train(captions, vocabulary_size=2048)   # one for a model from nothing
    ids = tokenizer(["a photo of a cat"])                             # (1, 77) int64

Ids are those of the reference: `text_cleaning.py` repairs and cuts, `merges.py` reads the merges,
`bpe_training.py` learns them; here they are applied. B captions, T tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from maquette.errors import BundleError, UsageError
from maquette.files import write_text
from maquette.tasks.image_text.bpe_training import learn_merges
from maquette.tasks.image_text.merges import (
    BYTE_SYMBOLS,
    MOST_MERGES,
    NUM_BYTE_TOKENS,
    WORD_END,
    Pair,
    read_merges,
    vocabulary_of,
)
from maquette.tasks.image_text.text_cleaning import END, START, clean, split

if TYPE_CHECKING:
    from torch import Tensor

CONTEXT_LENGTH = 77
_SHORTEST = 3  # start, one token, end
_BYTE_OF = {symbol: byte for byte, symbol in BYTE_SYMBOLS.items()}
_FIRST_ID = {byte: position for position, byte in enumerate(BYTE_SYMBOLS)}
_LARGEST_CACHE = 1 << 17
"""Words whose ids are kept. Captions repeat few words often, and random bytes must not fill the
memory."""


class ClipTokenizer:
    """Byte-level BPE with CLIP's cleaning, vocabulary order and padding.

    `vocab_size` counts all tokens; `sot` and `eot` are the last two, so the end token is where a
    row of ids has its maximum. A literal `<|endoftext|>` in a caption is the end token, as in the
    reference: it ends the caption.
    """

    def __init__(self, merges: Sequence[Pair], *, context_length: int = CONTEXT_LENGTH) -> None:
        """Take the merges in their order, most frequent first.

        Raises:
            DataError: the merges do not build on each other.
            UsageError: there is no room for a token between start and end.
        """
        if context_length < _SHORTEST:
            raise UsageError(
                f"context_length is {context_length}, expected at least {_SHORTEST}: the start, "
                "one token, the end."
            )
        vocabulary = vocabulary_of(merges)
        self.merges: tuple[Pair, ...] = tuple(merges)
        self.context_length = context_length
        self.sot = len(vocabulary)
        self.eot = self.sot + 1
        self.vocab_size = self.sot + 2
        self._vocabulary = vocabulary | {START: self.sot, END: self.eot}
        # The id of what a pair makes is also its rank: later merges have larger ids.
        self._made_by = {
            (vocabulary[left], vocabulary[right]): NUM_BYTE_TOKENS + rank
            for rank, (left, right) in enumerate(merges)
        }
        self._bytes = [_bytes_of(token) for token in vocabulary]
        self._cache: dict[str, tuple[int, ...]] = {START: (self.sot,), END: (self.eot,)}

    @classmethod
    def from_file(cls, source: str | Path, *, context_length: int | None = None) -> Self:
        """Read CLIP's merge list (.gz or plain), a Hugging Face folder, or its tokenizer.json.

        Args:
            source: a path, or `catalogue:clip_vocab`.
            context_length: by default what the folder states, else 77.
        Raises:
            UsageError: there is no such tokenizer.
            DataError: it is damaged, or not of CLIP's kind; the text names the line.
        """
        from maquette.data.catalogue import resolve

        merges, stated = read_merges(resolve(str(source)))
        return cls(merges, context_length=context_length or stated or CONTEXT_LENGTH)

    @classmethod
    def train(
        cls,
        captions: Iterable[str],
        *,
        vocabulary_size: int,
        context_length: int = CONTEXT_LENGTH,
    ) -> Self:
        """Learn a tokenizer from captions; their order does not matter.

        `vocab_size` stays below `vocabulary_size` when the captions have no more frequent pairs.

        Raises:
            UsageError: `vocabulary_size` has no room for the bytes, or more than CLIP's 49 408.
        """
        smallest = NUM_BYTE_TOKENS + 2
        if not smallest <= vocabulary_size <= smallest + MOST_MERGES:
            raise UsageError(
                f"vocabulary_size is {vocabulary_size}, expected {smallest} (each byte inside and "
                f"at the end of a word, start and end) to {smallest + MOST_MERGES}."
            )
        merges = learn_merges(captions, num_merges=vocabulary_size - smallest)
        return cls(merges, context_length=context_length)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a caption, without start and end, of any length."""
        return [id_ for ids in self._words(text) for id_ in ids]

    def sequence(self, text: str) -> list[int]:
        """Return start, ids, end: at most `context_length`, a longer caption cut before its end."""
        ids = [self.sot]
        for word in self._words(text):
            ids += word
            if len(ids) >= self.context_length:
                break
        return [*ids[: self.context_length - 1], self.eot]

    def num_tokens(self, text: str) -> int:
        """Return the length that a caption has with start and end, before anything is cut."""
        return sum(map(len, self._words(text))) + 2

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Return (B, context_length) int64, padded with 0 behind the end token."""
        return self._rows(texts, width=self.context_length)

    def trimmed(self, texts: str | Sequence[str]) -> Tensor:
        """Return (B, T) int64 with T the longest caption of the batch, padded with 0.

        The text tower is causal and reads its answer at the end token, so columns of padding alone
        change nothing but the time.
        """
        return self._rows(texts, width=None)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the cleaned text of ids; a start token is skipped, the first end token ends it.

        Ids that cut a character in two give U+FFFD in its place.
        """
        content = bytearray()
        for id_ in ids:
            if id_ == self.eot:
                break
            if id_ != self.sot:
                content += self._bytes[id_]
        return content.decode(errors="replace").rstrip(" ")

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes: the merges as one text, which keeps the file short."""
        merges = "\n".join(f"{left} {right}" for left, right in self.merges)
        return {"kind": "clip_bpe", "context_length": self.context_length, "merges": merges}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Rebuild a tokenizer from `to_json`.

        Raises:
            BundleError: it was written by something else.
        """
        if content.get("kind") != "clip_bpe":
            raise BundleError(
                f"The bundle's tokenizer is of the kind {content.get('kind')!r}; this version "
                "knows 'clip_bpe'."
            )
        lines = content["merges"].split("\n") if content["merges"] else []
        merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
        return cls(merges, context_length=content["context_length"])

    def save_hugging_face(self, folder: Path) -> None:
        """Write vocab.json and merges.txt, which the tokenizers of transformers read."""
        lines = [f"{left} {right}\n" for left, right in self.merges]
        write_text(folder / "merges.txt", "".join(["#version: 0.2\n", *lines]))
        write_text(folder / "vocab.json", json.dumps(self._vocabulary, ensure_ascii=False))

    def _words(self, text: str) -> Iterator[tuple[int, ...]]:
        """Yield the ids of one word after the other."""
        cache = self._cache
        for piece in split(clean(text)):
            ids = cache.get(piece)
            if ids is None:
                ids = self._merge(piece)
                if len(cache) < _LARGEST_CACHE:
                    cache[piece] = ids
            yield ids

    def _merge(self, piece: str) -> tuple[int, ...]:
        """Join the pairs of a word, lowest rank first and from the left, until none is left.

        Symbols are a linked list and candidates a heap, so a word of n bytes takes n log n steps,
        whatever somebody sends to a server.
        """
        ids = [_FIRST_ID[byte] for byte in piece.encode()]
        ids[-1] += NUM_BYTE_TOKENS // 2
        before, after = list(range(-1, len(ids) - 1)), [*range(1, len(ids)), -1]
        made_by = self._made_by
        pairs = enumerate(pairwise(ids))
        heap = [(made_by[pair], place) for place, pair in pairs if pair in made_by]
        heapify(heap)
        while heap:
            made, left = heappop(heap)
            right = after[left]
            if right < 0 or made_by.get((ids[left], ids[right])) != made:
                continue  # one of the two was joined to something else meanwhile
            ids[left], ids[right], after[left] = made, -1, after[right]
            if after[right] >= 0:
                before[after[right]] = left
            for first, second in ((before[left], left), (left, after[left])):
                if first >= 0 and second >= 0:
                    joins = made_by.get((ids[first], ids[second]))
                    if joins is not None:
                        heappush(heap, (joins, first))
        return tuple(id_ for id_ in ids if id_ >= 0)

    def _rows(self, texts: str | Sequence[str], *, width: int | None) -> Tensor:
        import torch

        sequences = [self.sequence(text) for text in ([texts] if isinstance(texts, str) else texts)]
        if width is None:
            width = max(map(len, sequences), default=0)
        padded = [ids + [0] * (width - len(ids)) for ids in sequences]
        return torch.tensor(padded, dtype=torch.int64).reshape(len(sequences), width)


def _bytes_of(token: str) -> bytes:
    """Return the bytes a token stands for; the end of a word becomes a space."""
    symbols = token.removesuffix(WORD_END)
    return bytes(_BYTE_OF[symbol] for symbol in symbols) + b" " * (symbols != token)
