"""Maps of the embedding: PCA by scikit-learn, neighbours by t-SNE, samples of many pairs."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from maquette.evaluation.embedding_map import MAX_PAIRS, pca_map, tsne_map
from maquette.evaluation.zero_shot import unit


def clouds(n, seed=0, spread=0.05):
    rng = np.random.default_rng(seed)
    centres = np.eye(4, 8)[np.arange(n) % 4]
    return tuple(centres + spread * rng.normal(size=(n, 8)) for _ in range(2))


def test_pca_equals_scikit_learn_up_to_signs():
    images, texts = clouds(20, spread=0.4)
    ours = pca_map(images, texts * 3)
    model = PCA(2).fit(np.concatenate([unit(images), unit(texts)]))
    theirs = model.transform(np.concatenate([unit(images), unit(texts)]))
    points = np.concatenate([ours.images, ours.texts])
    signs = np.sign((points * theirs).sum(axis=0))
    np.testing.assert_allclose(points, theirs * signs, atol=1e-12)
    assert ours.explained == pytest.approx(model.explained_variance_ratio_.sum())
    assert (ours.method, ours.labels, ours.captions) == ("PCA", None, None)


def test_pca_does_not_depend_on_the_sign_of_an_axis():
    images, texts = clouds(12)
    first, again = pca_map(images, texts), pca_map(images, texts)
    np.testing.assert_array_equal(first.images, again.images)


def test_narrow_or_constant_features_still_have_a_map():
    line = pca_map(np.ones((3, 1)), -np.ones((3, 1)))
    assert line.images.shape == line.texts.shape == (3, 2)
    assert (line.images[:, 1] == 0).all()
    point = pca_map(np.ones((1, 4)), np.ones((1, 4)))
    assert point.explained == 1
    np.testing.assert_allclose(point.images, 0)


def test_tsne_keeps_neighbours_together_and_repeats():
    images, texts = clouds(24)
    labels = [f"cloud {row % 4}" for row in range(24)]
    ours = tsne_map(images, texts, labels=labels, captions=labels, seed=1)
    points = ours.images
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(24)
    same = np.array(ours.labels)[distance.argmin(axis=1)] == np.array(ours.labels)
    assert same.mean() > 0.9
    np.testing.assert_array_equal(ours.images, tsne_map(images, texts, seed=1).images)
    assert ours.captions == tuple(labels)
    assert ours.explained is None


def test_tsne_needs_some_pairs():
    assert tsne_map(*clouds(9)) is None


def test_many_pairs_are_sampled_evenly():
    images, texts = clouds(3 * MAX_PAIRS)
    names = [str(row) for row in range(3 * MAX_PAIRS)]
    ours = pca_map(images, texts, labels=names)
    assert len(ours.images) == len(ours.labels) == MAX_PAIRS
    assert (ours.labels[0], ours.labels[-1]) == ("0", names[-1])


def test_messages():
    with pytest.raises(ValueError, match=r"are \(2, 8\) and text features \(1, 8\), expected"):
        pca_map(clouds(2)[0], clouds(1)[0])
    with pytest.raises(ValueError, match=r"expected \(pairs, width\) for both"):
        tsne_map(np.zeros((0, 2)), np.zeros((0, 2)))
