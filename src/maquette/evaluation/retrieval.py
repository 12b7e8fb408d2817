"""Retrieval: for an image its texts, for a text its images, and how high the first right one ranks.

Start at `retrieval_metrics`; `RetrievalMetrics` feeds it batch by batch, `retrieval_intervals` says
how sure its numbers are, `chance_metrics` what a random ranking would score.

Rows are pairs of an image and a text. Equal image groups mark the same image, equal text groups the
same text (or the same class). Each distinct image and each distinct text is one query and one
candidate, so that a caption written twice is not its own rival; the positives of a query are all
candidates it is paired with in any row.

The rank of a query is that of its best positive: 1 + the candidates that score strictly higher
+ half of those level with it. Without the half, a model that gives all inputs the same features
would find everything first. Other positives never count against the best one.

Shapes: n pairs, q queries, c candidates, E width of the features, R resamples. Features come
prepared: their dot product is the similarity (for cosine they have length 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maquette.errors import RunError
from maquette.evaluation.bootstrap import Interval, bootstrap_intervals, draw_counts
from maquette.evaluation.checks import Floats, Integers, same_length

if TYPE_CHECKING:
    from torch import Tensor

CUTOFFS = (1, 5, 10)
"""K of R@K, the share of queries with a positive among the first K."""

DIRECTIONS = ("image_to_text", "text_to_image")

_CHUNK = 4_000_000
"""Similarities held at once: 32 MB."""

_LEVEL = 1e-10
"""Scores are level within this share of the largest possible one. Equal features may differ in the
last bit of a float64 product, which depends on where in the matrix they stand."""


def retrieval_metrics(
    image_features: ArrayLike,
    text_features: ArrayLike,
    image_groups: ArrayLike,
    text_groups: ArrayLike,
) -> dict[str, float]:
    """Return every retrieval metric by name, for both directions.

    For image_to_text and text_to_image: `_r1`, `_r5`, `_r10` (shares in [0, 1]), `_median_rank`
    and `_mrr` (mean of 1 / rank); and `mean_recall`, the mean of the six recalls.

    Args:
        image_features: (n, E), the image of each pair.
        text_features: (n, E), the text of each pair.
        image_groups: (n,) whole numbers, equal for the same image.
        text_groups: (n,) whole numbers, equal for the same text or class.
    Raises:
        ValueError: no pairs, shapes that do not fit, or features that are not finite.
    """
    found = retrieval_ranks(image_features, text_features, image_groups, text_groups)
    scores = retrieval_scores(found.image_to_text, found.text_to_image)
    return {name: float(value) for name, value in scores.items()}


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The distinct images and texts among n pairs, and who belongs to whom."""

    images: Integers
    """(num_images,) the first row of each distinct image."""
    texts: Integers
    """(num_texts,) the first row of each distinct text."""
    pairs: Integers
    """(p, 2) the distinct pairs as positions in `images` and `texts`, sorted."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """How high the first positive of each query ranks; 1 is the top, halves are ties."""

    image_to_text: Floats
    """(num_images,)"""
    text_to_image: Floats
    """(num_texts,)"""
    candidates: Candidates
    """What the positions stand for."""


def find_candidates(image_groups: ArrayLike, text_groups: ArrayLike) -> Candidates:
    """Return the distinct images and texts of (n,) groups each, and their pairs.

    Raises:
        ValueError: no pairs, or different lengths.
    """
    ours, theirs = np.asarray(image_groups), np.asarray(text_groups)
    if ours.ndim != 1 or len(ours) == 0:
        raise ValueError(f"image groups have shape {ours.shape}, expected one group per pair.")
    same_length(image_groups=ours, text_groups=theirs)
    _, images, image_of = np.unique(ours, return_index=True, return_inverse=True)
    _, texts, text_of = np.unique(theirs, return_index=True, return_inverse=True)
    pairs = np.unique(np.stack([image_of, text_of], axis=1), axis=0)
    return Candidates(images=images, texts=texts, pairs=pairs)


def retrieval_ranks(
    image_features: ArrayLike,
    text_features: ArrayLike,
    image_groups: ArrayLike,
    text_groups: ArrayLike,
) -> Ranks:
    """Return the rank of every query; arguments and errors as in `retrieval_metrics`."""
    images = _features(image_features, "image_features")
    texts = _features(text_features, "text_features")
    same_length(image_features=images, text_features=texts, groups=np.asarray(image_groups))
    if images.shape[1] != texts.shape[1]:
        raise ValueError(
            f"image features have width {images.shape[1]} and text features {texts.shape[1]}; "
            "their dot product is the similarity, so the widths must agree."
        )
    found = find_candidates(image_groups, text_groups)
    ours, theirs = images[found.images], texts[found.texts]
    return Ranks(
        image_to_text=_ranks_in_chunks(ours, theirs, found.pairs),
        text_to_image=_ranks_in_chunks(theirs, ours, found.pairs[:, ::-1]),
        candidates=found,
    )


def ranks(scores: Floats, is_positive: NDArray[np.bool_], *, level: float = 0.0) -> Floats:
    """Return the rank of each query's best positive: 1 + the better + half of those level with it.

    Args:
        scores: (q, c) float64 similarities.
        is_positive: (q, c), at least one true entry per row.
        level: scores no further apart than this count as equal.
    Returns:
        (q,) whole or half numbers from 1 to c.
    """
    best = np.where(is_positive, scores, -np.inf).max(axis=1, keepdims=True)
    rivals = np.where(is_positive, -np.inf, scores)
    better = (rivals > best + level).sum(axis=1)
    up_to = (rivals >= best - level).sum(axis=1)
    return np.asarray(1 + (better + up_to) / 2)


def _ranks_in_chunks(queries: Floats, candidates: Floats, pairs: Integers) -> Floats:
    """`ranks` of (q, E) against (c, E), some queries at a time; pairs: (p, 2) positions."""
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    step = max(1, _CHUNK // len(candidates))
    longest = [np.linalg.norm(side, axis=1).max() for side in (queries, candidates)]
    level = float(_LEVEL * longest[0] * longest[1])
    found = []
    for start in range(0, len(queries), step):
        chunk = queries[start : start + step]
        first, last = np.searchsorted(pairs[:, 0], [start, start + len(chunk)])
        is_positive = np.zeros((len(chunk), len(candidates)), dtype=np.bool_)
        is_positive[pairs[first:last, 0] - start, pairs[first:last, 1]] = True
        found.append(ranks(chunk @ candidates.T, is_positive, level=level))
    return np.concatenate(found)


def retrieval_scores(
    image_to_text: Floats,
    text_to_image: Floats,
    weights: tuple[Floats, Floats] | None = None,
) -> dict[str, Floats]:
    """Return `retrieval_metrics` of the two directions' ranks.

    Args:
        weights: how often each query counts, (num_images, R) and (num_texts, R); None is once.
    Returns:
        each metric, 0-d, or (R,) under weights.
    """
    scores: dict[str, Floats] = {}
    for index, (name, values) in enumerate(
        zip(DIRECTIONS, (image_to_text, text_to_image), strict=True)
    ):
        counts = np.ones(len(values)) if weights is None else weights[index]
        scores |= {f"{name}_r{k}": _mean((values <= k).astype(np.float64), counts) for k in CUTOFFS}
        scores[f"{name}_median_rank"] = _median(values, counts)
        scores[f"{name}_mrr"] = _mean(1 / values, counts)
    recalls = [scores[f"{name}_r{k}"] for name in DIRECTIONS for k in CUTOFFS]
    return scores | {"mean_recall": np.mean(recalls, axis=0)}


def _mean(values: Floats, counts: Floats) -> Floats:
    return np.asarray(values @ counts / counts.sum(axis=0))


def _median(values: Floats, counts: Floats) -> Floats:
    """The median of values (q,) that occur `counts` (q,) or (q, R) times; np.median for ones."""
    order = np.argsort(values, kind="stable")
    up_to = np.cumsum(counts[order], axis=0)
    half = up_to[-1] / 2
    lower = values[order][(up_to < half).sum(axis=0)]
    upper = values[order][(up_to <= half).sum(axis=0)]
    return np.asarray((lower + upper) / 2)


def retrieval_intervals(
    found: Ranks, *, resamples: int = 500, confidence: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Return {metric: (low, high)}: percentile bootstrap over the queries, the candidates kept.

    Where every text belongs to one image, images are drawn and their texts come along: captions of
    one image rise and fall together. Texts that several images share (classes) are drawn by
    themselves.
    """
    num_images, num_texts = len(found.image_to_text), len(found.text_to_image)
    owner = np.zeros(num_texts, dtype=np.int64)
    owner[found.candidates.pairs[:, 1]] = found.candidates.pairs[:, 0]
    has_owner = len(found.candidates.pairs) == num_texts
    rng = np.random.default_rng([seed, 1])

    def statistic(drawn: Floats) -> dict[str, Floats]:
        texts = drawn[owner] if has_owner else draw_counts(rng, num_texts, drawn.shape[1])
        return retrieval_scores(found.image_to_text, found.text_to_image, (drawn, texts))

    return bootstrap_intervals(
        statistic, num_samples=num_images, resamples=resamples, confidence=confidence, seed=seed
    )


