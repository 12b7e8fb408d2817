"""Batches: padding, order, resuming at any step, and independence of workers and of batch size."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from unet_seg.config import AugmentConfig, DataConfig
from unet_seg.data.batches import (
    Batch,
    PreparedDataset,
    StepSampler,
    collate,
    eval_batches,
    train_batches,
)
from unet_seg.data.sample import IGNORE, Sample
from unet_seg.errors import SegError

AUGMENTED = DataConfig(
    normalize="image",
    augment=AugmentConfig(
        crop=(16, 16), hflip=0.5, rotate=20, brightness=0.2, contrast=0.2, saturation=0.2, elastic=1
    ),
)


PLAIN = DataConfig()


class Noise(Dataset[Sample]):
    """Random images that depend on the index; sizes may be given one by one."""

    classes = ("background", "thing")

    def __init__(self, sizes: list[tuple[int, int]]) -> None:
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        h, w = self.sizes[index]
        image = torch.randint(0, 256, (3, h, w), generator=generator).to(torch.uint8)
        return Sample(image, (image[0] > 127).to(torch.uint8), f"noise{index}")


SEVEN = Noise([(24, 20)] * 7)


def prepared(h: int, w: int, name: str = "x", channels: int = 3) -> Sample:
    return Sample(torch.randn(channels, h, w), torch.ones(h, w, dtype=torch.uint8), name)


def assert_same(a: Batch, b: Batch) -> None:
    assert (a.names, a.sizes) == (b.names, b.sizes)
    assert torch.equal(a.image, b.image)
    assert torch.equal(a.mask, b.mask)
    assert torch.equal(a.valid, b.valid)


# Collating


def test_collate_pads_right_and_bottom_to_the_multiple() -> None:
    samples = [prepared(5, 9, "a"), prepared(7, 3, "b")]
    batch = collate(samples, multiple=4)
    assert batch.image.shape == (2, 3, 8, 12)
    assert (batch.image.dtype, batch.mask.dtype) == (torch.float32, torch.int64)
    assert batch.valid.dtype == torch.bool
    assert batch.names == ("a", "b")
    assert batch.sizes == ((5, 9), (7, 3))
    for row, sample in enumerate(samples):
        h, w = batch.sizes[row]
        assert torch.equal(batch.image[row, :, :h, :w], sample.image)
        assert torch.equal(batch.mask[row, :h, :w], sample.mask.long())
        assert batch.valid[row, :h, :w].all()
        assert int(batch.valid[row].sum()) == h * w
        assert (batch.mask[row][~batch.valid[row]] == IGNORE).all()
        assert (batch.image[row][:, ~batch.valid[row]] == 0).all()


def test_collate_of_equal_sizes_pads_nothing() -> None:
    samples = [prepared(8, 12, str(i)) for i in range(3)]
    batch = collate(samples, multiple=4)
    assert torch.equal(batch.image, torch.stack([sample.image for sample in samples]))
    assert batch.valid.all()


def test_ignored_pixels_are_valid_but_padding_is_not() -> None:
    sample = prepared(4, 4)
    sample.mask[0, 0] = IGNORE
    batch = collate([sample], multiple=8)
    assert batch.mask[0, 0, 0] == IGNORE
    assert batch.valid[0, 0, 0]
    assert not batch.valid[0, 7, 7]


def test_a_batch_moves_to_a_device_whole() -> None:
    batch = collate([prepared(4, 4)])
    assert_same(batch.to("cpu"), batch)
    moved = batch.to(torch.device("meta"))
    assert {moved.image.device.type, moved.mask.device.type, moved.valid.device.type} == {"meta"}
    assert moved.names == batch.names


def test_collate_says_what_does_not_fit() -> None:
    with pytest.raises(SegError, match="collate got no samples"):
        collate([])
    with pytest.raises(SegError, match=r"grey: image has shape \(1, 4, 4\); axis 0 \(3\) is 1"):
        collate([prepared(4, 4), prepared(4, 4, "grey", channels=1)])
    with pytest.raises(SegError, match="noise0: image has dtype uint8, expected float32"):
        collate([SEVEN[0]])


# Order


def keys(start: int, stop: int, *, batch_size: int = 4, n: int = 7, seed: int = 0) -> list:
    sampler = StepSampler(n, seed=seed, batch_size=batch_size, start_step=start, stop_step=stop)
    assert len(sampler) == stop - start
    return list(sampler)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 20])
def test_batches_are_full_and_epochs_see_every_image_once(batch_size: int) -> None:
    steps = keys(0, 21, batch_size=batch_size)
    assert {len(step) for step in steps} == {batch_size}
    seen = Counter(key for step in steps for key in step)
    assert set(seen.values()) == {1}
    epochs = 21 * batch_size // 7
    assert set(seen) == {(epoch, index) for epoch in range(epochs) for index in range(7)}


def test_the_order_starts_anywhere_without_a_state() -> None:
    whole = keys(0, 30)
    for step in (0, 1, 2, 13, 29, 30):
        assert keys(step, 30) == whole[step:]


def test_the_order_changes_with_epoch_and_seed() -> None:
    epochs = [[index for _, index in step] for step in keys(0, 6, batch_size=7)]
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert keys(0, 6, seed=1) != keys(0, 6, seed=0)


# Training batches


def test_resuming_at_a_step_gives_what_never_stopping_gives() -> None:
    options = {"seed": 3, "batch_size": 4, "steps": 6}
    whole = list(train_batches(SEVEN, AUGMENTED, **options))
    assert len(whole) == 6
    for step in (1, 4, 6):
        rest = list(train_batches(SEVEN, AUGMENTED, start_step=step, **options))
        assert len(rest) == 6 - step
        for ours, theirs in zip(rest, whole[step:], strict=True):
            assert_same(ours, theirs)


def test_workers_change_nothing() -> None:
    options = {"seed": 3, "batch_size": 3, "steps": 5, "multiple": 16}
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # workers have one; the bits must not depend on it
    try:
        alone = list(train_batches(SEVEN, AUGMENTED, **options))
    finally:
        torch.set_num_threads(threads)
    helped = list(train_batches(SEVEN, AUGMENTED, num_workers=2, **options))
    for ours, theirs in zip(helped, alone, strict=True):
        assert_same(ours, theirs)


def test_the_number_of_threads_changes_no_bit_and_is_put_back() -> None:
    # Large enough for PyTorch to split its sums and products among threads.
    dataset = Noise([(300, 300)])
    data = DataConfig(
        normalize="image", augment=AugmentConfig(contrast=0.3, saturation=0.3, elastic=5, rotate=9)
    )
    before = torch.get_num_threads()
    images = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            images.append(PreparedDataset(dataset, data)[0, 0].image)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], images[2])


def test_an_image_is_augmented_alike_whatever_batch_it_is_in() -> None:
    def images(batch_size: int, steps: int) -> dict[str, torch.Tensor]:
        batches = train_batches(SEVEN, AUGMENTED, seed=0, batch_size=batch_size, steps=steps)
        return {
            name: image
            for batch in batches
            for name, image in zip(batch.names, batch.image, strict=True)
        }

    one_by_one, together = images(1, 7), images(7, 1)
    assert one_by_one.keys() == together.keys() == {f"noise{i}" for i in range(7)}
    assert all(torch.equal(one_by_one[name], together[name]) for name in together)


def test_augmentation_differs_between_epochs_images_and_seeds() -> None:
    flat = DataConfig(augment=AugmentConfig(brightness=0.9))
    data = PreparedDataset(SEVEN, flat, seed=0)
    other = PreparedDataset(SEVEN, flat, seed=1)
    ratios = {
        float(augmented.image.add(2).mean() / plain.image.add(2).mean())
        for augmented, plain in (
            (data[0, 0], data[0]),
            (data[1, 0], data[0]),
            (data[0, 1], data[1]),
            (other[0, 0], data[0]),
        )
    }
    assert len(ratios) == 4


def test_loading_draws_nothing_from_the_global_generators() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    list(train_batches(SEVEN, AUGMENTED, seed=0, batch_size=2, steps=2))
    list(eval_batches(SEVEN, AUGMENTED, batch_size=2))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


# Evaluation batches


def test_evaluation_sees_every_image_once_in_order_and_as_it_is() -> None:
    batches = list(eval_batches(SEVEN, AUGMENTED, batch_size=3))
    assert [len(batch.names) for batch in batches] == [3, 3, 1]
    assert [name for batch in batches for name in batch.names] == [f"noise{i}" for i in range(7)]
    plain = PreparedDataset(SEVEN, AUGMENTED)
    assert torch.equal(batches[1].image[2], plain[5].image)
    assert batches[0].image.shape[2:] == (24, 20)  # no random crop


def test_evaluation_pads_to_the_stride_and_never_to_a_neighbour() -> None:
    sizes = [(8, 8), (8, 8), (8, 8), (9, 8), (8, 8), (20, 17)]
    batches = list(eval_batches(Noise(sizes), DataConfig(), batch_size=2, multiple=4))
    assert [batch.sizes for batch in batches] == [
        ((8, 8), (8, 8)),
        ((8, 8),),
        ((9, 8),),
        ((8, 8),),
        ((20, 17),),
    ]
    assert [tuple(batch.image.shape[2:]) for batch in batches] == [
        *((8, 8), (8, 8), (12, 8), (8, 8), (20, 20)),
    ]


def test_evaluation_with_workers_keeps_the_order() -> None:
    alone = list(eval_batches(SEVEN, AUGMENTED, batch_size=3))
    helped = list(eval_batches(SEVEN, AUGMENTED, batch_size=3, num_workers=2))
    for ours, theirs in zip(helped, alone, strict=True):
        assert_same(ours, theirs)


class Damaged(Noise):
    """Sample 2 cannot be read."""

    def __getitem__(self, index: int) -> Sample:
        if index == 2:
            raise SegError("c.png: is broken.\nSecond line.")
        return super().__getitem__(index)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_arrives_as_it_was_raised_and_after_what_came_before(num_workers: int) -> None:
    batches = eval_batches(Damaged([(8, 8)] * 3), PLAIN, batch_size=1, num_workers=num_workers)
    assert next(batches).names == ("noise0",)
    with pytest.raises(SegError) as error:
        list(batches)
    assert str(error.value) == "c.png: is broken.\nSecond line."


def test_samples_that_do_not_fit_together_are_told_as_they_are() -> None:
    class Mixed(Noise):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return sample._replace(image=sample.image[:1]) if index else sample

    with pytest.raises(SegError) as error:
        list(train_batches(Mixed([(8, 8)] * 2), PLAIN, seed=0, batch_size=2, steps=1))
    assert str(error.value).startswith(("noise0: image has ", "noise1: image has "))


def test_empty_data_is_refused_before_the_first_batch() -> None:
    with pytest.raises(SegError, match="The training data has no samples"):
        train_batches(Noise([]), DataConfig(), seed=0, batch_size=2, steps=1)
    with pytest.raises(SegError, match="The data to evaluate has no samples"):
        eval_batches(Noise([]), DataConfig(), batch_size=2)
    with pytest.raises(SegError, match="batch_size=0 must be at least 1"):
        train_batches(SEVEN, DataConfig(), seed=0, batch_size=0, steps=1)
    with pytest.raises(SegError, match="batch_size=0 must be at least 1"):
        eval_batches(SEVEN, DataConfig(), batch_size=0)
