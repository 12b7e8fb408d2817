"""Metrics from scratch: counts for classes, ranks for ROC AUC, averages for everything else.

Start at `classification_metrics` and `regression_metrics`; the rest are their parts.

Shapes: n samples, N classes, R resamples. `weights` says how often each sample counts: (n,) for one
value per metric, or (n, R) for R values at once, which is what makes bootstrap intervals cheap.
None counts every sample once. Without (R) a result is zero-dimensional and behaves as a number.

Rules where a definition has a hole (no metric is ever NaN):
- 0/0 in precision, recall or F1 is 0, as in scikit-learn.
- Macro averages run over the classes seen in targets or predictions; balanced accuracy over those
  seen in targets.
- ROC AUC leaves out classes without a positive or without a negative sample; with none left, 0.5.
- R² of a constant target is 1 when every prediction is exact and 0 otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from maquette.evaluation.calibration import expected_calibration_error
from maquette.evaluation.checks import (
    Floats,
    Integers,
    class_indices,
    finite_numbers,
    probability_rows,
    same_length,
)

Average = Literal["micro", "macro", "weighted"]
AVERAGES: tuple[Average, ...] = ("micro", "macro", "weighted")

SMALLER_IS_BETTER = frozenset(
    {"loss", "log_loss", "brier", "ece", "rmse", "mae"}
    | {"image_to_text_median_rank", "text_to_image_median_rank"}
)
"""Of the names below and those of retrieval.py; all others are better when larger."""


def classification_metrics(targets: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Return every classification metric by name.

    Args:
        targets: (n,) class indices.
        probabilities: (n, N) rows that sum to 1; the largest is the prediction (first on ties).
    Raises:
        ValueError: empty input, shapes that do not fit, or values that are not probabilities.
    """
    scores = classification_scores(targets, probabilities, None)
    return {name: float(value) for name, value in scores.items()}


def regression_metrics(targets: ArrayLike, predictions: ArrayLike) -> dict[str, float]:
    """Return rmse, mae and r2 of (n,) numbers, in the unit they are given in.

    Raises:
        ValueError: empty input, different lengths, or numbers that are not finite.
    """
    scores = regression_scores(targets, predictions, None)
    return {name: float(value) for name, value in scores.items()}


def classification_scores(
    targets: ArrayLike, probabilities: ArrayLike, weights: Floats | None
) -> dict[str, Floats]:
    """`classification_metrics` under weights (n,) or (n, R): each value is () or (R,)."""
    rows = probability_rows(probabilities)
    truth = class_indices(targets, num_classes=rows.shape[1], name="targets")
    confusion = confusion_matrix(
        truth, rows.argmax(axis=1), num_classes=rows.shape[1], weights=weights
    )
    scores = {"accuracy": accuracy(confusion), "balanced_accuracy": balanced_accuracy(confusion)}
    table = per_class(confusion)
    for average in AVERAGES:
        scores |= {
            f"{name}_{average}": value
            for name, value in averaged(confusion, table, average).items()
        }
    return scores | {
        "roc_auc": roc_auc(truth, rows, weights),
        "log_loss": log_loss(truth, rows, weights),
        "brier": brier(truth, rows, weights),
        "ece": expected_calibration_error(truth, rows, weights=weights),
    }


def regression_scores(
    targets: ArrayLike, predictions: ArrayLike, weights: Floats | None
) -> dict[str, Floats]:
    """`regression_metrics` under weights (n,) or (n, R): each value is () or (R,)."""
    truth = finite_numbers(targets, name="targets")
    answers = finite_numbers(predictions, name="predictions")
    same_length(targets=truth, predictions=answers)
    return {
        "rmse": rmse(truth, answers, weights),
        "mae": mae(truth, answers, weights),
        "r2": r2(truth, answers, weights),
    }


# Counts: everything that needs only which class was taken for which.


