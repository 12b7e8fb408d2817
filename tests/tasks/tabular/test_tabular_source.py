from __future__ import annotations

import numpy as np
import pytest
import torch

from maquette.tasks.tabular.source import HIDDEN_SHARE, CategoryHider, TableSource

NUM_ROWS, NUM_SLOTS = 2000, (4, 3)


def make_source(*, onehot: bool, hide: bool = True, weights: bool = False) -> TableSource:
    random = np.random.default_rng(0)
    slots = np.stack([random.integers(1, size, NUM_ROWS) for size in NUM_SLOTS], axis=1)
    number = torch.arange(NUM_ROWS, dtype=torch.float32)[:, None]
    blocks = [torch.from_numpy(np.eye(size)[slots[:, k]]) for k, size in enumerate(NUM_SLOTS)]
    inputs = (torch.cat([number, *blocks], dim=1).float(),) if onehot else (
        number, torch.from_numpy(slots.copy()))  # fmt: skip
    starts = np.array([1, 1 + NUM_SLOTS[0]]) if onehot else None
    return TableSource(
        inputs=inputs,
        targets=torch.arange(NUM_ROWS),
        weights=torch.rand(NUM_ROWS) if weights else None,
        ids=[f"row {row}" for row in range(NUM_ROWS)],
        hider=CategoryHider(
            slots=slots, keys=np.arange(2, NUM_ROWS + 2), seed=7, onehot_starts=starts
        ) if hide else None,
    )  # fmt: skip


def whole(source: TableSource, order: torch.Tensor, *, epoch: int, batch_size: int = 64):
    """The epoch's inputs, put back into the order of the split."""
    batches = list(source.batches(order, batch_size, epoch=epoch))
    rows = torch.cat([batch.rows for batch in batches])
    parts = zip(*(batch.inputs for batch in batches), strict=True)
    return [torch.cat(part)[torch.argsort(rows)] for part in parts]


@pytest.mark.parametrize("onehot", [True, False])
def test_what_a_row_becomes_depends_on_epoch_and_row_alone(onehot):
    source = make_source(onehot=onehot)
    straight = torch.arange(NUM_ROWS)
    shuffled = torch.randperm(NUM_ROWS, generator=torch.Generator().manual_seed(1))
    first = whole(source, straight, epoch=1)
    for again in (whole(source, shuffled, epoch=1), whole(source, straight, epoch=1, batch_size=7)):
        assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert any(
        not torch.equal(x, y) for x, y in zip(first, whole(source, straight, epoch=2), strict=True)
    )


def test_about_the_declared_share_of_categories_is_hidden():
    numbers, slots = whole(make_source(onehot=False), torch.arange(NUM_ROWS), epoch=1)
    assert (slots == 0).float().mean().item() == pytest.approx(HIDDEN_SHARE, rel=0.4)
    assert torch.equal(numbers[:, 0], torch.arange(NUM_ROWS).float())


def test_hidden_one_hot_blocks_still_hold_a_single_one():
    (inputs,) = whole(make_source(onehot=True), torch.arange(NUM_ROWS), epoch=1)
    _, slots = whole(make_source(onehot=False), torch.arange(NUM_ROWS), epoch=1)
    for k, (start, size) in enumerate(zip((1, 5), NUM_SLOTS, strict=True)):
        block = inputs[:, start : start + size]
        assert torch.equal(block.sum(dim=1), torch.ones(NUM_ROWS))
        assert torch.equal(block.argmax(dim=1), slots[:, k])


def test_the_stored_split_is_never_changed():
    source = make_source(onehot=True)
    order = torch.arange(NUM_ROWS)
    first = whole(source, order, epoch=1)[0]
    whole(source, order, epoch=2)
    assert torch.equal(first, whole(source, order, epoch=1)[0])


def test_batches_follow_the_order_and_carry_everything():
    source = make_source(onehot=True, hide=False, weights=True)
    order = torch.tensor([5, 3, 8, 1, 9])
    batches = list(source.batches(order, 2, epoch=0))
    assert [batch.rows.tolist() for batch in batches] == [[5, 3], [8, 1, 9]]
    assert [batch.targets.tolist() for batch in batches] == [[5, 3], [8, 1, 9]]
    assert batches[0].inputs[0][:, 0].tolist() == [5, 3]
    assert [len(batch.weights) for batch in batches] == [2, 3]
    assert len(source) == NUM_ROWS
    assert list(source.batches(order[:0], 2, epoch=0)) == []
