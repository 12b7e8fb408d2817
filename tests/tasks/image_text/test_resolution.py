"""At which size each batch is seen: schedules, pieces, and sizes that patches do not divide."""

import numpy as np
import pytest

from maquette.data.randomness import key_of
from maquette.errors import UsageError
from maquette.recipe.image_text import SizeStep
from maquette.tasks.image_text.resolution import SizeSchedule, check_sizes

STEPS = (SizeStep(until=0.5, size=32), SizeStep(until=0.8, size=48))


def sizes_of(schedule):
    return [schedule.size_of(epoch, np.uint64(7)) for epoch in range(1, schedule.epochs + 1)]


def test_without_a_schedule_every_batch_has_the_image_size():
    schedule = SizeSchedule(image_size=64, epochs=3)
    assert sizes_of(schedule) == [64, 64, 64]
    assert schedule.sizes == (64,)
    assert list(schedule.warnings()) == []


def test_a_progressive_schedule_ends_at_the_image_size():
    schedule = SizeSchedule(image_size=64, progressive=STEPS, epochs=10)
    assert sizes_of(schedule) == [32] * 5 + [48] * 3 + [64] * 2
    assert schedule.sizes == (32, 48, 64)
    assert list(schedule.warnings()) == []


def test_a_schedule_that_never_reaches_the_image_size_is_warned_of():
    steps = (SizeStep(until=1.0, size=32),)
    schedule = SizeSchedule(image_size=64, progressive=steps, epochs=4)
    assert list(schedule.warnings()) == [
        "resolution.progressive leaves 0 of 4 epochs to image_size 64; networks are best at the "
        "size they saw last, so end the last step by until: 0.9"
    ]


def test_sizes_of_batches_are_drawn_evenly_from_seed_epoch_and_key():
    schedule = SizeSchedule(image_size=64, multi_scale=(32, 48, 64), epochs=2, seed=3)
    keys = [key_of(f"{number}.png") for number in range(600)]
    drawn = [schedule.size_of(1, key) for key in keys]
    assert drawn == [schedule.size_of(1, key) for key in keys]
    counts = np.unique(drawn, return_counts=True)[1]
    assert counts.min() > 150
    assert drawn != [schedule.size_of(2, key) for key in keys]
    other = SizeSchedule(image_size=64, multi_scale=(32, 48, 64), epochs=2, seed=4)
    assert drawn != [other.size_of(1, key) for key in keys]
    assert schedule.sizes == (32, 48, 64)
    assert list(schedule.warnings()) == []


def test_multi_scale_without_the_image_size_is_warned_of():
    schedule = SizeSchedule(image_size=64, multi_scale=(32, 48))
    assert list(schedule.warnings()) == [
        "resolution.multi_scale [32, 48] does not hold image_size 64, the size of the finished "
        "network: training never sees it"
    ]


@pytest.mark.parametrize(
    ("size", "batch_size", "expected"), [(64, 32, 32), (128, 32, 8), (32, 32, 32), (512, 32, 1)]
)
def test_larger_images_come_in_smaller_pieces(size, batch_size, expected):
    assert SizeSchedule(image_size=64).pieces(size, batch_size) == expected


def test_sizes_that_are_no_multiple_of_the_patch_are_refused_with_the_nearest():
    check_sizes([32, 64], 16)
    with pytest.raises(UsageError) as caught:
        check_sizes([64, 50, 7, 50], 16)
    assert str(caught.value) == (
        "Image sizes must be multiples of the network's patch of 16 pixels, and these of "
        "data.image_text.image_size, data.image_text.resolution or --sizes are not: "
        "7 (nearest: 16), 50 (nearest: 48)."
    )
