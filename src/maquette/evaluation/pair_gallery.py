"""Which queries a report shows with what they found, from the best ranked to the worst.

`gallery_rows` gives rows and scores alone; whoever knows the data adds pictures and captions.

Shapes: n pairs, E width of the prepared features, whose dot product is the similarity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from maquette.evaluation.checks import Floats, Integers
from maquette.evaluation.retrieval import Ranks

Direction = Literal["image_to_text", "text_to_image"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """One candidate that a query ranked high."""

    row: int
    """A pair that holds it."""
    similarity: float
    is_right: bool
    """Whether it belongs to the query."""


@dataclass(frozen=True, kw_only=True)
class GalleryRow:
    """One query and its best candidates."""

    direction: Direction
    row: int
    """A pair that holds the query, and beside it one of its positives."""
    rank: float
    """Of the best positive; 1 is the top, halves are ties."""
    best: tuple[Found, ...]
    """The most similar first."""


def gallery_rows(
    ranks: Ranks,
    image_features: ArrayLike,
    text_features: ArrayLike,
    *,
    direction: Direction,
    count: int = 6,
    num_best: int = 5,
) -> list[GalleryRow]:
    """Return up to `count` queries, evenly spread from the best rank to the worst.

    Args:
        ranks: of these features, from `retrieval_ranks` or `RetrievalMetrics.ranks`.
        image_features, text_features: (n, E) each, as they were ranked.
        num_best: candidates shown for each query.
    """
    sides: list[tuple[Floats, Integers]] = [
        (np.asarray(image_features, dtype=np.float64), ranks.candidates.images),
        (np.asarray(text_features, dtype=np.float64), ranks.candidates.texts),
    ]
    pairs, values = ranks.candidates.pairs, ranks.image_to_text
    if direction == "text_to_image":
        sides, pairs, values = sides[::-1], pairs[:, ::-1], ranks.text_to_image
    (queries, query_rows), (candidates, candidate_rows) = sides
    order = np.argsort(values, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, num=min(count, len(order))).astype(int))
    rows = []
    for query in order[places].tolist():
        positives = set(pairs[pairs[:, 0] == query, 1].tolist())
        scores = candidates[candidate_rows] @ queries[query_rows[query]]
        best = np.argsort(-scores, kind="stable")[:num_best].tolist()
        rows.append(
            GalleryRow(
                direction=direction,
                row=int(query_rows[query]),
                rank=float(values[query]),
                best=tuple(
                    Found(
                        row=int(candidate_rows[one]),
                        similarity=float(scores[one]),
                        is_right=one in positives,
                    )
                    for one in best
                ),
            )
        )
    return rows
