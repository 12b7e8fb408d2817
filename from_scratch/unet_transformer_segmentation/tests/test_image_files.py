"""Images and masks as files: every kind of PNG and JPEG we promise to read, and how it fails."""

import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from unet_seg.errors import SegError
from unet_seg.image_files import overlay, palette, read_image, read_mask, write_mask, write_png

GREY = np.array([[0, 50, 100], [150, 200, 250]], dtype=np.uint8)
RGB = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14


def refused(text):
    return pytest.raises(SegError, match=re.escape(text))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_grey_is_repeated(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(GREY).save(path, **({"lossless": True} if suffix == "webp" else {}))

    image = read_image(path, 3)

    assert image.shape == (3, 2, 3)
    assert image.dtype == torch.uint8
    assert all(np.array_equal(channel, GREY) for channel in image.numpy())
    assert np.array_equal(read_image(path, 1).numpy(), GREY[None])


def test_rgb_keeps_its_channels_and_becomes_grey_by_luminance(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")

    assert np.array_equal(read_image(tmp_path / "a.png", 3).numpy(), RGB.transpose(2, 0, 1))
    grey = read_image(tmp_path / "a.png", 1)
    assert grey.shape == (1, 2, 3)
    assert np.abs(grey[0].numpy() - RGB @ [0.299, 0.587, 0.114]).max() <= 0.5


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped(tmp_path, mode):
    Image.fromarray(GREY).convert(mode).save(tmp_path / "opaque.png")
    image = Image.fromarray(GREY).convert(mode)
    image.putalpha(0)
    image.save(tmp_path / "a.png")

    assert np.array_equal(read_image(tmp_path / "a.png", 3).numpy(), np.stack([GREY] * 3))
    assert np.array_equal(read_mask(tmp_path / "a.png"), GREY)


def test_palette_file_is_read_by_colour_as_image_and_by_index_as_mask(tmp_path):
    ids = np.array([[0, 1, 2], [2, 1, 255]])
    write_mask(tmp_path / "m.png", ids, palette(3))

    assert np.array_equal(read_mask(tmp_path / "m.png"), ids)
    colours = read_mask(tmp_path / "m.png", colours=True)
    assert np.array_equal(colours[0], palette(3))
    assert np.array_equal(colours[1, 2], [255, 255, 255])  # no colour of its own: white
    assert np.array_equal(read_image(tmp_path / "m.png", 3).numpy(), colours.transpose(2, 0, 1))


def test_palette_with_transparency_bytes_is_read_without_a_warning(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))

    assert read_image(tmp_path / "a.png", 3)[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60]]


def test_one_bit_is_0_and_255_as_image_and_0_and_1_as_mask(tmp_path):
    bits = np.array([[True, False], [False, True]])
    Image.fromarray(bits).save(tmp_path / "a.png")

    assert np.array_equal(read_image(tmp_path / "a.png", 1)[0].numpy(), bits * 255)
    assert np.array_equal(read_mask(tmp_path / "a.png"), bits * 1)
    assert read_mask(tmp_path / "a.png", colours=True)[0].tolist() == [[255] * 3, [0] * 3]


def test_16_bit_grey_is_scaled_as_image_and_kept_as_mask(tmp_path):
    wide = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png")

    assert read_image(tmp_path / "a.png", 1).flatten().tolist() == [0, 1, 128, 255]
    assert np.array_equal(read_mask(tmp_path / "a.png"), wide)


def test_a_camera_turned_on_its_side_is_turned_back(tmp_path):
    upright = np.zeros((16, 24), dtype=np.uint8)
    upright[:8] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # the file is to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "a.jpg", exif=exif, quality=95)

    image = read_image(tmp_path / "a.jpg", 1)[0].numpy().astype(int)

    assert image.shape == (16, 24)
    assert np.abs(image - upright).max() <= 3


def test_arrays_of_floats_stay_floats(tmp_path):
    values = np.random.default_rng(0).random((4, 5, 3))
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "grey.npy", values[:, :, :1])
    np.save(tmp_path / "bytes.npy", RGB)

    image = read_image(tmp_path / "a.npy", 3)
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image.numpy(), values.transpose(2, 0, 1), rtol=1e-6)
    assert read_image(tmp_path / "a.npy", 1).shape == (1, 4, 5)
    assert read_image(tmp_path / "a.npy", 1).dtype == torch.float32
    assert read_image(tmp_path / "grey.npy", 3).shape == (3, 4, 5)
    assert read_image(tmp_path / "bytes.npy", 3).dtype == torch.uint8


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_tensor_has_memory_of_its_own(tmp_path, mode, channels):
    Image.fromarray(GREY).convert(mode).save(tmp_path / "a.png")

    image = read_image(tmp_path / "a.png", channels)
    image[0] += 1  # fails or warns if the memory is Pillow's or shared between channels

    if channels == 3:
        assert np.array_equal(image[1].numpy(), GREY)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (
            np.array([[0.5, np.nan]]),
            "1 of 2 values are NaN or infinite; expected",
        ),
        (np.array([[0.5, 3.0]]), "floats from 0.5 to 3, expected [0, 1]"),
        (np.zeros((2, 2, 7)), "has shape (2, 2, 7), expected (H, W)"),
        (np.zeros((0, 2)), "has shape (0, 2), expected (H, W)"),
        (np.zeros((2, 2), dtype=np.int32), "holds int32, expected uint8, or floats in [0, 1]"),
    ],
)
def test_arrays_that_are_no_image(tmp_path, array, text):
    np.save(tmp_path / "a.npy", array)
    with refused(f"a.npy: {text}"):
        read_image(tmp_path / "a.npy", 1)


