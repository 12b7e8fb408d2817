"""What every source of data gives: utterances, by number, the same each time they are asked for.

A dataset is any object with the members of `Dataset`; there is no base class to inherit from.

Letters: T0 frames of 10 ms, M mel channels (features.num_mels).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Utterance:
    """One stretch of speech and what is said in it."""

    name: str
    """Where it comes from, as messages and result tables show it; unique within a split."""
    text: str
    """What is said; every character is a token."""
    frames: Tensor
    """(T0, M) float32 log-mel values (natural logarithm), before stacking and normalisation."""


class Dataset(Protocol):
    """One split (train, valid or test) of a source of utterances."""

    @property
    def split(self) -> str:
        """train, valid or test."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Names of all utterances by index; those of epoch 0 where epochs differ."""
        ...

    def __len__(self) -> int:
        """Number of utterances of an epoch."""
        ...

    def load(self, index: int, *, epoch: int = 0) -> Utterance:
        """Utterance 0 <= index < len, the same for the same (seed, epoch, index).

        Raises:
            IndexError: an index outside of the split.
            AsrError: a recording that cannot be read.
        """
        ...

    def lengths(self, epoch: int) -> list[int]:
        """T0 of each utterance by index, to sort them by; may be an estimate."""
        ...

    def texts(self) -> Iterable[str]:
        """Texts of the split, from which a vocabulary can be built."""
        ...