def chance_metrics(image_groups: ArrayLike, text_groups: ArrayLike) -> dict[str, float]:
    """Return what `retrieval_metrics` are expected to be when candidates are ranked at random.

    Exact, not simulated. The median rank is that of the distribution of all queries' ranks, which
    the median of many queries tends to.

    Raises:
        ValueError: no pairs, or different lengths.
    """
    found = find_candidates(image_groups, text_groups)
    sizes = (len(found.images), len(found.texts))
    chance: dict[str, float] = {}
    for side, name in enumerate(DIRECTIONS):
        above = _chance_above(found.pairs[:, side], num_candidates=sizes[1 - side])
        chance |= {f"{name}_r{k}": 1 - float(above[min(k, len(above) - 1)]) for k in CUTOFFS}
        middle = [int(np.argmax(above < half)) for half in (0.5 + 1e-9, 0.5 - 1e-9)]
        chance[f"{name}_median_rank"] = sum(middle) / 2
        chance[f"{name}_mrr"] = float(-np.diff(above) @ (1 / np.arange(1, len(above))))
    recalls = [chance[f"{name}_r{k}"] for name in DIRECTIONS for k in CUTOFFS]
    return chance | {"mean_recall": sum(recalls) / len(recalls)}


def _chance_above(query_of_pair: Integers, *, num_candidates: int) -> Floats:
    """P(rank > r) for r = 0 … c, mean over the queries: the first r are all of the negatives.

    With p positives among c candidates it is ∏ (c − p − j) / (c − j) over j < r.
    """
    counts, how_many = np.unique(np.bincount(query_of_pair), return_counts=True)
    places = np.arange(num_candidates)
    mean = np.zeros(num_candidates + 1)
    for num_positives, queries in zip(counts.tolist(), how_many.tolist(), strict=True):
        steps = np.maximum(num_candidates - num_positives - places, 0) / (num_candidates - places)
        mean += queries * np.concatenate([[1.0], np.cumprod(steps)])
    return np.asarray(mean / how_many.sum())


