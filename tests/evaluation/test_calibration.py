"""Calibration error, reliability curve and temperature."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.evaluation.accumulators import softmax
from maquette.evaluation.calibration import (
    bin_edges,
    chance_calibration_error,
    expected_calibration_error,
    fit_temperature,
    reliability_curve,
)


def two_classes(confidence):
    confidence = np.asarray(confidence, dtype=float)
    return np.stack([confidence, 1 - confidence], axis=1)


def ece_by_loop(targets, probabilities, num_bins):
    """The definition, word for word."""
    confidence, total = probabilities.max(axis=1), 0.0
    right = probabilities.argmax(axis=1) == targets
    for index in range(num_bins):
        inside = (confidence > index / num_bins) & (confidence <= (index + 1) / num_bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@given(st.integers(1, 60), st.integers(2, 5), st.integers(0, 2**32), st.sampled_from([5, 15]))
def test_ece_equals_its_definition(n, num_classes, seed, num_bins):
    rng = np.random.default_rng(seed)
    probabilities = softmax(rng.normal(scale=3, size=(n, num_classes)))
    targets = rng.integers(0, num_classes, n)
    ours = expected_calibration_error(targets, probabilities, num_bins=num_bins)
    assert float(ours) == pytest.approx(ece_by_loop(targets, probabilities, num_bins), abs=1e-12)


def test_bins_are_closed_on_the_right():
    # 0.8 is the edge between bins 12 and 13 of 15; both samples belong to bin 12.
    curve = reliability_curve([0, 1], two_classes([0.8, 0.79]))
    assert curve.counts.tolist() == [2]
    assert (curve.lower[0], curve.upper[0]) == (pytest.approx(11 / 15), pytest.approx(12 / 15))
    assert curve.accuracy.tolist() == [0.5]
    assert curve.confidence[0] == pytest.approx(0.795)


def test_certain_predictions():
    assert expected_calibration_error([0, 0], two_classes([1, 1])) == 0
    assert expected_calibration_error([1, 1], two_classes([1, 1])) == 1


def test_equal_mass_bins_hold_equal_counts_and_keep_ties_together():
    confidence = np.linspace(0.5, 0.95, 30)
    curve = reliability_curve(
        np.zeros(30, int), two_classes(confidence), binning="mass", num_bins=5
    )
    assert curve.counts.tolist() == [6, 6, 6, 6, 6]
    tied = reliability_curve([0, 1, 0], two_classes([0.7, 0.7, 0.7]), binning="mass")
    assert tied.counts.tolist() == [3]


@given(st.integers(1, 40), st.integers(0, 2**32), st.sampled_from(["width", "mass"]))
def test_curve_and_error_agree_and_order_does_not_matter(n, seed, binning):
    rng = np.random.default_rng(seed)
    probabilities, targets = softmax(rng.normal(size=(n, 3))), rng.integers(0, 3, n)
    curve = reliability_curve(targets, probabilities, binning=binning)
    gaps = np.abs(curve.accuracy - curve.confidence)
    error = float(expected_calibration_error(targets, probabilities, binning=binning))
    assert curve.counts.sum() == n
    assert error == pytest.approx(float(gaps @ curve.counts) / n, abs=1e-12)
    order = rng.permutation(n)
    again = expected_calibration_error(targets[order], probabilities[order], binning=binning)
    assert float(again) == pytest.approx(error, abs=1e-12)


def test_error_by_chance_equals_the_mean_of_simulated_labels():
    rng = np.random.default_rng(0)
    probabilities = softmax(rng.normal(scale=2, size=(400, 3)))
    errors = [
        float(
            expected_calibration_error(
                (rng.random((400, 1)) > probabilities.cumsum(axis=1)[:, :2]).sum(axis=1),
                probabilities,
            )
        )
        for _ in range(300)
    ]
    assert chance_calibration_error(probabilities) == pytest.approx(np.mean(errors), rel=0.05)
    assert chance_calibration_error([[1.0, 0.0]]) == 0


def test_edges_span_the_unit_interval():
    for binning in ("width", "mass"):
        edges = bin_edges(np.array([0.4, 0.9]), binning=binning, num_bins=4)
        assert (edges[0], edges[-1], len(edges)) == (0, 1, 5)
        assert (np.diff(edges) >= 0).all()


def test_temperature_recovers_the_one_the_labels_were_drawn_with():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(20_000, 4))
    targets = np.array([rng.choice(4, p=row) for row in softmax(logits)])
    assert fit_temperature(logits * 2.5, targets) == pytest.approx(2.5, rel=0.03)


@given(st.integers(0, 2**32), st.floats(0.2, 5))
def test_temperature_minimises_the_log_loss_and_scales_with_the_logits(seed, factor):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(200, 3))
    targets = np.array([rng.choice(3, p=row) for row in softmax(logits)])

    def loss(temperature):
        rows = softmax(logits / temperature)
        return -np.log(rows[np.arange(200), targets]).mean()

    best = fit_temperature(logits, targets)
    assert loss(best) <= min(loss(best * 1.01), loss(best / 1.01)) + 1e-12
    if 0.06 < best < 3.9 and 0.06 < best * factor < 19:
        assert fit_temperature(logits * factor, targets) == pytest.approx(best * factor, rel=1e-6)


def test_temperature_ends_of_the_range():
    assert fit_temperature([[3.0, 0.0], [0.0, 3.0]], [0, 1]) == pytest.approx(0.05)
    assert fit_temperature([[3.0, 0.0], [0.0, 3.0]], [1, 0]) == pytest.approx(20)


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (np.zeros((0, 3)), [], r"logits have shape \(0, 3\), expected \(samples, classes\)"),
        ([1.0, 2.0], [0], r"logits have shape \(2,\)"),
        ([[math.nan, 0.0]], [0], "logits hold NaN or infinity"),
        ([[0.0, 1.0]], [0, 1], "different numbers of samples: logits 1, targets 2."),
    ],
)
def test_temperature_refuses(logits, targets, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, targets)


def test_ece_refuses_a_mismatch():
    with pytest.raises(ValueError, match="different numbers of samples"):
        expected_calibration_error([0, 1], [[0.5, 0.5]])