def confusion_matrix(
    targets: ArrayLike, predictions: ArrayLike, *, num_classes: int, weights: Floats | None = None
) -> Floats:
    """Return (N, N), or (R, N, N) under (n, R) weights: rows are the truth, columns predictions.

    Raises:
        ValueError: empty input, different lengths, or an index that is not a class.
    """
    truth = class_indices(targets, num_classes=num_classes, name="targets")
    answers = class_indices(predictions, num_classes=num_classes, name="predictions")
    same_length(targets=truth, predictions=answers)
    cells = truth * num_classes + answers
    if weights is None:
        counts = np.bincount(cells, minlength=num_classes**2).astype(np.float64)
        return counts.reshape(num_classes, num_classes)
    # Sorting by cell turns the count into sums over runs, one pass for all resamples.
    order = np.argsort(cells, kind="stable")
    present, starts = np.unique(cells[order], return_index=True)
    counts = np.zeros((num_classes**2, *weights.shape[1:]))
    counts[present] = np.add.reduceat(weights[order], starts, axis=0)
    return np.moveaxis(counts, 0, -1).reshape(*weights.shape[1:], num_classes, num_classes)


def accuracy(confusion: Floats) -> Floats:
    """Share of samples whose prediction is right; `confusion` is (…, N, N), the result (…)."""
    return _ratio(_hits(confusion).sum(axis=-1), confusion.sum(axis=(-2, -1)))


def balanced_accuracy(confusion: Floats) -> Floats:
    """Mean recall over the classes that occur in the targets."""
    support = confusion.sum(axis=-1)
    return _mean_where(_ratio(_hits(confusion), support), support > 0)


@dataclass(frozen=True, kw_only=True)
class PerClass:
    """Precision, recall, F1 and number of targets of each class, each (…, N)."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Floats


def per_class(confusion: Floats) -> PerClass:
    """Precision tp/(tp+fp), recall tp/(tp+fn) and F1 2tp/(2tp+fp+fn) of each class; 0/0 is 0."""
    hits, support, predicted = _hits(confusion), confusion.sum(axis=-1), confusion.sum(axis=-2)
    return PerClass(
        precision=_ratio(hits, predicted),
        recall=_ratio(hits, support),
        f1=_ratio(2 * hits, support + predicted),
        support=support,
    )


def averaged(confusion: Floats, table: PerClass, average: Average) -> dict[str, Floats]:
    """Return precision, recall and f1 over all classes.

    micro counts all decisions together (with one label per sample: the accuracy), macro gives each
    class the same say, weighted as much as it has targets.
    """
    values = {"precision": table.precision, "recall": table.recall, "f1": table.f1}
    if average == "micro":
        return dict.fromkeys(values, accuracy(confusion))
    if average == "macro":
        seen = table.support + confusion.sum(axis=-2) > 0
        return {name: _mean_where(value, seen) for name, value in values.items()}
    shares = table.support / table.support.sum(axis=-1, keepdims=True)
    return {name: (value * shares).sum(axis=-1) for name, value in values.items()}


# Probabilities


def roc_auc(targets: Integers, probabilities: Floats, weights: Floats | None = None) -> Floats:
    """Area under the ROC curve: class 1 for two classes, else the mean of one-vs-rest areas.

    A class without a positive or without a negative sample has nothing to rank and is left out of
    the mean; with no class left the area is 0.5.
    """
    if probabilities.shape[1] == 2:
        return ranking_area(targets == 1, probabilities[:, 1], weights)[0]
    areas, pairs = zip(
        *(
            ranking_area(targets == index, probabilities[:, index], weights)
            for index in range(probabilities.shape[1])
        ),
        strict=True,
    )
    has_pairs = np.stack(pairs, axis=-1) > 0
    return np.where(has_pairs.any(axis=-1), _mean_where(np.stack(areas, axis=-1), has_pairs), 0.5)


def ranking_area(
    is_positive: np.ndarray[tuple[int], np.dtype[np.bool_]],
    scores: Floats,
    weights: Floats | None = None,
) -> tuple[Floats, Floats]:
    """P(score of a positive > score of a negative) + ½ P(equal), and the number of such pairs.

    The rank-sum form of the ROC area (Hanley and McNeil 1982): each positive is credited with the
    weight below it and half of the weight level with it; the positives' credit among themselves,
    P²/2 whatever their order, is taken off again. Without pairs the area is 0.5.
    """
    counts = _or_ones(weights, len(scores))
    order = np.argsort(scores)
    sorted_scores, sorted_counts = scores[order], counts[order]
    cumulative = np.concatenate([np.zeros_like(counts[:1]), np.cumsum(sorted_counts, axis=0)])
    ours = scores[is_positive]
    below = cumulative[np.searchsorted(sorted_scores, ours, side="left")]
    up_to = cumulative[np.searchsorted(sorted_scores, ours, side="right")]
    our_counts = counts[is_positive]
    positives = our_counts.sum(axis=0)
    wins = ((our_counts * (below + up_to)).sum(axis=0) - positives**2) / 2
    pairs = positives * (cumulative[-1] - positives)
    return np.where(pairs > 0, _ratio(wins, pairs), 0.5), pairs


def log_loss(targets: Integers, probabilities: Floats, weights: Floats | None = None) -> Floats:
    """Mean −ln p(truth), with p clipped from below to float64's epsilon (2.2e-16, loss 36.04)."""
    p_truth = probabilities[np.arange(len(targets)), targets]
    return _mean(-np.log(np.maximum(p_truth, np.finfo(np.float64).eps)), weights)


