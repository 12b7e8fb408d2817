"""Do probabilities mean what they say: calibration error, reliability curve, temperature.

A sample's confidence is its largest probability. n samples, N classes, R resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from maquette.evaluation.checks import (
    Floats,
    Integers,
    class_indices,
    probability_rows,
    same_length,
)

Binning = Literal["width", "mass"]
NUM_BINS = 15
TEMPERATURE_RANGE = (0.05, 20.0)


@dataclass(frozen=True, kw_only=True)
class ReliabilityCurve:
    """Confidence against accuracy in the bins that hold samples, each array (bins,)."""

    lower: Floats
    upper: Floats
    """Bin edges; a bin holds lower < confidence <= upper."""
    counts: Integers
    confidence: Floats
    """Mean confidence in the bin."""
    accuracy: Floats
    """Share of right predictions in the bin."""


def expected_calibration_error(
    targets: ArrayLike,
    probabilities: ArrayLike,
    *,
    binning: Binning = "width",
    num_bins: int = NUM_BINS,
    weights: Floats | None = None,
) -> Floats:
    """ECE = Σ_b n_b/n · |accuracy_b − confidence_b| over bins of confidence (Guo 2017, eq. 3).

    Args:
        targets: (n,) class indices.
        probabilities: (n, N) rows that sum to 1.
        binning: "width" for equal, right-closed intervals of [0, 1]; "mass" for as many samples in
            each bin as ties allow (equal confidences share a bin).
        weights: None, (n,) or (n, R) sample weights; the result is () or (R,).
    Few samples bias the value upwards: 15 bins of 30 samples measure mostly noise.

    Raises:
        ValueError: empty input, shapes that do not fit, or values that are not probabilities.
    """
    confidence, is_right = _confidence(targets, probabilities)
    bins = _bin_of(confidence, bin_edges(confidence, binning=binning, num_bins=num_bins))
    counts = np.ones(len(confidence)) if weights is None else weights
    in_bin = (bins == np.arange(num_bins)[:, None]) * (is_right - confidence)  # (bins, n)
    return np.asarray(np.abs(in_bin @ counts).sum(axis=0) / counts.sum(axis=0))


def chance_calibration_error(
    probabilities: ArrayLike, *, binning: Binning = "width", num_bins: int = NUM_BINS
) -> float:
    """Return the ECE that perfectly honest confidences would score on these samples, by chance.

    If sample i is right with probability cᵢ, a bin's hits minus its confidences have variance
    Σ cᵢ(1 − cᵢ); the mean size of such a (nearly normal) difference is √(2/π) of its deviation.
    """
    confidence = probability_rows(probabilities).max(axis=1)
    bins = _bin_of(confidence, bin_edges(confidence, binning=binning, num_bins=num_bins))
    variance = np.bincount(bins, np.maximum(confidence * (1 - confidence), 0), num_bins)
    return float(np.sqrt(2 / np.pi * variance).sum() / len(confidence))


def reliability_curve(
    targets: ArrayLike,
    probabilities: ArrayLike,
    *,
    binning: Binning = "width",
    num_bins: int = NUM_BINS,
) -> ReliabilityCurve:
    """Return mean confidence and accuracy of each bin that is not empty.

    Raises:
        ValueError: as `expected_calibration_error`.
    """
    confidence, is_right = _confidence(targets, probabilities)
    edges = bin_edges(confidence, binning=binning, num_bins=num_bins)
    bins = _bin_of(confidence, edges)
    counts = np.bincount(bins, minlength=num_bins)
    used = np.flatnonzero(counts)
    return ReliabilityCurve(
        lower=edges[used],
        upper=edges[used + 1],
        counts=counts[used],
        confidence=np.bincount(bins, confidence, num_bins)[used] / counts[used],
        accuracy=np.bincount(bins, is_right, num_bins)[used] / counts[used],
    )


def bin_edges(confidence: Floats, *, binning: Binning, num_bins: int) -> Floats:
    """Return num_bins + 1 rising edges from 0 to 1."""
    if binning == "width":
        return np.linspace(0, 1, num_bins + 1)
    # Edge b is the ⌈n·b/bins⌉-th smallest confidence, in whole numbers so that nothing rounds.
    last = -(-len(confidence) * np.arange(1, num_bins) // num_bins) - 1
    return np.concatenate([[0.0], np.sort(confidence)[last], [1.0]])


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """Return the T in [0.05, 20] that minimises the mean log-loss of softmax(logits / T).

    Divide logits by T before softmax: the predicted class stays, the confidence changes (Guo 2017).
    The loss is convex in 1/T, so its slope changes sign once, and halving an interval of ln T finds
    where. Targets that are all predicted right want T = 0 and get the lower end.

    Args:
        logits: (n, N) finite network outputs on held-out samples, never the training split.
        targets: (n,) class indices.
    Raises:
        ValueError: empty input, shapes that do not fit, or logits that are not finite.
    """
    scores = np.asarray(logits, dtype=np.float64)
    if scores.ndim != 2 or len(scores) == 0 or scores.shape[1] < 2:
        raise ValueError(
            f"logits have shape {scores.shape}, expected (samples, classes), "
            "at least one sample and two classes."
        )
    if not np.isfinite(scores).all():
        raise ValueError("logits hold NaN or infinity; a temperature needs finite numbers.")
    truth = class_indices(targets, num_classes=scores.shape[1], name="targets")
    same_length(logits=scores, targets=truth)
    low, high = (math.log(bound) for bound in TEMPERATURE_RANGE)
    for _ in range(50):
        middle = (low + high) / 2
        if _slope(scores, truth, math.exp(-middle)) > 0:
            low = middle  # too sharp: 1/T must fall
        else:
            high = middle
    return math.exp((low + high) / 2)


def _slope(logits: Floats, targets: Integers, inverse: float) -> float:
    """Slope of the mean log-loss in 1/T: the expected logit minus the logit of the truth."""
    exponent = logits * inverse
    exponent -= exponent.max(axis=1, keepdims=True)
    odds = np.exp(exponent)
    expected = (odds * logits).sum(axis=1) / odds.sum(axis=1)
    return float((expected - logits[np.arange(len(targets)), targets]).mean())


def _confidence(targets: ArrayLike, probabilities: ArrayLike) -> tuple[Floats, Floats]:
    """Return each sample's largest probability, and 1 where that class is the truth, else 0."""
    rows = probability_rows(probabilities)
    truth = class_indices(targets, num_classes=rows.shape[1], name="targets")
    same_length(targets=truth, probabilities=rows)
    is_right = (rows.argmax(axis=1) == truth).astype(np.float64)
    return rows.max(axis=1), is_right


def _bin_of(confidence: Floats, edges: Floats) -> Integers:
    """Index of the right-closed bin (edge_i, edge_i+1] that holds each value."""
    # side="left" on the inner edges: a value equal to an edge belongs to the bin below it.
    return np.searchsorted(edges[1:-1], confidence, side="left")
