"""Zero-shot classification: the ensemble by hand, probabilities by torch, metrics, messages."""

import numpy as np
import pytest
import torch

from maquette.evaluation.metrics import classification_metrics
from maquette.evaluation.zero_shot import (
    class_embeddings,
    ensemble,
    zero_shot,
    zero_shot_probabilities,
)


def features(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_ensemble_normalises_before_and_after_the_mean():
    prompts = features(3, 4, 6)
    ours = class_embeddings(prompts)
    tensor = torch.nn.functional.normalize(torch.tensor(prompts), dim=-1).mean(dim=0)
    expected = torch.nn.functional.normalize(tensor, dim=-1).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    np.testing.assert_allclose(ensemble(prompts[:, 2]), ours[2])
    np.testing.assert_allclose(class_embeddings(prompts * 7), ours)


def test_one_prompt_is_its_own_ensemble():
    prompts = features(1, 4, 6)
    expected = prompts[0] / np.linalg.norm(prompts[0], axis=1, keepdims=True)
    np.testing.assert_allclose(class_embeddings(prompts), expected)


def test_a_zero_vector_stays_finite():
    assert np.isfinite(class_embeddings(np.zeros((2, 3, 4)))).all()


def test_probabilities_are_the_softmax_of_scaled_cosines():
    images, classes = features(5, 6), features(4, 6, seed=1)
    ours = zero_shot_probabilities(images, classes, scale=100)
    similarity = torch.nn.functional.cosine_similarity(
        torch.tensor(images)[:, None], torch.tensor(classes)[None], dim=-1
    )
    np.testing.assert_allclose(ours, (100 * similarity).softmax(dim=1).numpy(), rtol=1e-9)


def test_metrics_of_all_prompts_and_of_each():
    classes, prompts = ("cat", "dog", "owl"), ("a {}", "one {}", "the {}")
    truth = np.arange(30) % 3
    centres = features(3, 8)
    images = centres[truth] + 0.8 * features(30, 8, seed=1)
    sentences = centres[None] + 0.9 * features(3, 3, 8, seed=2)
    ours = zero_shot(images, sentences, truth, classes=classes, prompts=prompts, scale=50)

    together = zero_shot_probabilities(images, class_embeddings(sentences), scale=50)
    assert ours.metrics == classification_metrics(truth, together)
    alone = [zero_shot_probabilities(images, one, scale=50) for one in sentences]
    assert ours.single == classification_metrics(truth, alone[0])
    accuracies = [float((one.argmax(axis=1) == truth).mean()) for one in alone]
    assert ours.prompt_accuracy == tuple(accuracies)
    assert len(set(accuracies)) > 1
    assert ours.prompts == prompts
    assert ours.classes == classes
    hits = (together.argmax(axis=1) == truth) & (truth == 1)
    assert ours.table.recall[1] == pytest.approx(hits.sum() / 10)
    assert ours.table.support.tolist() == [10, 10, 10]


def test_messages():
    images, truth = features(2, 4), [0, 1]
    options = {"classes": ("a", "b"), "prompts": ("{}",), "scale": 1.0}
    with pytest.raises(ValueError, match=r"shape \(2, 4\), expected \(prompts, classes, width\)"):
        zero_shot(images, features(2, 4), truth, **options)
    with pytest.raises(ValueError, match=r"shape \(1, 3, 4\), expected 1 prompts of 2 classes"):
        zero_shot(images, features(1, 3, 4), truth, **options)
    with pytest.raises(ValueError, match="targets\\[1\\] is 2, outside the classes 0 to 1"):
        zero_shot(images, features(1, 2, 4), [0, 2], **options)
