"""Edit distance (Levenshtein 1966), and the alignment of two texts that it comes from.

In: pairs of sequences, a reference and a hypothesis. Out: the fewest substitutions, deletions and
insertions that turn one into the other, or which element was heard as which (`align`).

With d(i, j) the cost of turning the first i elements of the reference into the first j of the
hypothesis,

    d(i, j) = min( d(i-1, j-1) + (0 if equal, else substitution),  d(i-1, j) + deletion,
                   d(i, j-1) + insertion )

Often several alignments have the fewest edits, with other shares of the three kinds: "ab" to "ba"
is two substitutions, or a deletion and an insertion that leave one letter right. Here the one with
the most right elements counts. That is decided by the costs alone: an edit costs M, a substitution
M + 1, with M above any number of substitutions, so none of them saved pays for an edit more.
Then all counts can be read off the cost of the last cell,

    cost = edits M + substitutions,   deletions - insertions = length of reference - of hypothesis,

and no path has to be kept where only counts are wanted.

Letters: N pairs, R elements of the reference, H of the hypothesis.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

TOGETHER = 256
"""Pairs that are computed side by side, sorted by length so that they need little padding."""
GAP = "*"
"""Stands where one side has nothing."""


@dataclass(frozen=True)
class ErrorRate:
    """Errors of a corpus or of one utterance."""

    rate: float
    """(substitutions + deletions + insertions) / reference_length. Can be above 1. With nothing
    said, it is 0.0 if nothing was heard and infinite otherwise."""
    substitutions: int
    deletions: int
    insertions: int
    reference_length: int
    """Characters or words that were said."""

    @classmethod
    def of(
        cls, substitutions: int, deletions: int, insertions: int, reference_length: int
    ) -> ErrorRate:
        """Work out the rate of these counts."""
        edits = substitutions + deletions + insertions
        nothing_said = float("inf") if edits else 0.0
        rate = edits / reference_length if reference_length else nothing_said
        return cls(rate, substitutions, deletions, insertions, reference_length)

    @property
    def edits(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    def __str__(self) -> str:
        return (
            f"{100 * self.rate:.2f} % ({self.substitutions} substitutions, {self.deletions} "
            f"deletions, {self.insertions} insertions in {self.reference_length})"
        )


@dataclass(frozen=True)
class Alignment:
    """Which element of the reference was heard as which of the hypothesis."""

    pairs: tuple[tuple[str | None, str | None], ...]
    """(reference, hypothesis) in order; None for the side that has nothing: (x, None) is a
    deletion, (None, x) an insertion."""

    @property
    def error_rate(self) -> ErrorRate:
        """The counts of the pairs; the same as `count_edits` finds."""
        marks = [mark(pair) for pair in self.pairs]
        said = sum(reference is not None for reference, _ in self.pairs)
        return ErrorRate.of(marks.count("S"), marks.count("D"), marks.count("I"), said)

    def lines(self) -> tuple[str, str, str]:
        """Reference, hypothesis and marks, one below the other in a fixed-width font.

        Marks are S, D, I and a blank where both agree; `GAP` stands where one side has nothing, and
        white space is shown as an open box. Chinese, Japanese and Korean characters take two
        columns, and marks that combine with the character before take none.
        """
        rows: tuple[list[str], list[str], list[str]] = (["REF:"], ["HYP:"], ["    "])
        for pair in self.pairs:
            cells = (*(GAP if side is None else visible(side) for side in pair), mark(pair))
            width = max(map(display_width, cells))
            for row, cell in zip(rows, cells, strict=True):
                row.append(cell + " " * (width - display_width(cell)))
        reference, hypothesis, marks = (" ".join(row).rstrip() for row in rows)
        return reference, hypothesis, marks

    def __str__(self) -> str:
        return "\n".join(self.lines())


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Alignment:
    """Align two texts by characters, or two lists of words by words.

    Of several alignments with the fewest edits, one with the most right elements is taken; of
    those, read from the end, right or substituted goes before deleted, and deleted before inserted.

    Args:
        reference: what was said.
        hypothesis: what was heard.
    """
    ids: dict[Hashable, int] = {}
    left, right = as_ids([reference], ids), as_ids([hypothesis], ids)
    edit_cost = cost_of_edit(left, right)
    costs = np.stack(list(cost_rows(left, right, edit_cost)))[:, 0]
    i, j = len(reference), len(hypothesis)
    pairs: list[tuple[str | None, str | None]] = []
    while i or j:
        change = 0 if i and j and reference[i - 1] == hypothesis[j - 1] else edit_cost + 1
        if i and j and costs[i, j] == costs[i - 1, j - 1] + change:
            i, j = i - 1, j - 1
            pairs.append((reference[i], hypothesis[j]))
        elif i and costs[i, j] == costs[i - 1, j] + edit_cost:
            i -= 1
            pairs.append((reference[i], None))
        else:
            j -= 1
            pairs.append((None, hypothesis[j]))
    return Alignment(tuple(reversed(pairs)))


def count_edits(
    references: Sequence[Sequence[Hashable]], hypotheses: Sequence[Sequence[Hashable]]
) -> list[ErrorRate]:
    """The fewest edits of each pair; see above for the choice between kinds.

    Args:
        references: N sequences of anything that can be compared: texts, words, token ids.
        hypotheses: as many.
    """
    found = [ErrorRate.of(0, 0, 0, 0)] * len(references)
    order = sorted(range(len(found)), key=lambda n: (len(references[n]), len(hypotheses[n])))
    for start in range(0, len(order), TOGETHER):
        some = order[start : start + TOGETHER]
        ids: dict[Hashable, int] = {}
        left = as_ids([references[n] for n in some], ids)
        right = as_ids([hypotheses[n] for n in some], ids)
        lens = np.array([(len(references[n]), len(hypotheses[n])) for n in some])
        edit_cost = cost_of_edit(left, right)
        last = np.zeros(len(some), dtype=np.int64)
        for i, row in enumerate(cost_rows(left, right, edit_cost)):
            ends = lens[:, 0] == i
            last[ends] = row[ends, lens[ends, 1]]
        for n, cost in zip(some, last.tolist(), strict=True):
            found[n] = edits_of_cost(cost, edit_cost, len(references[n]), len(hypotheses[n]))
    return found


def edits_of_cost(cost: int, edit_cost: int, reference: int, hypothesis: int) -> ErrorRate:
    """Solve the two equations of the module's docstring for the three counts."""
    edits, substitutions = divmod(cost, edit_cost)
    deletions = (edits - substitutions + reference - hypothesis) // 2
    return ErrorRate.of(substitutions, deletions, edits - substitutions - deletions, reference)


