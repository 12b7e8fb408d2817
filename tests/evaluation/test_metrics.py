"""Metrics against scikit-learn, and the properties they must have."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from maquette.evaluation.metrics import (
    AVERAGES,
    SMALLER_IS_BETTER,
    averaged,
    classification_metrics,
    classification_scores,
    confusion_matrix,
    per_class,
    ranking_area,
    regression_metrics,
    regression_scores,
)

EXACT = {"rel": 1e-9, "abs": 1e-9}


@st.composite
def classified(draw, min_classes=2, max_classes=6):
    """Targets and probabilities; coarse logits make ties between scores common."""
    num_classes = draw(st.integers(min_classes, max_classes))
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    targets = rng.integers(0, num_classes, n)
    logits = rng.normal(scale=draw(st.sampled_from([0.3, 2, 30])), size=(n, num_classes))
    if draw(st.booleans()):
        logits = np.round(logits)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return targets, odds / odds.sum(axis=1, keepdims=True)


@st.composite
def measured(draw):
    n = draw(st.integers(2, 40))
    numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
    values = st.lists(numbers, min_size=n, max_size=n).map(np.array)
    return draw(values), draw(values)


@given(classified())
def test_counted_metrics_equal_scikit_learn(case):
    targets, probabilities = case
    ours, answers = classification_metrics(*case), probabilities.argmax(axis=1)

    assert ours["accuracy"] == pytest.approx(reference.accuracy_score(targets, answers), **EXACT)
    for average in AVERAGES:
        theirs = reference.precision_recall_fscore_support(
            targets, answers, average=average, zero_division=0
        )
        given_ = [ours[f"{name}_{average}"] for name in ("precision", "recall", "f1")]
        assert given_ == pytest.approx(list(theirs[:3]), **EXACT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of predicted classes that no target has
        theirs = reference.balanced_accuracy_score(targets, answers)
    assert ours["balanced_accuracy"] == pytest.approx(theirs, **EXACT)


@given(classified())
def test_per_class_table_equals_scikit_learn(case):
    targets, probabilities = case
    answers, num_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    confusion = confusion_matrix(targets, answers, num_classes=num_classes)

    labels = list(range(num_classes))
    np.testing.assert_array_equal(
        confusion, reference.confusion_matrix(targets, answers, labels=labels)
    )
    table = per_class(confusion)
    theirs = reference.precision_recall_fscore_support(
        targets, answers, labels=labels, average=None, zero_division=0
    )
    for ours, expected in zip(
        (table.precision, table.recall, table.f1, table.support), theirs, strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


@given(classified())
def test_probability_metrics_equal_scikit_learn(case):
    targets, probabilities = case
    labels = list(range(probabilities.shape[1]))
    ours = classification_metrics(*case)

    expected = reference.log_loss(targets, probabilities, labels=labels)
    assert ours["log_loss"] == pytest.approx(expected, **EXACT)
    binary = len(labels) == 2
    expected = reference.brier_score_loss(
        targets, probabilities[:, 1] if binary else probabilities, labels=labels
    )
    assert ours["brier"] == pytest.approx(expected, **EXACT)


@given(classified())
def test_roc_auc_equals_scikit_learn(case):
    targets, probabilities = case
    num_classes = probabilities.shape[1]
    assume(len(np.unique(targets)) == num_classes)  # scikit-learn needs every class

    if num_classes == 2:
        expected = reference.roc_auc_score(targets, probabilities[:, 1])
    else:
        expected = reference.roc_auc_score(targets, probabilities, multi_class="ovr")
    assert classification_metrics(*case)["roc_auc"] == pytest.approx(expected, **EXACT)


@given(classified(), st.integers(0, 2**32))
def test_weights_equal_scikit_learn_sample_weights(case, seed):
    targets, probabilities = case
    weights = np.random.default_rng(seed).integers(1, 4, (len(targets), 2)).astype(float)
    ours = classification_scores(targets, probabilities, weights)
    answers, labels = probabilities.argmax(axis=1), list(range(probabilities.shape[1]))

    for column in range(2):
        weight = weights[:, column]
        expected = {
            "accuracy": reference.accuracy_score(targets, answers, sample_weight=weight),
            "f1_macro": reference.f1_score(
                targets, answers, average="macro", zero_division=0, sample_weight=weight
            ),
            "log_loss": reference.log_loss(
                targets, probabilities, labels=labels, sample_weight=weight
            ),
        }
        if len(labels) == 2 and len(np.unique(targets)) == 2:
            expected["roc_auc"] = reference.roc_auc_score(
                targets, probabilities[:, 1], sample_weight=weight
            )
        for name, value in expected.items():
            assert ours[name][column] == pytest.approx(value, **EXACT)


@given(classified(), st.integers(0, 2**32))
def test_counting_a_sample_twice_equals_repeating_it(case, seed):
    targets, probabilities = case
    rows = np.random.default_rng(seed).integers(0, len(targets), len(targets))
    weights = np.bincount(rows, minlength=len(targets)).astype(float)

    weighted = classification_scores(targets, probabilities, weights)
    repeated = classification_metrics(targets[rows], probabilities[rows])
    assert {name: float(value) for name, value in weighted.items()} == pytest.approx(
        repeated, **EXACT
    )


@given(measured())
def test_regression_equals_scikit_learn(case):
    targets, predictions = case
    ours = regression_metrics(*case)
    assert ours["rmse"] == pytest.approx(
        reference.root_mean_squared_error(targets, predictions), **EXACT
    )
    assert ours["mae"] == pytest.approx(
        reference.mean_absolute_error(targets, predictions), **EXACT
    )
    if np.ptp(targets) > 1e-3:  # below, both are rounding error divided by rounding error
        expected = reference.r2_score(targets, predictions)
        assert ours["r2"] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(measured(), st.integers(0, 2**32))
def test_regression_weights_equal_repeats(case, seed):
    targets, predictions = case
    rows = np.random.default_rng(seed).integers(0, len(targets), len(targets))
    assume(np.ptp(targets[rows]) > 1e-3 * np.abs(targets).max())
    weights = np.bincount(rows, minlength=len(targets)).astype(float)

    weighted = regression_scores(targets, predictions, weights)
    repeated = regression_metrics(targets[rows], predictions[rows])
    for name, value in repeated.items():
        assert float(weighted[name]) == pytest.approx(value, rel=1e-6, abs=1e-6)


@settings(max_examples=40)
@given(classified(), st.integers(0, 2**32))
def test_order_of_samples_does_not_matter(case, seed):
    targets, probabilities = case
    order = np.random.default_rng(seed).permutation(len(targets))
    assert classification_metrics(targets[order], probabilities[order]) == pytest.approx(
        classification_metrics(*case), **EXACT
    )


@settings(max_examples=40)
@given(classified(min_classes=3), st.integers(0, 2**32))
def test_renaming_classes_does_not_matter(case, seed):
    targets, probabilities = case
    top_two = np.sort(probabilities, axis=1)[:, -2:]
    assume(
        (top_two[:, 0] < top_two[:, 1]).all()
    )  # a tie goes to the first class, which renaming moves
    new_name = np.random.default_rng(seed).permutation(probabilities.shape[1])
    renamed = np.empty_like(probabilities)
    renamed[:, new_name] = probabilities
    assert classification_metrics(new_name[targets], renamed) == pytest.approx(
        classification_metrics(*case), **EXACT
    )


@given(classified())
def test_metrics_stay_in_range(case):
    ours = classification_metrics(*case)
    assert all(np.isfinite(value) for value in ours.values())
    bounded = set(ours) - {"log_loss", "brier"}
    assert all(-1e-12 <= ours[name] <= 1 + 1e-12 for name in bounded)
    assert ours["recall_micro"] == ours["accuracy"]


def test_one_sample():
    right = classification_metrics([1], [[0.2, 0.8]])
    assert right["accuracy"] == right["f1_macro"] == right["balanced_accuracy"] == 1
    assert right["roc_auc"] == 0.5  # nothing to rank
    assert right["brier"] == pytest.approx(0.04)
    assert regression_metrics([2.0], [5.0]) == {"rmse": 3, "mae": 3, "r2": 0}


def test_hand_computed_three_classes():
    probabilities = [[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7], [0.2, 0.2, 0.6]]
    ours = classification_metrics([0, 1, 2, 2], probabilities)
    assert ours["accuracy"] == 0.75
    assert ours["balanced_accuracy"] == pytest.approx(2 / 3)
    assert ours["precision_macro"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert ours["precision_weighted"] == pytest.approx(0.25 * 0.5 + 0.25 * 0 + 0.5 * 1)
    assert ours["log_loss"] == pytest.approx(-np.log([0.6, 0.4, 0.7, 0.6]).mean())
    assert ours["brier"] == pytest.approx(
        np.mean([0.16 + 0.09 + 0.01, 0.25 + 0.36 + 0.01, 0.01 + 0.04 + 0.09, 0.04 + 0.04 + 0.16])
    )


def test_ties_count_half_in_the_ranking():
    area, pairs = ranking_area(np.array([True, False, True]), np.array([0.5, 0.5, 0.9]))
    assert (area, pairs) == (0.75, 2)


def test_absent_classes_are_left_out_of_macro_averages_and_areas():
    three = classification_metrics([0, 1], [[0.9, 0.1, 0], [0.2, 0.8, 0]])
    assert three["f1_macro"] == three["roc_auc"] == three["balanced_accuracy"] == 1
    only_zero = classification_metrics([0, 0], [[0.9, 0.1, 0], [0.2, 0.8, 0]])
    assert only_zero["roc_auc"] == 0.5
    assert only_zero["balanced_accuracy"] == 0.5
    assert only_zero["recall_macro"] == 0.25  # class 1 was predicted, so it counts


def test_precision_of_a_class_never_predicted_is_zero():
    confusion = confusion_matrix([0, 1], [0, 0], num_classes=2)
    assert per_class(confusion).precision.tolist() == [0.5, 0]
    assert averaged(confusion, per_class(confusion), "macro")["precision"] == 0.25


def test_log_loss_is_clipped_at_epsilon():
    ours = classification_metrics([0], [[0.0, 1.0]])
    assert ours["log_loss"] == pytest.approx(-np.log(np.finfo(float).eps))


@pytest.mark.parametrize(
    ("predictions", "expected"), [([0.1, 0.1, 0.1], 1.0), ([0.1, 0.1, 0.2], 0.0)]
)
def test_r2_of_a_constant_target(predictions, expected):
    assert regression_metrics([0.1, 0.1, 0.1], predictions)["r2"] == expected


def test_r2_survives_a_large_offset():
    targets = 1e8 + np.array([0.0, 1, 2, 3])
    assert regression_metrics(targets, targets + 0.5)["r2"] == pytest.approx(
        reference.r2_score(targets, targets + 0.5), rel=1e-9
    )


def test_names_say_which_direction_is_better():
    ours = classification_metrics([0], [[1.0, 0.0]]) | regression_metrics([1.0], [1.0])
    assert set(ours) & SMALLER_IS_BETTER == {"log_loss", "brier", "ece", "rmse", "mae"}


@pytest.mark.parametrize(
    ("targets", "probabilities", "message"),
    [
        ([], np.zeros((0, 2)), "probabilities are empty; a metric needs at least one sample."),
        ([0], [0.5, 0.5], r"probabilities have shape \(2,\), expected \(samples, classes\)"),
        ([0], [[1.0]], "with at least two classes"),
        ([0], [[np.nan, 0.5]], r"probabilities\[0\] are not finite: \[nan 0.5\]."),
        ([0, 1], [[0.5, 0.5], [-0.5, 1.5]], r"probabilities\[1\] are outside \[0, 1\]"),
        ([0], [[0.5, 0.4]], r"probabilities\[0\] do not sum to 1; apply softmax first"),
        ([2], [[0.5, 0.5]], r"targets\[0\] is 2, outside the classes 0 to 1."),
        ([0, -1], [[0.5, 0.5]] * 2, r"targets\[1\] is -1, outside the classes 0 to 1."),
        ([0.0], [[0.5, 0.5]], "targets must be whole class indices, got float64."),
        ([[0]], [[0.5, 0.5]], r"targets have shape \(1, 1\), expected one number per sample."),
        ([0, 1], [[0.5, 0.5]], "different numbers of samples: targets 2, predictions 1."),
    ],
)
def test_refused_classification_input(targets, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(targets, probabilities)


@pytest.mark.parametrize(
    ("targets", "predictions", "message"),
    [
        ([], [], "targets are empty; a metric needs at least one sample."),
        ([1.0, np.inf], [1, 2], r"targets\[1\] is inf; metrics need finite numbers."),
        ([1.0], [np.nan], r"predictions\[0\] is nan; metrics need finite numbers."),
        ([1.0], [1, 2], "different numbers of samples: targets 1, predictions 2."),
    ],
)
def test_refused_regression_input(targets, predictions, message):
    with pytest.raises(ValueError, match=message):
        regression_metrics(targets, predictions)
