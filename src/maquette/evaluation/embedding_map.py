"""A picture of the space that images and texts share: their features on a plane.

`pca_map` turns the axes until the first two show most (Pearson 1901); distances are true, what lies
across is lost. `tsne_map` keeps neighbours together (van der Maaten and Hinton 2008); distances
between groups mean nothing. Images and texts of contrastive models often form two separate clouds
(the modality gap, Liang et al. 2022), which the first shows and which is no mistake.

Shapes: n pairs, E width of the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from maquette.evaluation.checks import Floats, Integers
from maquette.evaluation.zero_shot import unit

MAX_PAIRS = 250
"""Pairs on a map; of more, an even sample. t-SNE of 500 points takes a few seconds."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """Where images and texts lie on a plane."""

    method: str
    """PCA or t-SNE."""
    images: Floats
    """(k, 2)"""
    texts: Floats
    """(k, 2), each at the row of its image."""
    labels: tuple[str, ...] | None
    """What the points are coloured by, one per row; None: by image and text alone."""
    captions: tuple[str, ...] | None
    """What pointing at a point tells, one per row."""
    explained: float | None = None
    """PCA: the share of the variance that the plane shows."""


def pca_map(
    image_features: ArrayLike,
    text_features: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
) -> EmbeddingMap:
    """Project (n, E) image and text features, at length 1, on their two main axes.

    Raises:
        ValueError: no pairs, or shapes that do not fit.
    """
    rows, both = _chosen(image_features, text_features)
    centred = both - both.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ _upright(axes[:2]).T
    points = np.zeros((len(both), 2))
    points[:, : plane.shape[1]] = plane  # features of width 1 fill one axis
    variance = np.square(sizes)
    explained = float(variance[:2].sum() / variance.sum()) if variance.sum() > 0 else 1.0
    return _map("PCA", points, rows, labels, captions, explained)


def tsne_map(
    image_features: ArrayLike,
    text_features: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    seed: int = 0,
) -> EmbeddingMap | None:
    """Lay out (n, E) image and text features by t-SNE; the same seed gives the same map.

    Returns:
        None for fewer than 10 pairs, which have too few neighbours to keep together.
    Raises:
        ValueError: no pairs, or shapes that do not fit.
    """
    from sklearn.manifold import TSNE

    rows, both = _chosen(image_features, text_features)
    if len(rows) < 10:
        return None
    perplexity = min(30.0, len(both) / 4)
    model = TSNE(perplexity=perplexity, init="random", random_state=seed, method="barnes_hut")
    points = model.fit_transform(both.astype(np.float32)).astype(np.float64)
    return _map("t-SNE", points, rows, labels, captions, None)


def _chosen(image_features: ArrayLike, text_features: ArrayLike) -> tuple[Integers, Floats]:
    """Return the rows shown, (k,), and their image and text features, (2 k, E) of length 1."""
    images = np.asarray(image_features, dtype=np.float64)
    texts = np.asarray(text_features, dtype=np.float64)
    if images.ndim != 2 or len(images) == 0 or images.shape != texts.shape:
        raise ValueError(
            f"image features are {images.shape} and text features {texts.shape}, "
            "expected (pairs, width) for both."
        )
    rows = np.unique(np.linspace(0, len(images) - 1, num=min(MAX_PAIRS, len(images))).astype(int))
    return rows, np.concatenate([unit(images[rows]), unit(texts[rows])])


def _upright(axes: Floats) -> Floats:
    """Point each axis to where its largest entry is positive: an SVD may return either sign."""
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return np.asarray(axes * np.where(largest < 0, -1.0, 1.0))


def _map(
    method: str,
    points: Floats,
    rows: Integers,
    labels: Sequence[str] | None,
    captions: Sequence[str] | None,
    explained: float | None,
) -> EmbeddingMap:
    def shown(names: Sequence[str] | None) -> tuple[str, ...] | None:
        return None if names is None else tuple(str(names[row]) for row in rows.tolist())

    half = len(rows)
    return EmbeddingMap(
        method=method,
        images=points[:half],
        texts=points[half:],
        labels=shown(labels),
        captions=shown(captions),
        explained=explained,
    )
