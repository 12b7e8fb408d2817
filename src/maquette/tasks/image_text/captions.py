"""Captions: when two are one, and when one is longer than the text tower takes. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from maquette.errors import DataError
from maquette.tasks.image_folders import some

if TYPE_CHECKING:
    from maquette.tasks.image_text.tokenizer import ClipTokenizer

SHOWN = 20
"""Long captions listed in a refusal; the rest are counted."""


def normal_text(text: str) -> str:
    """Spell a text as tokenizers see it, for comparison: lower case, single spaces."""
    return " ".join(text.split()).lower()


def check_lengths(
    places: Sequence[str],
    texts: Sequence[Sequence[str]],
    tokenizer: ClipTokenizer,
    *,
    long_captions: Literal["truncate", "error"],
) -> Iterator[str]:
    """Yield a warning when captions will be cut.

    Args:
        places, texts: where each sample stands, and its captions.
        tokenizer: counts the tokens, start and end included.
        long_captions: `truncate` warns, `error` refuses.
    Raises:
        DataError: captions are too long and `long_captions` is `error`; the longest come first.
    """
    most = tokenizer.context_length
    lengths: dict[str, int] = {}
    long: list[tuple[int, str]] = []
    for place, captions in zip(places, texts, strict=True):
        for caption in captions:
            if caption not in lengths:
                lengths[caption] = tokenizer.num_tokens(caption)
            if lengths[caption] > most:
                long.append((lengths[caption], place))
    if not long:
        return
    total = sum(len(captions) for captions in texts)
    named = [f"{place} ({length})" for length, place in sorted(long, key=lambda one: -one[0])]
    number = f"{len(long)} of {total} captions {'is' if len(long) == 1 else 'are'}"
    if long_captions == "error":
        shown = "\n  ".join(named[:SHOWN])
        more = f"\n  … and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        raise DataError(
            f"{number} longer than {most} tokens, start and end included:\n  {shown}{more}\n"
            "Shorten them, raise data.image_text.context_length (a checkpoint's own is its limit), "
            "or set data.image_text.long_captions: truncate."
        )
    yield (
        f"{number} longer than {most} tokens and will be cut there (tokens in brackets): "
        f"{some(named)}"
    )
