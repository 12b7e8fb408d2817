"""Linear probe: how far a logistic regression gets on the frozen image features.

It says what the features hold, whatever the text tower makes of it (Radford et al. 2021, section
3.2). The strength of the penalty is chosen on a held-out part of the training images, so the test
images are looked at once.

Shapes: n training images, m test images, E width, N classes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maquette.evaluation.checks import Floats, Integers, same_length
from maquette.evaluation.metrics import classification_metrics

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse penalties tried, on features of unit variance."""
MAX_ROWS = 10_000
"""Training images used; more make it slow, and hardly better."""
_HELD_OUT = 0.25
_ITERATIONS = 300


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """A logistic regression on the features, scored on the test images."""

    metrics: dict[str, float]
    """Every classification metric."""
    strength: float
    """The inverse penalty that was chosen."""
    held_out_accuracy: float | None
    """With that strength, on the held-out part of the training images; None where every class has a
    single image, so that nothing was held out and the strength is 1."""
    num_train: int
    """Training images used."""
    num_test: int


def linear_probe(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    seed: int = 0,
) -> LinearProbe | None:
    """Fit on (n, E) features with (n,) class names, score on (m, E) with (m,).

    A class that only the test images have counts as wrong. The same seed gives the same numbers.

    Returns:
        None where the training labels are all the same: there is nothing to tell apart.
    Raises:
        ValueError: empty splits, shapes that do not fit, or features that are not finite.
    """
    train, test = _matrix(train_features, "train_features"), _matrix(test_features, "test_features")
    names, truth = np.asarray(train_labels).astype(str), np.asarray(test_labels).astype(str)
    same_length(train_features=train, train_labels=names)
    same_length(test_features=test, test_labels=truth)
    if len(np.unique(names)) < 2:
        return None
    rng = np.random.default_rng(seed)
    used = np.sort(rng.permutation(len(train))[:MAX_ROWS])
    used = np.union1d(used, np.unique(names, return_index=True)[1])  # every class stays
    train, names = train[used], names[used]
    mean, spread = train.mean(axis=0), train.std(axis=0)
    scale = np.where(spread > 0, spread, 1)
    train, test = (train - mean) / scale, (test - mean) / scale
    strength, accuracy = _choose(train, names, rng)
    classes = np.unique(np.concatenate([names, truth]))
    probabilities = np.zeros((len(test), len(classes)))
    model = _fitted(train, names, strength)
    probabilities[:, np.searchsorted(classes, model.classes_)] = model.predict_proba(test)
    return LinearProbe(
        metrics=classification_metrics(np.searchsorted(classes, truth), probabilities),
        strength=strength,
        held_out_accuracy=accuracy,
        num_train=len(train),
        num_test=len(test),
    )


def _choose(
    features: Floats, names: NDArray[Any], rng: np.random.Generator
) -> tuple[float, float | None]:
    """Return the best strength on held-out rows and its accuracy there; ties: by likelihood."""
    held = _held_out(names, rng)
    if not held.any():
        return 1.0, None
    scores = []
    for strength in STRENGTHS:
        model = _fitted(features[~held], names[~held], strength)
        answers = model.predict_log_proba(features[held])
        truth = np.searchsorted(model.classes_, names[held])
        accuracy = float((answers.argmax(axis=1) == truth).mean())
        scores.append((accuracy, float(answers[np.arange(len(truth)), truth].mean())))
    best = max(range(len(STRENGTHS)), key=scores.__getitem__)
    return STRENGTHS[best], scores[best][0]


def _held_out(names: NDArray[Any], rng: np.random.Generator) -> NDArray[np.bool_]:
    """(n,) a quarter of each class, rounded down to keep at least one row of it in training."""
    held = np.zeros(len(names), dtype=np.bool_)
    for name in np.unique(names):
        rows: Integers = rng.permutation(np.flatnonzero(names == name))
        held[rows[: min(len(rows) - 1, round(len(rows) * _HELD_OUT))]] = True
    return held


def _fitted(features: Floats, names: NDArray[Any], strength: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # Not quite converged is good enough here: the strength is chosen by what it predicts.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=_ITERATIONS).fit(features, names)


def _matrix(values: ArrayLike, name: str) -> Floats:
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"{name} have shape {rows.shape}, expected one row per image.")
    if not np.isfinite(rows).all():
        raise ValueError(f"{name}[{int(np.argwhere(~np.isfinite(rows))[0, 0])}] is not finite.")
    return rows
