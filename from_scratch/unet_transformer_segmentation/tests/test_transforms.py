"""Transforms: image and mask stay aligned, nothing changes unasked, the numbers are as stated.

Alignment is measured, not looked at: in `ramp` the image's colour is the position of each pixel and
the mask is the pixel's number, so after any transform one can be checked against the other.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unet_seg.config import AugmentConfig, DataConfig
from unet_seg.data.sample import IGNORE, Sample
from unet_seg.data.transforms import (
    GREY,
    adjust_colour,
    augment,
    crop,
    draw,
    hflip,
    normalize,
    prepare,
    resize,
    vflip,
    warp,
)
from unet_seg.errors import SegError
from unet_seg.seed import generator_for

EVERYTHING = AugmentConfig(
    crop=(24, 20),
    hflip=0.5,
    vflip=0.5,
    rotate=180,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    elastic=2,
    elastic_grid=5,
)


def ramp(height: int = 15, width: int = 13) -> Sample:
    """Image channels: column and row of the pixel's centre over the size; mask: its number."""
    y_H, x_W = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    x_HW, y_HW = x_W.expand(height, width) / width, y_H[:, None].expand(height, width) / height
    number = torch.arange(height * width, dtype=torch.uint8).view(height, width)
    return Sample(torch.stack([x_HW, y_HW, torch.zeros(height, width)]), number, "ramp")


