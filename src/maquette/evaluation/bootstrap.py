"""How sure are the numbers: percentile bootstrap intervals over the test samples (Efron 1979).

A resample draws n of the n samples with replacement. It is kept as counts, "sample i was drawn
three times", so every metric computes all resamples of a chunk in one pass over weighted samples.

ECE gets no interval: resampling biases it upwards once more, so its percentiles can lie wholly
above the value itself.

Shapes: n samples, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from maquette.evaluation.checks import Floats
from maquette.evaluation.metrics import classification_scores, regression_scores

Interval = tuple[float, float]
Statistic = Callable[[Floats], Mapping[str, Floats]]
"""Weights (n, R) -> for each name R values."""

_CHUNK = 1_000_000
"""Counts held at once (8 MB): larger chunks leave the caches, smaller ones repeat the sorting."""


def classification_intervals(
    targets: ArrayLike,
    probabilities: ArrayLike,
    *,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return {metric: (low, high)} for every metric of `classification_metrics` but ece."""
    scores = partial(classification_scores, targets, probabilities)
    intervals = bootstrap_intervals(
        scores,
        num_samples=len(np.asarray(targets)),
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )
    del intervals["ece"]
    return intervals


def regression_intervals(
    targets: ArrayLike,
    predictions: ArrayLike,
    *,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return {metric: (low, high)} for rmse, mae and r2."""
    return bootstrap_intervals(
        partial(regression_scores, targets, predictions),
        num_samples=len(np.asarray(targets)),
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )


def bootstrap_intervals(
    statistic: Statistic,
    *,
    num_samples: int,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the percentile interval of each value of `statistic`.

    Args:
        statistic: takes weights (n, R), how often each sample was drawn, and returns R values for
            each name.
        confidence: coverage; 0.95 takes the 2.5th and 97.5th percentile.
        seed: the same seed draws the same resamples.
    Raises:
        ValueError: no samples, no resamples, or a coverage outside (0, 1).
    """
    if num_samples < 1 or resamples < 1:
        raise ValueError(
            f"a bootstrap of {num_samples} samples and {resamples} resamples has nothing to draw."
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a share between 0 and 1.")
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // num_samples)
    chunks = [
        statistic(draw_counts(rng, num_samples, min(step, resamples - start)))
        for start in range(0, resamples, step)
    ]
    tail = (1 - confidence) / 2
    values = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    limits = {name: np.quantile(value, [tail, 1 - tail]) for name, value in values.items()}
    return {name: (float(low), float(high)) for name, (low, high) in limits.items()}


def draw_counts(rng: np.random.Generator, num_samples: int, resamples: int) -> Floats:
    """Draw how often each sample occurs in each resample: (n, R), every column sums to n."""
    drawn = rng.integers(num_samples, size=(resamples, num_samples))
    cells = drawn * resamples + np.arange(resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=num_samples * resamples)
    return counts.reshape(num_samples, resamples).astype(np.float64)
