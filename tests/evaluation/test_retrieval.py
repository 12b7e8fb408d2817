"""Retrieval: ranks by a plain loop and by hand; ties, repeats, chance, intervals."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.errors import RunError
from maquette.evaluation import retrieval
from maquette.evaluation.metrics import SMALLER_IS_BETTER
from maquette.evaluation.retrieval import (
    RetrievalMetrics,
    chance_metrics,
    find_candidates,
    ranks,
    retrieval_intervals,
    retrieval_metrics,
    retrieval_ranks,
)
from maquette.training.callbacks import LOWER_IS_BETTER

NAMES = {
    f"{way}_{metric}"
    for way in ("image_to_text", "text_to_image")
    for metric in ("r1", "r5", "r10", "median_rank", "mrr")
} | {"mean_recall"}


def pairs(n, width, num_images, num_texts, seed):
    """Pairs of integer features, so that ties happen and products are exact."""
    rng = np.random.default_rng(seed)
    image_groups, text_groups = rng.integers(num_images, size=n), rng.integers(num_texts, size=n)
    images = rng.integers(-2, 3, size=(num_images, width)).astype(float)
    texts = rng.integers(-2, 3, size=(num_texts, width)).astype(float)
    return images[image_groups], texts[text_groups], image_groups, text_groups


def by_loop(queries, candidates, query_groups, candidate_groups):
    """The rank of each distinct query, one comparison at a time."""
    feature = dict(zip(candidate_groups.tolist(), candidates, strict=True))
    found = []
    for group in sorted(set(query_groups.tolist())):
        query = queries[list(query_groups).index(group)]
        positives = {c for q, c in zip(query_groups, candidate_groups, strict=True) if q == group}
        best = max(query @ feature[c] for c in positives)
        rank = 1.0
        for candidate in set(feature) - positives:
            score = query @ feature[candidate]
            rank += 1.0 if score > best else 0.5 if score == best else 0.0
        found.append(rank)
    return np.array(found)


def summary(i2t, t2i):
    """The metrics of ranks, as a textbook has them."""
    scores = {}
    for way, found in (("image_to_text", i2t), ("text_to_image", t2i)):
        scores |= {f"{way}_r{k}": np.mean(found <= k) for k in (1, 5, 10)}
        scores |= {f"{way}_median_rank": np.median(found), f"{way}_mrr": np.mean(1 / found)}
    recalls = [v for n, v in scores.items() if n.rpartition("_")[2] in ("r1", "r5", "r10")]
    return scores | {"mean_recall": np.mean(recalls)}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 25), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0))
def test_metrics_equal_a_plain_loop(n, width, num_images, num_texts, seed):
    images, texts, image_groups, text_groups = pairs(n, width, num_images, num_texts, seed)
    found = retrieval_ranks(images, texts, image_groups, text_groups)
    i2t = by_loop(images, texts, image_groups, text_groups)
    t2i = by_loop(texts, images, text_groups, image_groups)
    np.testing.assert_array_equal(found.image_to_text, i2t)
    np.testing.assert_array_equal(found.text_to_image, t2i)

    ours = retrieval_metrics(images, texts, image_groups, text_groups)
    assert set(ours) == NAMES
    assert ours == pytest.approx(summary(i2t, t2i), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 25), st.integers(0))
def test_order_of_pairs_and_names_of_groups_do_not_matter(n, seed):
    images, texts, image_groups, text_groups = pairs(n, 3, 7, 7, seed)
    order = np.random.default_rng(seed).permutation(n)
    ours = retrieval_metrics(images, texts, image_groups, text_groups)
    other = retrieval_metrics(
        images[order], texts[order], 100 - image_groups[order], 7 * text_groups[order]
    )
    assert other == pytest.approx(ours)


def test_chunks_change_nothing(monkeypatch):
    given_pairs = pairs(40, 4, 23, 31, seed=1)
    whole = retrieval_ranks(*given_pairs)
    monkeypatch.setattr(retrieval, "_CHUNK", 70)
    parts = retrieval_ranks(*given_pairs)
    np.testing.assert_array_equal(parts.image_to_text, whole.image_to_text)
    np.testing.assert_array_equal(parts.text_to_image, whole.text_to_image)


def test_best_of_several_captions_counts_and_the_others_do_not_stand_in_its_way():
    scores = np.array([[0.9, 0.8, 0.7, 0.85]])
    assert ranks(scores, np.array([[False, True, True, False]])).tolist() == [3]
    assert ranks(scores, np.array([[True, True, True, False]])).tolist() == [1]


def test_ties_cost_half():
    scores = np.zeros((1, 9))
    assert ranks(scores, np.eye(1, 9, dtype=bool)).tolist() == [5]


def test_equal_features_are_no_better_than_the_middle():
    features = np.random.default_rng(0).normal(size=(1, 37)).repeat(101, axis=0)
    ours = retrieval_metrics(features, features, np.arange(101), np.arange(101))
    assert ours["image_to_text_median_rank"] == ours["text_to_image_median_rank"] == 51
    assert ours["mean_recall"] == 0


def test_a_repeated_caption_is_one_candidate_with_two_images():
    images, texts = np.eye(3), np.array([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    found = retrieval_ranks(images, texts, np.arange(3), np.array([0, 0, 1]))
    assert len(found.text_to_image) == 2
    assert found.text_to_image.tolist() == [1, 1]
    assert found.image_to_text.tolist() == [1, 1.5, 1]  # image 1 sees two texts at 0


def test_class_prompts_have_all_images_of_the_class_as_positives():
    labels = np.array([0, 0, 0, 1])
    prompts = np.eye(2)[labels]
    images = np.array([[0.1, 0.9], [0.8, 0.2], [0.9, 0.1], [0.4, 0.6]])
    found = retrieval_ranks(images, prompts, np.arange(4), labels)
    assert found.image_to_text.tolist() == [2, 1, 1, 1]
    assert found.text_to_image.tolist() == [1, 2]


def test_one_pair_is_found():
    ours = retrieval_metrics([[1.0]], [[-1.0]], [0], [0])
    assert ours == dict.fromkeys(NAMES, 1.0)


@pytest.mark.parametrize(
    ("image_groups", "text_groups"),
    [
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ([0, 0, 1, 1], [0, 1, 2, 3]),
        ([0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 1, 1]),
        ([0, 0, 1, 2], [0, 1, 1, 2]),
        ([0], [0]),
    ],
)
def test_chance_is_the_mean_over_all_orders(image_groups, text_groups):
    ours = chance_metrics(image_groups, text_groups)
    assert set(ours) == NAMES
    found = find_candidates(image_groups, text_groups)
    for side, way in ((0, "image_to_text"), (1, "text_to_image")):
        num = (len(found.texts), len(found.images))[side]
        all_ranks = []
        for query in range(found.pairs[:, side].max() + 1):
            positives = set(found.pairs[found.pairs[:, side] == query, 1 - side].tolist())
            all_ranks += [
                1 + min(order.index(one) for one in positives)
                for order in itertools.permutations(range(num))
            ]
        every = np.array(all_ranks)
        for k in (1, 5, 10):
            assert ours[f"{way}_r{k}"] == pytest.approx(np.mean(every <= k))
        assert ours[f"{way}_mrr"] == pytest.approx(np.mean(1 / every))
        assert ours[f"{way}_median_rank"] == np.median(every)


def test_random_features_score_about_chance():
    rng = np.random.default_rng(2)
    groups = np.arange(500)
    ours = retrieval_metrics(rng.normal(size=(500, 8)), rng.normal(size=(500, 8)), groups, groups)
    chance = chance_metrics(groups, groups)
    assert chance["image_to_text_median_rank"] == 250.5
    assert chance["mean_recall"] == pytest.approx((1 + 5 + 10) / 3 / 500)
    assert ours["mean_recall"] == pytest.approx(chance["mean_recall"], abs=0.01)
    assert ours["image_to_text_median_rank"] == pytest.approx(250.5, abs=35)


def noisy(n, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, 6))
    return images, images + rng.normal(size=(n, 6))


def test_intervals_resample_images_and_their_captions_together():
    images, texts = noisy(30)
    groups = np.repeat(np.arange(10), 3)
    found = retrieval_ranks(images[groups], texts, groups, np.arange(30))
    ours = retrieval_intervals(found, resamples=80, seed=3)
    assert set(ours) == NAMES

    draws = np.random.default_rng(3).integers(10, size=(80, 10))
    scores = [
        summary(found.image_to_text[rows], found.text_to_image.reshape(10, 3)[rows].ravel())
        for rows in draws
    ]
    for name, interval in ours.items():
        expected = np.quantile([one[name] for one in scores], [0.025, 0.975])
        assert interval == pytest.approx(tuple(expected)), name


def test_intervals_draw_shared_texts_by_themselves():
    images, texts = noisy(60)
    labels = np.arange(60) % 2
    found = retrieval_ranks(images, texts[labels], np.arange(60), labels)
    ours = retrieval_intervals(found, resamples=200)
    again = retrieval_intervals(found, resamples=200)
    assert ours == again
    values = found.text_to_image
    low, high = ours["text_to_image_median_rank"]
    assert (low, high) == (values.min(), values.max())
    low, high = ours["image_to_text_r1"]
    assert low < np.mean(found.image_to_text <= 1) < high


def test_the_smaller_rank_is_the_better_one():
    smaller = {name for name in NAMES if name.endswith("median_rank")}
    assert smaller == NAMES & SMALLER_IS_BETTER == NAMES & LOWER_IS_BETTER


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**31))
def test_accumulator_does_not_depend_on_batches(n, batch_size, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, 2, 5, generator=generator)
    groups = torch.randint(0, 9, (n, 2), generator=generator)
    whole, parts = RetrievalMetrics(), RetrievalMetrics()
    whole.update(features.bfloat16().float(), groups)
    for rows, which in zip(features.split(batch_size), groups.split(batch_size), strict=True):
        parts.update(rows.bfloat16(), which)

    assert parts.compute() == whole.compute()
    assert parts.features.shape == (n, 2, 5)
    found = parts.ranks()
    assert found.image_to_text.shape == found.candidates.images.shape


def test_messages():
    rows = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"image_features have shape \(0,\), expected one row per"):
        retrieval_metrics([], [], [], [])
    with pytest.raises(ValueError, match=r"text_features\[1\] is not finite"):
        retrieval_metrics(rows, [[0, 0, 0], [0, np.nan, 0]], [0, 1], [0, 1])
    with pytest.raises(ValueError, match="image features have width 3 and text features 2"):
        retrieval_metrics(rows, rows[:, :2], [0, 1], [0, 1])
    with pytest.raises(ValueError, match="image_features 2, text_features 1, groups 2"):
        retrieval_metrics(rows, rows[:1], [0, 1], [0, 1])
    with pytest.raises(ValueError, match="image_groups 2, text_groups 1"):
        retrieval_metrics(rows, rows, [0, 1], [0])
    with pytest.raises(ValueError, match=r"image groups have shape \(0,\), expected one group per"):
        chance_metrics([], [])


def test_accumulator_messages():
    metrics = RetrievalMetrics()
    with pytest.raises(ValueError, match=r"expected one row per pair"):
        metrics.compute()
    with pytest.raises(
        ValueError, match=r"outputs are \(4, 3\) and targets \(4, 2\), expected \(b"
    ):
        metrics.update(torch.zeros(4, 3), torch.zeros(4, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"targets \(4,\), expected"):
        metrics.update(torch.zeros(4, 2, 3), torch.zeros(4, dtype=torch.int64))
    metrics.update(torch.zeros(2, 2, 3), torch.zeros(2, 2, dtype=torch.int64))
    broken = torch.zeros(2, 2, 3)
    broken[1, 1] = torch.inf
    metrics.update(broken, torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(RunError, match=r"the text of pair 4 of 4 in this split.*learning_rate"):
        metrics.compute()
