"""Bootstrap intervals: the same numbers as resampling by hand, fast, repeatable, honest."""

import numpy as np
import pytest

from maquette.evaluation import bootstrap
from maquette.evaluation.accumulators import softmax
from maquette.evaluation.bootstrap import (
    bootstrap_intervals,
    classification_intervals,
    draw_counts,
    regression_intervals,
)
from maquette.evaluation.metrics import classification_metrics, regression_metrics


def scored(n, num_classes, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, num_classes, n)
    logits = rng.normal(size=(n, num_classes))
    logits[np.arange(n), targets] += 2
    return targets, softmax(logits)


def by_hand(metrics, n, resamples, seed):
    """Percentiles over a plain loop that takes the drawn rows."""
    rows = np.random.default_rng(seed).integers(n, size=(resamples, n))
    draws = [metrics(drawn) for drawn in rows]
    return {
        name: tuple(np.quantile([draw[name] for draw in draws], [0.025, 0.975]))
        for name in draws[0]
    }


def test_classification_equals_resampling_by_hand():
    targets, probabilities = scored(37, 3)
    ours = classification_intervals(targets, probabilities, resamples=60, seed=4)
    theirs = by_hand(
        lambda rows: classification_metrics(targets[rows], probabilities[rows]), 37, 60, seed=4
    )
    assert set(ours) == set(theirs) - {"ece"}
    for name, interval in ours.items():
        assert interval == pytest.approx(theirs[name], rel=1e-9, abs=1e-9)


def test_regression_equals_resampling_by_hand():
    rng = np.random.default_rng(1)
    targets = rng.normal(size=41)
    predictions = targets + rng.normal(size=41)
    ours = regression_intervals(targets, predictions, resamples=60, seed=4)
    theirs = by_hand(
        lambda rows: regression_metrics(targets[rows], predictions[rows]), 41, 60, seed=4
    )
    assert set(ours) == {"rmse", "mae", "r2"}
    for name, interval in ours.items():
        assert interval == pytest.approx(theirs[name], rel=1e-9)


def test_chunks_do_not_change_the_result(monkeypatch):
    case = scored(50, 2)
    whole = classification_intervals(*case, resamples=40)
    monkeypatch.setattr(bootstrap, "_CHUNK", 50 * 7)
    for name, interval in classification_intervals(*case, resamples=40).items():
        assert interval == pytest.approx(whole[name])


def test_the_seed_alone_decides():
    case = scored(80, 3)
    assert classification_intervals(*case, seed=1) == classification_intervals(*case, seed=1)
    assert classification_intervals(*case, seed=1) != classification_intervals(*case, seed=2)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng, hits = np.random.default_rng(0), 0
    for seed in range(200):
        right = (rng.random(150) < 0.8).astype(float)

        def share(counts, right=right):
            return {"accuracy": right @ counts / 150}

        low, high = bootstrap_intervals(share, num_samples=150, resamples=300, seed=seed)[
            "accuracy"
        ]
        hits += low <= 0.8 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_wider_coverage_is_wider_and_contains_the_value():
    targets, probabilities = scored(200, 2)
    narrow = classification_intervals(targets, probabilities, confidence=0.8)
    wide = classification_intervals(targets, probabilities, confidence=0.99)
    value = classification_metrics(targets, probabilities)
    for name in narrow:
        assert wide[name][0] <= narrow[name][0] <= value[name] <= narrow[name][1] <= wide[name][1]


def test_counts_sum_to_the_number_of_samples():
    counts = draw_counts(np.random.default_rng(0), 7, 5)
    assert counts.shape == (7, 5)
    assert counts.sum(axis=0).tolist() == [7] * 5
    assert counts.sum(axis=1).std() > 0


def test_one_sample():
    interval = regression_intervals([1.0], [2.0], resamples=5)
    assert interval == {"rmse": (1, 1), "mae": (1, 1), "r2": (0, 0)}


def test_refusals():
    with pytest.raises(ValueError, match="0 samples and 500 resamples has nothing to draw"):
        classification_intervals([], np.zeros((0, 2)))
    with pytest.raises(ValueError, match="1 samples and 0 resamples"):
        regression_intervals([1.0], [1.0], resamples=0)
    with pytest.raises(ValueError, match=r"confidence is 95, expected a share between 0 and 1."):
        regression_intervals([1.0], [1.0], confidence=95)
