"""Linear probe: separable features, the penalty's choice, odd splits, repeatability."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from maquette.evaluation import linear_probe as module
from maquette.evaluation.linear_probe import STRENGTHS, linear_probe
from maquette.evaluation.metrics import classification_metrics

CLASSES = np.array(["cat", "dog", "owl"], dtype=object)


def scene(n, noise, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    centres = np.random.default_rng(99).normal(size=(3, 6))
    return centres[labels] + noise * rng.normal(size=(n, 6)), CLASSES[labels]


def test_separable_features_are_told_apart():
    ours = linear_probe(*scene(60, 0.01), *scene(30, 0.01, seed=1))
    assert ours.metrics["accuracy"] == ours.held_out_accuracy == 1
    assert (ours.num_train, ours.num_test) == (60, 30)


def test_equals_scikit_learn_with_the_chosen_strength():
    (train, names), (test, truth) = scene(90, 1.5), scene(60, 1.5, seed=1)
    ours = linear_probe(train, names, test, truth, seed=5)
    assert ours.strength in STRENGTHS
    assert 0.3 < ours.held_out_accuracy < 1
    scaler = StandardScaler().fit(train)
    model = LogisticRegression(C=ours.strength, max_iter=300)
    model.fit(scaler.transform(train), names.astype(str))
    expected = model.predict_proba(scaler.transform(test))
    indices = np.searchsorted(model.classes_, truth.astype(str))
    assert ours.metrics == pytest.approx(classification_metrics(indices, expected))
    assert linear_probe(train, names, test, truth, seed=5) == ours


def test_noise_asks_for_a_strong_penalty():
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    weak = np.concatenate(
        [labels[:, None] + rng.normal(size=(80, 1)), rng.normal(size=(80, 60))], 1
    )
    noisy = linear_probe(weak, labels, weak, labels)
    assert noisy.strength < max(STRENGTHS)


def test_one_class_has_nothing_to_tell_apart():
    features, _ = scene(6, 1)
    assert linear_probe(features, ["cat"] * 6, features, ["cat"] * 6) is None


def test_one_image_per_class_holds_nothing_out():
    features, labels = scene(3, 0.1)
    ours = linear_probe(features, labels, *scene(9, 0.1, seed=1))
    assert ours.held_out_accuracy is None
    assert ours.strength == 1
    assert ours.metrics["accuracy"] == 1


def test_a_class_that_training_never_saw_is_wrong():
    features, labels = scene(30, 0.01)
    test, truth = scene(9, 0.01, seed=1)
    truth[:3] = "yak"
    ours = linear_probe(features, labels, test, truth)
    assert ours.metrics["accuracy"] == pytest.approx(6 / 9)


def test_constant_features_guess():
    ours = linear_probe(np.ones((9, 2)), scene(9, 0)[1], np.ones((3, 2)), scene(3, 0)[1])
    assert ours.metrics["accuracy"] == pytest.approx(1 / 3)


def test_many_rows_are_thinned_but_no_class_is_lost(monkeypatch):
    monkeypatch.setattr(module, "MAX_ROWS", 10)
    features, labels = scene(60, 0.01)
    labels[7] = "yak"
    features[7] = 50
    ours = linear_probe(features, labels, features[7:8], labels[7:8])
    assert ours.num_train <= 14
    assert ours.metrics["accuracy"] == 1


def test_messages():
    features, labels = scene(6, 1)
    with pytest.raises(ValueError, match=r"train_features have shape \(6,\), expected one row per"):
        linear_probe(features[:, 0], labels, features, labels)
    with pytest.raises(ValueError, match=r"test_features\[2\] is not finite"):
        linear_probe(features, labels, np.where(np.arange(6)[:, None] == 2, np.nan, 1.0), labels)
    with pytest.raises(ValueError, match="train_features 6, train_labels 5"):
        linear_probe(features, labels[:5], features, labels)