class RetrievalMetrics:
    """Collects the features of pairs batch by batch; every metric of `retrieval_metrics`.

    Batches are only kept, so the result does not depend on how the pairs were batched.
    """

    def __init__(self) -> None:
        self._features: list[NDArray[np.float32]] = []
        self._groups: list[Integers] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take prepared features (B, 2, E), image then text, and (B, 2) image and text groups.

        Features may be of any floating type and device.

        Raises:
            ValueError: the shapes are others.
        """
        fits = outputs.ndim == 3 and outputs.shape[1] == 2
        if not fits or tuple(targets.shape) != tuple(outputs.shape[:2]):
            raise ValueError(
                f"network outputs are {tuple(outputs.shape)} and targets {tuple(targets.shape)}, "
                "expected (batch, 2, width) image and text features and (batch, 2) groups."
            )
        self._features.append(outputs.detach().float().cpu().numpy())
        self._groups.append(targets.cpu().numpy())

    @property
    def features(self) -> NDArray[np.float32]:
        """(n, 2, E): image and text of each pair."""
        return np.concatenate(self._features) if self._features else np.zeros((0, 2, 0), np.float32)

    @property
    def groups(self) -> Integers:
        """(n, 2): image and text group of each pair."""
        return np.concatenate(self._groups) if self._groups else np.zeros((0, 2), np.int64)

    def compute(self) -> dict[str, float]:
        """Return every metric by its plain name.

        Raises:
            ValueError: no pair was given.
            RunError: the features are not finite.
        """
        return retrieval_metrics(*self._sides())

    def ranks(self) -> Ranks:
        """Return the rank of every query, for intervals and galleries; errors as in `compute`."""
        return retrieval_ranks(*self._sides())

    def _sides(self) -> tuple[NDArray[np.float32], NDArray[np.float32], Integers, Integers]:
        features, groups = self.features, self.groups
        if not np.isfinite(features).all():
            row, side = np.argwhere(~np.isfinite(features))[0, :2].tolist()
            raise RunError(
                f"The network's features are not finite: the {('image', 'text')[side]} of pair "
                f"{row + 1} of {len(features)} in this split. The weights have diverged; lower "
                "training.learning_rate, or set training.clip_norm=1."
            )
        return features[:, 0], features[:, 1], groups[:, 0], groups[:, 1]


def _features(values: ArrayLike, name: str) -> Floats:
    """Return `values` as (n, E) float64, all finite."""
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"{name} have shape {rows.shape}, expected one row per pair.")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name}[{int(np.argwhere(~np.isfinite(rows))[0, 0])}] is not finite.")
    return rows
