"""Batches of an epoch from lengths alone: every utterance once, within the budget, repeatable."""

from __future__ import annotations

import numpy as np
import pytest

from paraformer_asr.data.buckets import GROUP_BATCHES, length_buckets, padding_share
from paraformer_asr.errors import AsrError


def random_cases():
    rng = np.random.default_rng(5)
    for case in range(40):
        lengths = rng.integers(0, 60, size=rng.integers(1, 400)).tolist()
        yield pytest.param(
            lengths,
            {
                "batch_frames": int(rng.integers(1, 200)),
                "max_batch": int(rng.integers(1, 12)),
                "seed": case,
                "epoch": int(rng.integers(0, 9)),
                "shuffle": bool(rng.integers(2)),
                "bucketing": bool(rng.integers(2)),
            },
            id=str(case),
        )


@pytest.mark.parametrize(("lengths", "settings"), list(random_cases()))
def test_each_utterance_is_in_one_batch_and_batches_keep_their_limits(lengths, settings):
    batches = length_buckets(lengths, **settings)

    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        cost = max(lengths[index] for index in batch) * len(batch)
        assert len(batch) <= settings["max_batch"]
        assert cost <= settings["batch_frames"] or len(batch) == 1


def test_one_batch_holds_all_that_fits():
    assert length_buckets([3, 3, 3], batch_frames=9, max_batch=9, shuffle=False) == [[0, 1, 2]]
    assert len(length_buckets([3, 3, 3], batch_frames=8, max_batch=9)) == 2
    assert len(length_buckets([3, 3, 3], batch_frames=9, max_batch=2)) == 2


def test_an_utterance_beyond_the_budget_is_alone_and_not_lost():
    batches = length_buckets([2, 50, 2, 2], batch_frames=6, max_batch=8, shuffle=False)

    assert batches == [[0, 2, 3], [1]]


def test_the_same_seed_and_epoch_give_the_same_batches_and_others_do_not():
    lengths = np.random.default_rng(0).integers(1, 90, size=300).tolist()

    def batches(seed, epoch):
        return length_buckets(lengths, batch_frames=400, max_batch=16, seed=seed, epoch=epoch)

    assert batches(1, 2) == batches(1, 2)
    assert batches(1, 2) != batches(1, 3)
    assert batches(1, 2) != batches(2, 2)


def test_batches_come_in_random_order_of_length_in_training():
    lengths = list(range(1, 401))
    batches = length_buckets(lengths, batch_frames=1000, max_batch=8, seed=0)
    longest = [max(lengths[i] for i in batch) for batch in batches]

    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.4


def test_who_shares_a_batch_changes_between_epochs_even_with_different_lengths():
    # all lengths differ: sorted in one piece, neighbours would be the same in each epoch
    lengths = list(range(1, 10 * GROUP_BATCHES + 1))
    settings = {"batch_frames": 100_000, "max_batch": 2, "seed": 3}
    first, second = (
        {frozenset(b) for b in length_buckets(lengths, epoch=epoch, **settings)} for epoch in (0, 1)
    )

    assert len(first & second) < 0.5 * len(first)


def test_without_shuffling_utterances_come_by_length_or_as_they_are():
    lengths = [5, 1, 4, 2]

    def order(bucketing):
        batches = length_buckets(
            lengths, batch_frames=8, max_batch=4, shuffle=False, bucketing=bucketing
        )
        return [index for batch in batches for index in batch]

    assert order(True) == [1, 3, 2, 0]
    assert order(False) == [0, 1, 2, 3]


def test_bucketing_saves_most_of_the_padding():
    lengths = np.random.default_rng(0).integers(20, 260, size=2000).tolist()

    def share(bucketing):
        batches = length_buckets(lengths, batch_frames=2400, max_batch=64, bucketing=bucketing)
        return padding_share(lengths, batches)

    assert share(True) < 0.04
    assert share(False) > 0.3


def test_padding_share_counts_padded_frames():
    assert padding_share([4, 2, 6], [[0, 1], [2]]) == pytest.approx(2 / 14)
    assert padding_share([3, 3], [[0, 1]]) == 0
    assert padding_share([0, 0], [[0, 1]]) == 0


def test_no_utterances_is_an_error():
    with pytest.raises(AsrError, match="there are no utterances to put into batches"):
        length_buckets([], batch_frames=10, max_batch=2)