@pytest.mark.parametrize("read", [lambda path: read_image(path, 3), read_mask])
@pytest.mark.parametrize("name", ["a.png", "a.npy"])
def test_files_that_cannot_be_read(tmp_path, read, name):
    path = tmp_path / name
    with refused(f"{path}: no such file."):
        read(path)
    path.write_bytes(b"not an image")
    with refused(f"{path}: is not a"):
        read(path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with refused(f"{path}: is broken or truncated ("):
        read_image(path, 3)


def test_a_broken_chunk(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(data)
    with refused(f"{path}: is broken or truncated ("):
        read_image(path, 3)


def test_a_folder_is_not_an_image(tmp_path):
    with refused(f"{tmp_path}: cannot be opened ("):
        read_image(tmp_path, 3)


def test_grey_values_beyond_16_bits(tmp_path):
    Image.fromarray(np.array([[70000, 0]], dtype=np.int32)).save(tmp_path / "a.tif")
    with refused("a.tif: has grey values 0 to 70000, expected 8 or 16 bits. Scale it to"):
        read_image(tmp_path / "a.tif", 1)


def test_float_tiffs(tmp_path):
    Image.fromarray(np.array([[0.5, 0]], dtype=np.float32)).save(tmp_path / "a.tif")
    with refused("a.tif: holds floats; save them as .npy in [0, 1]."):
        read_image(tmp_path / "a.tif", 1)
    with refused("a.tif: holds floats; a mask holds whole numbers or colours."):
        read_mask(tmp_path / "a.tif")


def test_other_numbers_of_channels(tmp_path):
    with refused("a.png: channels=2; an image is read with 1 (grey) or 3 (RGB)."):
        read_image(tmp_path / "a.png", 2)


def test_a_coloured_mask_needs_colours_in_the_class_map(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "m.png")
    with refused("m.png: is a picture in colours, but class_map gives numbers. Name the colours"):
        read_mask(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", colours=True), RGB)


def test_a_grey_mask_saved_as_rgb_is_grey(tmp_path):
    Image.fromarray(GREY).convert("RGB").save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), GREY)


def test_masks_as_arrays(tmp_path):
    np.save(tmp_path / "ids.npy", np.array([[0, 300]]))
    np.save(tmp_path / "bits.npy", np.array([[True, False]]))
    np.save(tmp_path / "floats.npy", np.array([[0.5]]))

    assert read_mask(tmp_path / "ids.npy").tolist() == [[0, 300]]
    assert read_mask(tmp_path / "bits.npy").tolist() == [[1, 0]]
    with refused("floats.npy: holds float64 of shape (1, 1), expected whole numbers (H, W)"):
        read_mask(tmp_path / "floats.npy")
    with refused("ids.npy: has no 8-bit colours, but class_map gives colours; name numbers there."):
        read_mask(tmp_path / "ids.npy", colours=True)


def test_write_png_returns_the_same_pixels(tmp_path):
    for array in (GREY, RGB, RGB[:, ::-1]):
        write_png(tmp_path / "a.png", array)
        with Image.open(tmp_path / "a.png") as file:
            assert np.array_equal(np.asarray(file), array)


def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_png(tmp_path / "a.png", GREY)
    before = (tmp_path / "a.png").read_bytes()

    def stop(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_png(tmp_path / "a.png", 255 - GREY)

    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_writing_into_a_folder_that_is_not_there(tmp_path):
    with refused("a.png: cannot be written (No such file or directory)."):
        write_png(tmp_path / "absent" / "a.png", GREY)


def test_palette_colours_are_distinct():
    colours = palette(255).astype(int)

    assert colours.shape == (255, 3)
    assert palette(255).dtype == np.uint8
    assert len({tuple(c) for c in colours}) == 255
    assert colours[0].tolist() == [0, 0, 0]
    apart = np.abs(colours[:16, None] - colours[None, :16]).sum(axis=2) + 999 * np.eye(16)
    assert apart.min() >= 120
    assert np.array_equal(palette(5), palette(255)[:5])


def test_overlay_colours_regions_and_leaves_the_rest():
    image = np.full((7, 9), 100, dtype=np.uint8)
    mask = np.zeros((7, 9), dtype=np.uint8)
    mask[1:6, 1:6] = 1
    mask[:, 8] = 255

    shown = overlay(image, mask, palette(2), alpha=0.5)

    assert shown.shape == (7, 9, 3)
    assert shown.dtype == np.uint8
    assert (shown[0] == 100).all()  # background
    assert (shown[:, 8] == 100).all()  # ignored
    assert np.array_equal(shown[1, 1], palette(2)[1])  # outline
    assert np.array_equal(shown[3, 3], np.rint(50 + palette(2)[1] / 2))  # inside
    assert np.array_equal(overlay(np.dstack([image] * 3), mask, palette(2), alpha=0.5), shown)


def test_overlay_of_another_size():
    with refused("overlay: the image is 7x9, the mask 9x7; they must be equal."):
        overlay(np.zeros((7, 9), np.uint8), np.zeros((9, 7), np.uint8), palette(2))
