"""Error rates of recognised text: by characters (CER) and by words (WER).

In: what was said and what was heard, a text for each utterance. Out: `ErrorRate`, edits over the
length of the references, both summed over the whole corpus first; the mean of the utterances' own
rates is another number, in which short utterances weigh too much, and is not offered.

How edits are counted is in `alignment.py`. Texts are compared as they are: spaces, case and width
are characters like any other. `Normalization` makes them equal before, and says in words what it
did, which belongs beside each published rate.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paraformer_asr.alignment import Alignment, ErrorRate, align, count_edits
from paraformer_asr.errors import AsrError

__all__ = [
    "Alignment",
    "ErrorRate",
    "Normalization",
    "align",
    "error_rate",
    "normalize",
    "summed",
    "word_error_rate",
]


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """What is made equal in both texts before they are compared; by default nothing."""

    width: bool = False
    """Unicode NFKC: full-width letters and digits become ordinary ones, accents are composed."""
    lowercase: bool = False
    punctuation: bool = False
    """Leave out Unicode categories P and S, but for an apostrophe or hyphen inside of a word."""
    spaces: Literal["keep", "single", "remove"] = "keep"
    """single: stretches of white space become one space, none at the ends."""

    def __call__(self, text: str) -> str:
        """Apply the steps in the order of the fields."""
        if self.width:
            text = unicodedata.normalize("NFKC", text)
        if self.lowercase:
            text = text.lower()
        if self.punctuation:
            text = without_punctuation(text)
        if self.spaces == "remove":
            return "".join(text.split())
        return " ".join(text.split()) if self.spaces == "single" else text

    def __str__(self) -> str:
        steps = [
            *(["Unicode NFKC"] if self.width else []),
            *(["lower case"] if self.lowercase else []),
            *(["without punctuation"] if self.punctuation else []),
            *{"keep": [], "single": ["single spaces"], "remove": ["without spaces"]}[self.spaces],
        ]
        return ", ".join(steps) or "none (texts as they are)"


EVERYTHING = Normalization(width=True, lowercase=True, punctuation=True, spaces="single")


def normalize(text: str, steps: Normalization = EVERYTHING) -> str:
    """Apply `steps` to a text: by default all of them, with single spaces left between words."""
    return steps(text)


def error_rate(
    references: Sequence[str], hypotheses: Sequence[str], *, steps: Normalization | None = None
) -> ErrorRate:
    """Character error rate of a corpus. A character is a Unicode code point, spaces included.

    Args:
        references: what was said in each utterance.
        hypotheses: what was heard, as many texts in the same order.
        steps: applied to both before; None compares them as they are.
    Raises:
        AsrError: numbers of texts that differ, or a text in place of a list of texts.
    """
    left, right = checked(references, hypotheses, steps)
    return summed(count_edits(left, right))


def word_error_rate(
    references: Sequence[str], hypotheses: Sequence[str], *, steps: Normalization | None = None
) -> ErrorRate:
    """Word error rate of a corpus. Words are what white space separates; see `error_rate`."""
    left, right = checked(references, hypotheses, steps)
    return summed(count_edits([text.split() for text in left], [text.split() for text in right]))


def summed(utterances: Sequence[ErrorRate]) -> ErrorRate:
    """The corpus of these utterances: their counts are summed, then divided."""
    return ErrorRate.of(
        sum(each.substitutions for each in utterances),
        sum(each.deletions for each in utterances),
        sum(each.insertions for each in utterances),
        sum(each.reference_length for each in utterances),
    )


def checked(
    references: Sequence[str], hypotheses: Sequence[str], steps: Normalization | None
) -> tuple[list[str], list[str]]:
    """Both lists, normalised, if they are lists of texts of one length."""
    for name, texts in (("references", references), ("hypotheses", hypotheses)):
        if isinstance(texts, str):
            raise AsrError(f"{name} is one text; give a list of texts, such as [{texts[:20]!r}].")
    if len(references) != len(hypotheses):
        raise AsrError(
            f"{len(references)} references and {len(hypotheses)} hypotheses; each utterance needs "
            "both, an empty text where nothing was said or heard."
        )
    change = steps or Normalization()
    return [change(text) for text in references], [change(text) for text in hypotheses]


def without_punctuation(text: str) -> str:
    """Leave out punctuation and symbols; an apostrophe or hyphen between letters stays."""
    kept = []
    for i, character in enumerate(text):
        inside = text[max(i - 1, 0) : i].isalnum() and text[i + 1 : i + 2].isalnum()
        if unicodedata.category(character)[0] not in "PS" or (character in "'’-" and inside):
            kept.append(character)
    return "".join(kept)