def cost_rows(reference_NR: Ids, hypothesis_NH: Ids, edit_cost: int) -> Iterator[Ids]:
    """The rows d(0, .), d(1, .), ..., d(R, .) of all pairs, each (N, H + 1).

    Deletions and substitutions come from the row above; insertions from the left in the same row,
    which a running minimum does at once: min over l <= j of x(l) + (j - l) M is M j plus the
    running minimum of x(l) - M l. Padding stands behind a pair's own cells and cannot reach them.
    """
    N, H = hypothesis_NH.shape
    slope = edit_cost * np.arange(H + 1)
    row = np.broadcast_to(slope, (N, H + 1))
    yield row
    for element in reference_NR.T:
        new = row + edit_cost
        change = np.where(hypothesis_NH == element[:, None], 0, edit_cost + 1)
        np.minimum(new[:, 1:], row[:, :-1] + change, out=new[:, 1:])
        row = np.minimum.accumulate(new - slope, axis=1) + slope
        yield row


def cost_of_edit(reference_NR: Ids, hypothesis_NH: Ids) -> int:
    """M: above any number of substitutions."""
    return min(len(reference_NR[0]), len(hypothesis_NH[0])) + 1


def as_ids(sequences: Sequence[Sequence[Hashable]], ids: dict[Hashable, int]) -> Ids:
    """(N, longest) numbers that are equal where elements are; `ids` is kept between calls."""
    padded = np.full((len(sequences), max(map(len, sequences), default=0)), -1, dtype=np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = [ids.setdefault(element, len(ids)) for element in sequence]
    return padded


def mark(pair: tuple[str | None, str | None]) -> str:
    """S, D or I, or a blank where both agree."""
    reference, hypothesis = pair
    if reference is None:
        return "I"
    if hypothesis is None:
        return "D"
    return " " if reference == hypothesis else "S"


def visible(text: str) -> str:
    """White space as open boxes, an empty word as the sign of the empty set, and a mark that would
    combine with what stands before it on a dotted circle of its own."""
    if not text:
        return "\N{EMPTY SET}"
    carrier = "" if columns(text[0]) else "\N{DOTTED CIRCLE}"
    return carrier + "".join("\N{OPEN BOX}" if c.isspace() else c for c in text)


def display_width(text: str) -> int:
    """Columns of a terminal that a text takes (Unicode Standard Annex 11, East Asian width)."""
    return sum(map(columns, text))


def columns(character: str) -> int:
    """0 for marks that combine with the character before, 2 for wide characters, else 1."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
