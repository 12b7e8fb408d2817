"""Baselines: honest scores, in seconds."""

import numpy as np
import pytest
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier

from maquette.evaluation import baselines
from maquette.evaluation.baselines import affordable, indices_of, score_baselines
from maquette.evaluation.metrics import classification_metrics, regression_metrics


def split_of(features, targets, seed=0):
    order = np.random.default_rng(seed).permutation(len(features))
    cut = int(0.7 * len(features))
    train, test = order[:cut], order[cut:]
    return features[train].astype("f4"), targets[train], features[test].astype("f4"), targets[test]


def iris():
    data = datasets.load_iris()
    return split_of(data.data, data.target_names[data.target].astype(object)), list(
        data.target_names
    )


def test_classification_on_iris():
    split, classes = iris()
    majority, trees = score_baselines(*split, classes)
    assert (majority.name, trees.name) == ("majority class", "boosted trees")
    assert majority.metrics["roc_auc"] == 0.5
    assert trees.metrics["accuracy"] > 0.88
    assert set(trees.metrics) == set(majority.metrics)
    assert 0 < trees.seconds < 30


def test_trees_are_scikit_learns_with_the_same_metrics():
    (train, labels, test, truth), classes = iris()
    _, trees = score_baselines(train, labels, test, truth, classes)
    model = HistGradientBoostingClassifier(max_iter=100, random_state=0)
    model.fit(train, indices_of(labels, classes))
    expected = classification_metrics(indices_of(truth, classes), model.predict_proba(test))
    assert trees.metrics == pytest.approx(expected)


def test_regression_on_diabetes():
    data = datasets.load_diabetes()
    split = split_of(data.data, data.target)
    mean, trees = score_baselines(*split, None)
    assert mean.metrics == regression_metrics(split[3], np.full(len(split[3]), split[1].mean()))
    assert mean.metrics["r2"] == pytest.approx(0, abs=0.05)
    assert trees.metrics["r2"] > 0.25


def test_class_without_training_samples_and_missing_values():
    features = np.array([[0.0, np.nan], [1.0, 2.0]] * 30, dtype="f4")
    labels = np.array(["a", "b"] * 30, dtype=object)
    _, trees = score_baselines(features, labels, features, labels, ["a", "b", "c"])
    assert all(np.isfinite(value) for value in trees.metrics.values())


def test_one_class_in_training_leaves_the_majority_alone():
    features, labels = np.zeros((4, 1), "f4"), np.array(["a"] * 4, dtype=object)
    (majority,) = score_baselines(features, labels, features, labels, ["a", "b"])
    assert majority.metrics["accuracy"] == 1


def test_same_scores_each_time():
    split, classes = iris()
    first, second = (score_baselines(*split, classes) for _ in range(2))
    assert [one.metrics for one in first] == [two.metrics for two in second]


def test_work_is_bounded():
    assert affordable((105, 4), trees_per_round=3) == (100, 105)
    rounds, rows = affordable((30_000, 30), trees_per_round=1)
    assert 80 <= rounds <= 100
    assert rows == 30_000
    rounds, rows = affordable((1_000_000, 100), trees_per_round=10)
    assert rounds == 15
    assert 1000 <= rows < 50_000


def test_a_cut_training_split_is_named(monkeypatch):
    monkeypatch.setattr(baselines, "affordable", lambda shape, trees_per_round: (15, 50))
    split, classes = iris()
    _, trees = score_baselines(*split, classes)
    assert trees.name == "boosted trees (50 of 105 rows)"
    assert trees.metrics["accuracy"] > 0.6


def test_unknown_targets_are_named():
    with pytest.raises(ValueError, match=r"targets \['c'\] are not among the classes \['a', 'b'\]"):
        indices_of(np.array(["a", "c"], dtype=object), ["a", "b"])