def brier(targets: Integers, probabilities: Floats, weights: Floats | None = None) -> Floats:
    """Mean squared distance Σₖ (pₖ − [k is the truth])², in [0, 2] (Brier 1950).

    For two classes half of it, the familiar (p₁ − y)² in [0, 1], as scikit-learn does.
    """
    p_truth = probabilities[np.arange(len(targets)), targets]
    distances = np.square(probabilities).sum(axis=1) - 2 * p_truth + 1
    return _mean(distances / 2 if probabilities.shape[1] == 2 else distances, weights)


# Numbers


def rmse(targets: Floats, predictions: Floats, weights: Floats | None = None) -> Floats:
    """Root of the mean squared error."""
    return np.sqrt(_mean(np.square(predictions - targets), weights))


def mae(targets: Floats, predictions: Floats, weights: Floats | None = None) -> Floats:
    """Mean absolute error."""
    return _mean(np.abs(predictions - targets), weights)


def r2(targets: Floats, predictions: Floats, weights: Floats | None = None) -> Floats:
    """Share of the target's variance explained; below 0 when worse than the mean.

    A target constant over the (re)sampled rows gives 1 when every prediction is exact, else 0.
    """
    centred = targets - targets.mean() if np.ptp(targets) > 0 else np.zeros_like(targets)
    error = _mean(np.square(predictions - targets), weights)
    square = _mean(np.square(centred), weights)
    variance = square - np.square(_mean(centred, weights))
    is_constant = variance <= 1e-12 * square  # a resample of equal targets leaves rounding only
    explained = 1 - error / np.where(is_constant, 1, variance)
    return np.where(is_constant, (error == 0).astype(np.float64), explained)


# Arithmetic


def _or_ones(weights: Floats | None, num_samples: int) -> Floats:
    return np.ones(num_samples) if weights is None else weights


def _mean(values: Floats, weights: Floats | None) -> Floats:
    if weights is None:
        return np.asarray(values.mean())
    return np.asarray(values @ weights / weights.sum(axis=0))


def _hits(confusion: Floats) -> Floats:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, and 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) > 0)


def _mean_where(values: Floats, chosen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Floats:
    """Mean over the last axis of the chosen entries; 0 where none is chosen."""
    return _ratio((values * chosen).sum(axis=-1), chosen.sum(axis=-1).astype(np.float64))
