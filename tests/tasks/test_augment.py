"""Augmentation: a pure function of (seed, epoch, sample), and each change against arithmetic."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from maquette.data.randomness import key_of
from maquette.tasks.augment import DRAWS, ERASED_AREA, LUMA, Augmenter, affine

EVERYTHING = Augmenter(
    seed=3,
    horizontal_flip=True,
    vertical_flip=True,
    rotation_range=30,
    translate=0.2,
    scale=(0.7, 1.4),
    brightness=0.3,
    contrast=0.4,
    saturation=0.5,
    erase=0.5,
    fill=(0.4, 0.5, 0.6),
)
NOTHING = Augmenter(seed=3)


def images(count=13, height=9, width=12):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def keys(count=13):
    return np.array([key_of(f"{index}.png") for index in range(count)], dtype=np.uint64)


def whole(value):
    return np.full(1, float(value))


def moved(picture, *, degrees=0.0, zoom=1.0, shift_x=0.0, shift_y=0.0):
    return affine(
        picture,
        degrees=whole(degrees),
        zoom=whole(zoom),
        shift_x=whole(shift_x),
        shift_y=whole(shift_y),
    )


# A pure function of (seed, epoch, sample)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 12])
def test_batch_size_does_not_change_a_pixel(batch_size):
    together = EVERYTHING(images(), keys(), epoch=4)
    parts = [
        EVERYTHING(
            images()[start : start + batch_size], keys()[start : start + batch_size], epoch=4
        )
        for start in range(0, 13, batch_size)
    ]
    assert torch.equal(torch.cat(parts), together)


def test_order_and_company_do_not_change_a_pixel():
    together = EVERYTHING(images(), keys(), epoch=4)
    rows = [11, 0, 7, 7, 3]
    assert torch.equal(EVERYTHING(images()[rows], keys()[rows], epoch=4), together[rows])


def test_large_images_do_not_depend_on_the_batch_either():
    large = images(3, 96, 130)
    together = EVERYTHING(large, keys(3), epoch=0)
    for row in range(3):
        alone = EVERYTHING(large[row : row + 1], keys()[row : row + 1], epoch=0)
        assert torch.equal(alone[0], together[row])


def test_epoch_and_seed_change_every_sample():
    first = EVERYTHING(images(), keys(), epoch=4)
    for other in (
        EVERYTHING(images(), keys(), epoch=5),
        replace(EVERYTHING, seed=4)(images(), keys(), epoch=4),
    ):
        assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_one_change_does_not_disturb_another():
    flips = replace(NOTHING, horizontal_flip=True)
    with_erasing = replace(flips, erase=1.0)
    picture = images(200)
    flipped = flips(picture, keys(200), epoch=0)
    erased = with_erasing(picture, keys(200), epoch=0)
    hidden = (erased == 0.5).all(dim=1, keepdim=True)
    assert torch.equal(erased, torch.where(hidden, torch.tensor(0.5), flipped))


def test_the_input_is_left_alone():
    given = images()
    EVERYTHING(given, keys(), epoch=0)
    assert torch.equal(given, images())


def test_nothing_asked_is_nothing_done():
    assert torch.equal(NOTHING(images(), keys(), epoch=0), images())


def test_colours_stay_in_range():
    changed = EVERYTHING(images(50), keys(50), epoch=0)
    assert changed.dtype == torch.float32
    assert changed.min() >= 0
    assert changed.max() <= 1


# Each change


@pytest.mark.parametrize(("name", "axis"), [("horizontal_flip", 3), ("vertical_flip", 2)])
def test_half_of_the_images_are_mirrored(name, axis):
    picture = images(400)
    changed = replace(NOTHING, **{name: True})(picture, keys(400), epoch=0)
    is_mirrored = torch.tensor([torch.equal(a, b) for a, b in zip(changed, picture.flip(axis), strict=True)])  # fmt: skip  # noqa: E501
    is_same = torch.tensor([torch.equal(a, b) for a, b in zip(changed, picture, strict=True)])
    assert torch.equal(is_mirrored, ~is_same)
    assert 160 < int(is_mirrored.sum()) < 240  # 200 ± 4 standard deviations


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, -1)])
def test_a_right_angle_is_exact_and_counter_clockwise(degrees, turns):
    picture = images(1, 8, 8)
    expected = torch.rot90(picture, turns, dims=(2, 3))
    torch.testing.assert_close(moved(picture, degrees=degrees), expected, rtol=0, atol=1e-5)


def test_a_turn_keeps_shapes_when_the_image_is_not_square():
    picture = torch.zeros(1, 3, 9, 21)
    picture[:, :, 4, 8:13] = 1  # a bar of five across the middle
    turned = moved(picture, degrees=90)
    expected = torch.zeros(1, 3, 9, 21)
    expected[:, :, 2:7, 10] = 1
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-5)


def test_a_shift_moves_right_and_down_and_continues_the_edge():
    picture = images(1, 8, 10)
    shifted = moved(picture, shift_x=0.2, shift_y=0.25)
    torch.testing.assert_close(shifted[:, :, 2:, 2:], picture[:, :, :-2, :-2], rtol=0, atol=1e-5)
    torch.testing.assert_close(shifted[:, :, 2:, 0], picture[:, :, :-2, 0], rtol=0, atol=1e-5)


def test_zoom_enlarges_about_the_centre():
    picture = torch.zeros(1, 3, 12, 12)
    picture[:, :, 5:7, 5:7] = 1
    torch.testing.assert_close(moved(picture, zoom=1.0), picture, rtol=0, atol=1e-5)
    for zoom in (2.0, 3.0):
        area = moved(picture, zoom=zoom)[0, 0].sum() / 4
        assert abs(float(area) - zoom**2) < 0.01


def test_the_map_is_that_of_an_affine_matrix():
    """Against PyTorch's own grid: source = zoom⁻¹ · turn⁻¹ · (point - shift), in pixels."""
    picture, (height, width) = images(1, 14, 20), (14, 20)
    degrees, zoom, shift_x, shift_y = 25.0, 1.3, 0.1, -0.15
    turn = np.deg2rad(degrees)
    back = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / zoom
    half = np.diag([width / 2, height / 2])  # from [-1, 1] to pixels about the centre
    linear = np.linalg.inv(half) @ back @ half
    constant = np.linalg.inv(half) @ back @ -np.array([shift_x * width, shift_y * height])
    matrix = torch.tensor(np.column_stack([linear, constant]), dtype=torch.float32)[None]
    grid = F.affine_grid(matrix, [1, 3, height, width], align_corners=False)
    expected = F.grid_sample(picture, grid, padding_mode="border", align_corners=False)
    found = moved(picture, degrees=degrees, zoom=zoom, shift_x=shift_x, shift_y=shift_y)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_placements_fill_their_ranges_evenly():
    numbers = np.random.default_rng(0).random((5000, len(DRAWS)))
    placement = EVERYTHING._placement(dict(zip(DRAWS, numbers.T, strict=True)))
    for name, low, high in [
        ("degrees", -30, 30),
        ("zoom", 0.7, 1.4),
        ("shift_x", -0.2, 0.2),
        ("shift_y", -0.2, 0.2),
    ]:
        spread = high - low
        assert low <= placement[name].min() < low + 0.01 * spread
        assert high - 0.01 * spread < placement[name].max() < high
        assert abs(placement[name].mean() - (low + high) / 2) < 0.02 * spread


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_recolouring_is_its_formula(name):
    fill = (0.4, 0.5, 0.6)
    picture = 0.3 + 0.3 * images(40)
    changed = replace(NOTHING, fill=fill, **{name: 0.2})(picture, keys(40), epoch=0)
    fixed = {
        "brightness": torch.zeros(()),
        "contrast": torch.tensor(fill).view(1, 3, 1, 1),
        "saturation": (picture * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True),
    }[name]
    factor = ((changed - fixed) / (picture - fixed)).flatten(1).median(dim=1).values
    assert 0.8 <= factor.min() < 0.85
    assert 1.15 < factor.max() <= 1.2
    expected = fixed + (picture - fixed) * factor.view(-1, 1, 1, 1)
    torch.testing.assert_close(changed, expected, rtol=0, atol=1e-5)


def test_erasing_hides_one_rectangle_of_the_stated_size():
    picture = images(300, 40, 50)
    fill = (0.4, 0.5, 0.6)
    changed = replace(NOTHING, erase=0.5, fill=fill)(picture, keys(300), epoch=0)
    hidden = (changed == torch.tensor(fill).view(1, 3, 1, 1)).all(dim=1)  # (300, 40, 50)
    share = hidden.float().mean(dim=(1, 2))
    assert 115 < int((share > 0).sum()) < 185  # 150 ± 4 standard deviations
    erased = share[share > 0]
    assert erased.min() > ERASED_AREA[0] * 0.8  # sides are whole pixels
    assert erased.max() < ERASED_AREA[1] * 1.1
    for mask in hidden[share > 0]:
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        assert mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
    assert torch.equal(changed[~hidden[:, None].expand_as(changed)], picture[~hidden[:, None].expand_as(picture)])  # fmt: skip  # noqa: E501


def test_a_batch_of_none():
    assert EVERYTHING(images(0), keys(0), epoch=0).shape == (0, 3, 9, 12)
