"""Bringing images to squares: equal to resizing and cutting with Pillow, and bounded in memory."""

import numpy as np
import pytest
from PIL import Image

from maquette.tasks.image_text.squares import fit_square


def resized_and_cut(pixels, size):
    """The transform of the published checkpoints, step by step."""
    height, width, _ = pixels.shape
    wide, tall = (
        (size, int(size * height / width))
        if width <= height
        else (int(size * width / height), size)
    )
    image = Image.fromarray(pixels).resize((wide, tall), Image.Resampling.BICUBIC)
    left, top = round((wide - size) / 2.0), round((tall - size) / 2.0)
    return np.array(image.crop((left, top, left + size, top + size)))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(50, 80, 32), (80, 50, 32), (31, 31, 32), (200, 101, 64), (7, 9, 24), (33, 47, 32), (1, 3, 8)],
)
def test_crops_equal_resizing_and_cutting(height, width, size):
    pixels = noise(height, width)
    assert np.array_equal(fit_square(pixels, size, "crop"), resized_and_cut(pixels, size))


def test_a_square_of_the_wanted_size_is_unchanged():
    pixels = noise(16, 16)
    for fit in ("crop", "pad", "stretch"):
        assert fit_square(pixels, 16, fit) is pixels


def test_a_very_long_image_is_cut_without_being_blown_up():
    smooth = np.linspace(0, 255, 2000 * 3).reshape(1, 2000, 3).astype(np.uint8).repeat(40, axis=0)
    found = fit_square(smooth, 32, "crop")
    expected = resized_and_cut(smooth, 32)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert fit_square(np.zeros((1, 500_000, 3), np.uint8), 64, "crop").shape == (64, 64, 3)
    assert fit_square(np.zeros((500_000, 1, 3), np.uint8), 64, "crop").shape == (64, 64, 3)


def test_padding_keeps_the_whole_image_on_grey():
    found = fit_square(np.zeros((10, 20, 3), np.uint8), 20, "pad")
    assert (found[:5] == 128).all()
    assert (found[5:15] == 0).all()
    assert (found[15:] == 128).all()
    assert fit_square(np.zeros((1, 5000, 3), np.uint8), 16, "pad").shape == (16, 16, 3)


def test_stretching_shows_every_part():
    pixels = np.zeros((8, 64, 3), np.uint8)
    pixels[:, 32:] = 255
    found = fit_square(pixels, 16, "stretch")
    assert (found[:, :7] == 0).all()
    assert (found[:, 9:] == 255).all()