def misalignment(moved: Sample, height: int = 15, width: int = 13) -> Tensor:
    """Distance (2, pixels) between where image and mask of a moved `ramp` say a pixel came from."""
    counted = moved.mask != IGNORE
    number = moved.mask[counted].long()
    from_image = moved.image[:2, counted] * torch.tensor([[width], [height]])
    from_mask = torch.stack([number % width, number // width]) + 0.5
    return (from_image - from_mask).abs()


def blobs(height: int = 48, width: int = 40) -> Sample:
    """Eight classes in smooth regions; the three bits of the class are the three channels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 8, 5, 4, generator=generator)
    mask = F.interpolate(coarse, (height, width), mode="bicubic")[0].argmax(0).to(torch.uint8)
    bits = torch.stack([(mask >> bit) & 1 for bit in range(3)])
    return Sample(bits * 255, mask, "blobs")


def noise(height: int = 12, width: int = 10, channels: int = 3) -> Sample:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (channels, height, width), generator=generator)
    mask = torch.randint(0, 5, (height, width), generator=generator)
    return Sample(image.to(torch.uint8), mask.to(torch.uint8), "noise")


def same(a: Sample, b: Sample) -> bool:
    return a.name == b.name and torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask)


# Alignment


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(rotate=180),
        AugmentConfig(elastic=2, elastic_grid=5),
        AugmentConfig(crop=(8, 9), crop_scale=(1, 1)),
        AugmentConfig(crop=(20, 30), crop_scale=(1, 1)),
        AugmentConfig(crop=(9, 8), crop_scale=(0.4, 3)),
        AugmentConfig(crop=(9, 8), hflip=0.5, vflip=0.5, rotate=45, elastic=1.5),
    ],
    ids=["rotate", "elastic", "crop", "large crop", "zoom", "all"],
)
def test_every_pixel_of_image_and_mask_comes_from_the_same_place(config: AugmentConfig) -> None:
    for seed in range(20):
        moved = augment(ramp(), config, generator_for(seed))
        distance = misalignment(moved)
        assert distance.shape[1] > 20  # the check looked at something
        assert distance.max() <= 0.5 + 1e-3  # the mask's pixel is the one that holds the position


def test_the_alignment_check_notices_a_shift_of_a_tenth_of_a_pixel() -> None:
    moved = warp(ramp(), (30, 26), centre=(7.5, 6.5), zoom=2.2)
    shifted = warp(ramp(), (30, 26), centre=(7.5, 6.6), zoom=2.2)
    assert misalignment(moved).max() <= 0.5 + 1e-3
    assert misalignment(moved._replace(image=shifted.image)).max() > 0.55


@pytest.mark.parametrize("size", [(30, 26), (37, 21), (11, 9), (8, 30)])
def test_resize_keeps_image_and_mask_aligned(size: tuple[int, int]) -> None:
    resized = resize(ramp(), size)
    assert resized.mask.shape == size
    inner = Sample(resized.image[:, 2:-2, 2:-2], resized.mask[2:-2, 2:-2], "inner")
    assert misalignment(inner).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("size", [(48, 40), (96, 80), (32, 24)])
def test_colours_that_stand_for_classes_still_do_after_everything(size: tuple[int, int]) -> None:
    # Colour jitter would change the code on purpose, so it is off.
    config = AugmentConfig(crop=(24, 20), hflip=0.5, vflip=0.5, rotate=180, elastic=2)
    for seed in range(10):
        moved = augment(resize(blobs(), size), config, generator_for(seed))
        pure = ((moved.image - moved.image.round()).abs() < 1e-3).all(0) & (moved.mask != IGNORE)
        bits = moved.image.round().long()
        decoded = bits[0] + 2 * bits[1] + 4 * bits[2]
        assert pure.float().mean() > 0.25  # the check looked at something
        assert torch.equal(decoded[pure], moved.mask[pure].long())


# Nothing changes unasked


def test_settings_that_change_nothing_return_the_sample_itself() -> None:
    sample = noise()
    assert augment(sample, AugmentConfig(), generator_for(0)) is sample
    assert resize(sample, (12, 10)) is sample
    assert crop(sample, 0, 0, (12, 10)) is sample
    assert adjust_colour(sample) is sample
    own_size = AugmentConfig(crop=(12, 10), crop_scale=(1, 1))
    assert augment(sample, own_size, generator_for(0)) is sample


def test_a_warp_that_moves_nothing_keeps_pixels_up_to_rounding() -> None:
    sample = noise()
    still = warp(sample, (12, 10), centre=(6, 5))
    assert torch.equal(still.mask, sample.mask)
    torch.testing.assert_close(still.image, sample.image / 255, atol=1e-5, rtol=0)


@pytest.mark.parametrize("as_float", [False, True])
def test_no_transform_writes_into_its_input(as_float: bool) -> None:
    sample = noise(30, 28)
    if as_float:
        sample = sample._replace(image=sample.image / 255)
    copy = Sample(sample.image.clone(), sample.mask.clone(), sample.name)
    for normalization in ("fixed", "image"):
        data = DataConfig(augment=EVERYTHING, normalize=normalization)  # type: ignore[arg-type]
        for seed in range(5):
            prepare(sample, data, generator_for(seed))
        prepare(sample, data)
    assert same(sample, copy)


def test_flips_mirror_and_undo_themselves() -> None:
    sample = noise()
    for flip, axis in ((hflip, -1), (vflip, -2)):
        assert same(flip(flip(sample)), sample)
        first = flip(sample).mask.select(axis, 0)
        assert torch.equal(first, sample.mask.select(axis, -1))
        assert not same(flip(sample), sample)


@pytest.mark.parametrize("name", ["hflip", "vflip"])
def test_a_probability_of_one_always_flips(name: str) -> None:
    config, flip = AugmentConfig(**{name: 1.0}), {"hflip": hflip, "vflip": vflip}[name]
    assert all(
        same(augment(noise(), config, generator_for(seed)), flip(noise())) for seed in range(20)
    )


# Geometry


def test_a_plain_crop_copies_pixels_and_reaches_every_place() -> None:
    sample, config = noise(), AugmentConfig(crop=(8, 8), crop_scale=(1, 1))
    windows = [crop(sample, top, left, (8, 8)) for top in range(5) for left in range(3)]
    found = set()
    for seed in range(200):
        cut = augment(sample, config, generator_for(seed))
        assert cut.image.dtype == torch.uint8
        found.add(next(i for i, window in enumerate(windows) if same(cut, window)))
    assert len(found) == len(windows)


def test_a_crop_larger_than_the_image_holds_all_of_it_and_ignores_the_rest() -> None:
    sample, config = ramp(), AugmentConfig(crop=(20, 30), crop_scale=(1, 1))
    for seed in range(20):
        large = augment(sample, config, generator_for(seed))
        counted = large.mask[large.mask != IGNORE]
        assert torch.equal(counted.view(15, 13), sample.mask)
    corner = crop(sample, -2, -3, (18, 17))
    assert torch.equal(corner.image[:, :3, :4], sample.image[:, :1, :1].expand(3, 3, 4))
    assert (corner.mask[:2] == IGNORE).all()
    assert (corner.mask[:, :3] == IGNORE).all()
    assert torch.equal(corner.mask[2:17, 3:16], sample.mask)


def test_crop_and_warp_agree_on_whole_pixels_inside_and_beyond() -> None:
    sample = noise()
    for top, left in ((2, 1), (-3, 4), (7, -5)):
        cut = crop(sample, top, left, (8, 8))
        warped = warp(sample, (8, 8), centre=(top + 4, left + 4))
        assert torch.equal(warped.mask, cut.mask)
        torch.testing.assert_close(warped.image, cut.image / 255, atol=1e-5, rtol=0)


def test_rotation_by_right_angles_is_rot90_anticlockwise() -> None:
    sample = noise(12, 12)
    for quarter in (1, 2, 3, -1):
        turned = warp(sample, (12, 12), centre=(6, 6), degrees=90 * quarter)
        assert torch.equal(turned.mask, sample.mask.rot90(quarter))
        expected = sample.image.rot90(quarter, (1, 2)) / 255
        torch.testing.assert_close(turned.image, expected, atol=1e-4, rtol=0)


def test_zoom_two_is_bilinear_upsampling() -> None:
    sample = noise()
    zoomed = warp(sample, (24, 20), centre=(6, 5), zoom=2)
    expected = F.interpolate(sample.image[None] / 255, scale_factor=2, mode="bilinear")[0]
    torch.testing.assert_close(zoomed.image, expected, atol=1e-5, rtol=0)
    expected_mask = sample.mask.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(zoomed.mask, expected_mask)


def test_zoom_below_one_shows_the_whole_image_and_ignores_around_it() -> None:
    mask = warp(noise(12, 12), (12, 12), centre=(6, 6), zoom=0.5).mask
    assert (mask != IGNORE).sum() == 36
    assert (mask[3:9, 3:9] != IGNORE).all()


def test_equal_control_points_are_a_shift() -> None:
    sample = noise()
    control = torch.tensor([3.0, -2.0])[:, None, None].expand(2, 4, 4)
    moved = warp(sample, (12, 10), centre=(6, 5), control=control)
    shifted = crop(sample, 3, -2, (12, 10))
    assert torch.equal(moved.mask, shifted.mask)
    torch.testing.assert_close(moved.image, shifted.image / 255, atol=1e-4, rtol=0)


@pytest.mark.parametrize("grid", [3, 4, 8])
def test_elastic_moves_pixels_by_no_more_than_it_says(grid: int) -> None:
    config = AugmentConfig(elastic=3, elastic_grid=grid)
    moves = []
    for seed in range(10):
        image = augment(ramp(), config, generator_for(seed)).image
        moves.append((image[:2] - ramp().image[:2]).abs() * torch.tensor([13, 15])[:, None, None])
    assert 1.5 < max(float(move.max()) for move in moves) <= 3 + 1e-4
    assert all(move.max() > 0.3 for move in moves)


@pytest.mark.parametrize(("dy", "dx"), [(0, 2), (2, 0), (-1, 1.5)])
def test_displacements_are_pixels_of_the_result_and_turn_with_it(dy: float, dx: float) -> None:
    # The same everywhere, a displacement is a shift of the centre: turned (rows count downwards,
    # hence the sign), and made smaller by the zoom.
    degrees, zoom = 35.0, 2.0
    control = torch.tensor([dy, dx])[:, None, None].expand(2, 4, 4)
    moved = warp(ramp(), (6, 6), centre=(7, 6), zoom=zoom, degrees=degrees, control=control)
    turned = complex(dx, -dy) * np.exp(-1j * np.deg2rad(degrees)) / zoom
    centre = (7 - turned.imag, 6 + turned.real)
    shifted = warp(ramp(), (6, 6), centre=centre, zoom=zoom, degrees=degrees)
    torch.testing.assert_close(moved.image, shifted.image, atol=1e-5, rtol=0)


def test_the_two_flips_are_independent() -> None:
    config = AugmentConfig(hflip=0.5, vflip=0.5)
    changes = [draw((8, 8), config, generator_for(seed)) for seed in range(200)]
    both = [(change.hflip, change.vflip) for change in changes]
    assert all(30 < both.count((h, v)) < 70 for h in (True, False) for v in (True, False))


def test_draws_stay_in_their_ranges_and_fill_them() -> None:
    config = AugmentConfig(crop=(20, 20), crop_scale=(0.5, 2), rotate=30, brightness=0.2)
    changes = [draw((50, 40), config, generator_for(seed)) for seed in range(400)]
    for values, low, high in (
        ([c.zoom for c in changes], 0.5, 2),
        ([c.degrees for c in changes], -30, 30),
        ([c.brightness for c in changes], 0.8, 1.2),
    ):
        assert low <= min(values) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < max(values) <= high
    enlarged = sum(c.zoom > 1 for c in changes)
    assert 150 < enlarged < 250  # as often as shrunk
    for c in changes:
        half = 10 / c.zoom
        assert half <= c.centre[0] <= 50 - half
        assert half <= c.centre[1] <= 40 - half


def test_switching_one_thing_on_leaves_the_other_draws_as_they_were() -> None:
    flips_only = AugmentConfig(hflip=0.5, vflip=0.5, crop=(24, 20), crop_scale=(0.7, 1.4))
    for seed in range(30):
        few = draw((48, 40), flips_only, generator_for(seed))
        all_on = draw((48, 40), EVERYTHING, generator_for(seed))
        assert (few.hflip, few.vflip, few.zoom, few.centre) == (
            *(all_on.hflip, all_on.vflip, all_on.zoom, all_on.centre),
        )


def test_augmentation_is_a_function_of_the_generator() -> None:
    first, again, other = (
        augment(blobs(), EVERYTHING, generator_for(0, epoch, 3)) for epoch in (1, 1, 2)
    )
    assert same(first, again)
    assert not same(first, other)


def test_bytes_and_fractions_give_the_same_result() -> None:
    sample = noise(30, 28)
    fractions = sample._replace(image=sample.image / 255)
    data = DataConfig(augment=EVERYTHING, resize=(32, 32))
    for seed in range(5):
        a = prepare(sample, data, generator_for(seed))
        b = prepare(fractions, data, generator_for(seed))
        assert same(a, b)


# Colour and normalisation


def step_by_step(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    def grey(x: Tensor) -> Tensor:
        return (x * torch.tensor(GREY)[:, None, None]).sum(0)

    image = image * brightness
    image = grey(image).mean() + contrast * (image - grey(image).mean())
    return (grey(image) + saturation * (image - grey(image))).clamp(0, 1)


@pytest.mark.parametrize(
    "factors", [(1.3, 1, 1), (1, 0.6, 1), (1, 1, 1.7), (1, 1, 0), (1, 0, 1), (0.8, 1.4, 0.5)]
)
def test_colour_in_one_pass_is_the_three_steps(factors: tuple[float, float, float]) -> None:
    brightness, contrast, saturation = factors
    changed = adjust_colour(
        noise(), brightness=brightness, contrast=contrast, saturation=saturation
    )
    expected = step_by_step(noise().image / 255, *factors)
    torch.testing.assert_close(changed.image, expected, atol=1e-5, rtol=0)
    assert torch.equal(changed.mask, noise().mask)


def test_saturation_leaves_an_image_of_one_channel_alone() -> None:
    sample = noise(channels=1)
    assert torch.equal(adjust_colour(sample, saturation=0.2).image, sample.image / 255)
    brighter = adjust_colour(sample, brightness=1.5, saturation=0.2).image
    torch.testing.assert_close(brighter, (sample.image / 255 * 1.5).clamp(0, 1))


def test_augmented_images_stay_between_zero_and_one() -> None:
    strong = AugmentConfig(crop=(16, 16), rotate=90, elastic=3, brightness=1, contrast=1)
    for seed in range(20):
        image = augment(noise(30, 30), strong, generator_for(seed)).image
        assert 0 <= image.min() <= image.max() <= 1


def test_fixed_normalisation_is_the_configured_mean_and_deviation() -> None:
    prepared = prepare(noise(), DataConfig(mean=0.4, std=0.2))
    assert prepared.image.dtype == torch.float32
    torch.testing.assert_close(prepared.image, (noise().image / 255 - 0.4) / 0.2)


def test_image_normalisation_gives_mean_zero_and_deviation_one() -> None:
    image = normalize(noise(40, 40), DataConfig(normalize="image")).image
    assert abs(float(image.mean())) < 1e-5
    assert abs(float(image.std(correction=0)) - 1) < 1e-5
    tinted = noise(40, 40)
    tinted.image[0] //= 4
    assert normalize(tinted, DataConfig(normalize="image")).image[0].mean() < -0.5  # colour stays


def test_an_image_of_one_grey_level_becomes_zero_and_not_nan() -> None:
    flat = noise()._replace(image=torch.full((3, 12, 10), 77, dtype=torch.uint8))
    image = normalize(flat, DataConfig(normalize="image")).image
    assert image.abs().max() < 1e-4


@pytest.mark.parametrize("height", [1, 2, 7])
def test_tiny_images_survive_everything(height: int) -> None:
    sample = noise(height, 1)
    data = DataConfig(augment=EVERYTHING, resize=None, normalize="image")
    for seed in range(5):
        prepared = prepare(sample, data, generator_for(seed))
        assert prepared.mask.shape == (24, 20)
        assert torch.isfinite(prepared.image).all()
    assert prepare(sample, DataConfig(resize=(8, 8))).mask.shape == (8, 8)


def test_ignored_pixels_stay_ignored() -> None:
    sample = blobs()
    sample.mask[10:30, 10:30] = IGNORE
    config = AugmentConfig(rotate=90)
    moved = augment(sample, config, generator_for(3))
    untouched = augment(blobs(), config, generator_for(3))
    here = moved.mask == IGNORE
    assert 350 < int(here.sum() - (untouched.mask == IGNORE).sum()) < 450
    assert torch.equal(moved.mask[~here], untouched.mask[~here])


# Errors


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"image": torch.zeros(3, 12, 9)},
            r"x\.png: mask has shape \(12, 10\); axis 1 \(W\) is 10",
        ),
        ({"image": torch.zeros(1, 12, 10)}, r"x\.png: image has shape .* expected 3"),
        ({"image": torch.zeros(12, 10)}, r"x\.png: image has shape \(12, 10\), which is 2 axes"),
        ({"image": torch.full((3, 12, 10), 2.0)}, r"x\.png: image has values from 2 to 2"),
        ({"image": torch.full((3, 12, 10), np.nan)}, r"x\.png: image holds 360 values .* NaN"),
        ({"image": torch.zeros(3, 12, 10).double()}, r"x\.png: image has dtype float64"),
        ({"mask": torch.zeros(12, 10).long()}, r"x\.png: mask has dtype int64, expected uint8"),
        (
            {
                "image": torch.zeros(3, 0, 10),
                "mask": torch.zeros(0, 10, dtype=torch.uint8),
            },
            r"x\.png: the image has no pixels, its size is \(0, 10\)",
        ),
    ],
)
def test_a_sample_that_is_none_is_refused_by_name(change: dict[str, Tensor], text: str) -> None:
    sample = noise()._replace(name="x.png", **change)  # type: ignore[arg-type]
    with pytest.raises(SegError, match=text):
        prepare(sample, DataConfig())
