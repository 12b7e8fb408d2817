"""Random changes of training captions, pure functions of (seed, epoch, sample). No torch here.

A caption that begins at any of its sentences shows the text tower more than what fits into
`context_length` tokens from its start; ConVIRT (Zhang et al. 2020, arXiv:2010.00747) draws one
sentence of a report. Words left out keep a small data set from being learned by heart ("random
deletion" of Wei and Zou 2019, arXiv:1901.11196).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.data.randomness import uniforms

SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；])\s*")
MOST_WORDS = 512
"""Words beyond are kept; no text tower reads that far."""


class TextAugmenter:
    """Changes the captions of a batch as `data.image_text.text_augmentation` says."""

    def __init__(
        self, *, seed: int, sentence_start: float = 0.0, word_dropout: float = 0.0
    ) -> None:
        """Choose the changes.

        Args:
            sentence_start: probability that a caption begins at a random one of its sentences.
            word_dropout: probability that a word is left out; of a caption's words one stays.
        """
        self.seed = seed
        self.sentence_start = sentence_start
        self.word_dropout = word_dropout

    def __call__(
        self, texts: Sequence[str], keys: NDArray[np.integer[Any]], *, epoch: int
    ) -> list[str]:
        """Return each text, changed.

        Args:
            keys: (B,) integers, one per sample; they and `epoch` decide the changes.
        """
        if not self.sentence_start and not self.word_dropout:
            return list(texts)
        words = min(MOST_WORDS, max((len(text.split()) for text in texts), default=0))
        draws = uniforms(keys, 2 + words, seed=self.seed, epoch=epoch, purpose="caption")
        return [
            self._without_words(self._from_a_sentence(text, *row[:2]), row[2:])
            for text, row in zip(texts, draws.tolist(), strict=True)
        ]

    def _from_a_sentence(self, text: str, whether: float, which: float) -> str:
        if whether >= self.sentence_start:
            return text
        sentences = [part for part in SENTENCE_END.split(text) if part]
        return " ".join(sentences[int(which * len(sentences)) :]) if sentences else text

    def _without_words(self, text: str, draws: Sequence[float]) -> str:
        if not self.word_dropout:
            return text
        words = text.split()
        kept = [word for word, draw in zip(words, draws, strict=False) if draw >= self.word_dropout]
        kept += words[len(draws) :]
        return " ".join(kept or words[:1])
