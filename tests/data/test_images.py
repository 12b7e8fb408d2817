"""The image decoder: every format and mode against Pillow or arithmetic, every refusal by text."""

import io
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from maquette.data.images import (
    FORMATS,
    ImageError,
    decode_image,
    encode_png,
    format_of,
    open_image,
    resize,
    rgb_pixels,
)
from maquette.errors import DataError

LOSSLESS = {
    "PNG": {},
    "WebP": {"lossless": True},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
}


def picture(height=6, width=9, channels=3):
    """Pixels that differ everywhere."""
    count = height * width * channels
    pixels = (np.arange(count) * 37 % 251).astype(np.uint8).reshape(height, width, channels)
    return pixels if channels > 1 else pixels[:, :, 0]


def saved(image, format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format=format, **options)
    return stream.getvalue()


def bands(mode, pixels):
    return Image.merge(mode, [Image.fromarray(pixels[:, :, i]) for i in range(pixels.shape[2])])


def decode(content, max_pixels=10_000):
    return decode_image(content, max_pixels=max_pixels)


def bomb(width, height):
    """A whole PNG header that claims any size, with no pixels behind it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )  # fmt: skip


# What is read


@pytest.mark.parametrize(("format", "options"), LOSSLESS.items())
def test_lossless_formats_give_the_pixels_back(format, options):
    pixels = picture()
    content = saved(Image.fromarray(pixels), format, **options)
    assert format_of(content) == format
    np.testing.assert_array_equal(decode(content), pixels)


def test_jpeg_is_what_pillow_gives():
    content = saved(Image.fromarray(picture(16, 16)), "JPEG", quality=90)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(decode(content), expected)


def test_a_single_frame_gif_is_read():
    content = saved(Image.fromarray(picture(channels=1)), "GIF")
    np.testing.assert_array_equal(decode(content)[:, :, 1], picture(channels=1))


def test_a_path_and_its_bytes_give_the_same(tmp_path):
    content = saved(Image.fromarray(picture()))
    path = tmp_path / "misnamed.jpg"
    path.write_bytes(content)
    np.testing.assert_array_equal(decode(path), decode(content))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    # How a camera lies for each value (EXIF 2.3, tag 274): the inverse of what a viewer does.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    for format in ("PNG", "TIFF"):
        content = saved(Image.fromarray(np.ascontiguousarray(stored)), format, exif=exif)
        np.testing.assert_array_equal(decode(content), upright)


def test_damaged_exif_does_not_cost_the_picture():
    content = saved(
        Image.fromarray(picture()), "WebP", lossless=True, exif=b"Exif\0\0MM\0*\xff\xff"
    )
    np.testing.assert_array_equal(decode(content), picture())


def test_alpha_is_laid_on_white():
    pixels = picture(channels=4)
    alpha = pixels[:, :, 3:].astype(float) / 255
    expected = pixels[:, :, :3] * alpha + 255 * (1 - alpha)
    found = decode(saved(Image.fromarray(pixels)))
    np.testing.assert_allclose(found, expected, atol=1)


def test_grey_with_alpha_is_laid_on_white():
    pixels = np.array([[[0, 0], [0, 255], [100, 0], [100, 255]]], dtype=np.uint8)
    found = decode(saved(bands("LA", pixels)))
    assert found[0, :, 0].tolist() == [255, 0, 255, 100]


def test_a_transparent_palette_entry_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    opaque, clear = saved(image), saved(image, transparency=0)
    assert decode(opaque).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert decode(clear).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_a_transparent_colour_is_white():
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    assert decode(saved(image, transparency=(1, 2, 3))).tolist() == [[[255, 255, 255], [4, 5, 6]]]


def test_grey_and_one_bit_repeat_in_three_channels():
    grey = picture(channels=1)
    np.testing.assert_array_equal(
        decode(saved(Image.fromarray(grey))), np.repeat(grey[:, :, None], 3, axis=2)
    )
    bits = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert("1")
    for format in ("PNG", "TIFF", "BMP"):
        assert decode(saved(bits, format))[:, :, 0].tolist() == [[0, 255], [255, 0]]


def test_sixteen_bit_grey_is_scaled_in_both_byte_orders():
    values = np.array([[0, 128, 129, 257], [65535, 65278, 32768, 1000]], dtype=np.uint16)
    expected = np.round(values / 257).astype(np.uint8)
    little = saved(Image.fromarray(values), "TIFF")
    png = saved(Image.fromarray(values), "PNG")
    big = saved(Image.frombytes("I;16B", (4, 2), values.astype(">u2").tobytes()), "TIFF")
    modes = [Image.open(io.BytesIO(content)).mode for content in (little, png, big)]
    assert modes == ["I;16", "I;16", "I;16B"]
    for content in (little, png, big):
        found = decode(content)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, np.repeat(expected[:, :, None], 3, axis=2))


def test_sixteen_bit_rgb_keeps_its_upper_bytes():
    deep = np.array([[[0x1234, 0xFF00, 0x00FF]]] * 2, dtype=">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 1, 2, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]  # fmt: skip  # noqa: E501
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    assert decode(content)[0, 0].tolist() == [0x12, 0xFF, 0x00]


def test_cmyk_is_converted():
    ink = np.zeros((2, 2, 4), dtype=np.uint8)
    ink[0, 0] = (0, 255, 255, 0)  # no cyan: red
    content = saved(bands("CMYK", ink), "TIFF")
    assert decode(content)[0].tolist() == [[255, 0, 0], [255, 255, 255]]


def test_a_phones_jpeg_with_a_second_picture_is_its_first():
    first = Image.fromarray(picture(16, 16))
    content = saved(first, "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))])
    assert Image.open(io.BytesIO(content)).n_frames == 2
    np.testing.assert_allclose(decode(content), decode(saved(first, "JPEG")), atol=0)


def test_pillow_images_are_taken_too():
    np.testing.assert_array_equal(rgb_pixels(Image.fromarray(picture()), max_pixels=99), picture())


def test_encode_png_is_undone_by_decode():
    np.testing.assert_array_equal(decode(encode_png(picture())), picture())


# What is refused


def refusal(content, **options):
    with pytest.raises(ImageError) as caught:
        decode(content, **options)
    assert isinstance(caught.value, DataError)
    assert str(caught.value) == f"The image {caught.value.reason}."
    return caught.value.reason


def test_an_empty_file():
    assert refusal(b"") == "is empty (0 bytes)"


def test_not_an_image():
    assert refusal(b"hello, world") == (
        "is not an image Maquette reads: it begins with b'hello, w', which is none of "
        "JPEG, PNG, WebP, BMP, TIFF, GIF"
    )


def test_a_single_pixel():
    content = saved(Image.new("RGB", (1, 1)))
    assert refusal(content) == "is 1 × 1 pixel: there is no picture to learn from"


def test_a_thin_image_is_fine():
    assert decode(saved(Image.new("RGB", (5, 1)))).shape == (1, 5, 3)


@pytest.mark.parametrize("side", [5_000, 12_000, 60_000])
def test_a_bomb_is_refused_before_decoding(side):
    # Below, above and far above the limits at which Pillow itself warns and raises.
    assert refusal(bomb(side, side), max_pixels=1_000_000) == (
        f"has {side} × {side} = {side * side} pixels, more than max_pixels=1000000; "
        "it was refused before decoding"
    )


def test_a_bomb_that_only_pillow_sees():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = bytearray(saved(frames[0], "WebP", save_all=True, append_images=frames[1:]))
    assert content[12:16] == b"VP8X"
    content[24:30] = b"\xff\x3f\x00" * 2  # canvas width and height, less one
    assert refusal(bytes(content)) == (
        "was refused before decoding: Image size (268435456 pixels) exceeds limit of 178956970 "
        "pixels, could be decompression bomb DOS attack"
    )


def test_pillows_own_limit_does_not_overrule_max_pixels():
    image = open_image(bomb(20_000, 20_000), max_pixels=500_000_000)
    assert image.size == (20_000, 20_000)


@pytest.mark.parametrize("format", ["PNG", "WebP", "GIF", "TIFF"])
def test_several_frames(format):
    frames = [Image.fromarray(picture() // (i + 1)) for i in range(3)]
    content = saved(frames[0], format, save_all=True, append_images=frames[1:])
    assert refusal(content) == (
        "is animated or has several pages: 3 frames, expected 1; "
        "save the wanted frame as a file of its own"
    )


@pytest.mark.parametrize("format", ["JPEG", *LOSSLESS, "GIF"])
def test_a_truncated_file(format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), format)
    assert refusal(content[: len(content) // 2]).startswith(f"is a truncated or corrupt {format} (")


@pytest.mark.parametrize("format", ["JPEG", *LOSSLESS, "GIF"])
def test_a_file_that_ends_after_its_signature(format):
    content = saved(Image.fromarray(picture()), format)[:14]
    assert refusal(content).startswith(f"is a truncated or corrupt {format} (")


def test_numbers_without_a_range():
    content = saved(Image.fromarray(np.ones((2, 2), dtype=np.float32)), "TIFF")
    assert refusal(content) == (
        "holds 32-bit numbers (Pillow mode F) of unknown range; save it with 8 or 16 bits"
    )


def test_a_file_that_is_not_there(tmp_path):
    assert refusal(tmp_path / "a.png") == "cannot be opened: No such file or directory"


@pytest.mark.parametrize("format", FORMATS)
def test_whatever_the_bytes_only_image_errors_come_out(format):
    dice = random.Random(format)
    original = saved(Image.fromarray(picture(24, 24)), format)
    for _ in range(150):
        content = bytearray(original)
        for _ in range(dice.randint(1, 8)):
            content[dice.randrange(len(content))] = dice.randrange(256)
        content = content[: dice.randint(4, len(content))] if dice.random() < 0.3 else content
        try:
            pixels = decode(bytes(content), max_pixels=100_000)
        except ImageError:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3


def test_pillows_warnings_stay_inside(recwarn):
    warnings.simplefilter("always")
    content = bytearray(saved(Image.fromarray(picture()), "TIFF", dpi=(72, 72)))
    start = content.index(struct.pack("<HHI", 282, 5, 1))  # XResolution: metadata, not pixels
    content[start + 8 : start + 12] = b"\xf0\xff\xff\x7f"
    np.testing.assert_array_equal(decode(bytes(content)), picture())
    assert [str(warning.message) for warning in recwarn] == []
    warnings.simplefilter("always")  # in front of our filter
    Image.open(io.BytesIO(bytes(content))).load()
    assert len(recwarn) > 0  # so there was something to keep inside


# Resizing


def test_the_same_size_comes_back_unchanged():
    pixels = picture()
    for fit in ("crop", "pad", "stretch"):
        assert resize(pixels, (6, 9), fit) is pixels


def test_stretch_is_pillows_bilinear():
    expected = Image.fromarray(picture(40, 60)).resize((20, 30), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize(picture(40, 60), (30, 20), "stretch"), expected)


@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_shrinking_averages_instead_of_skipping(fit):
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize(stripes, (8, 8), fit)[:, 1:-1].astype(int) - 128).max() <= 2


def test_crop_keeps_the_middle():
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = 200
    np.testing.assert_array_equal(resize(pixels, (10, 10), "crop"), pixels[:, 10:20])


def test_pad_centres_the_whole_image_on_grey():
    pixels = np.full((10, 20, 3), 255, dtype=np.uint8)
    padded = resize(pixels, (15, 20), "pad")
    assert padded.shape == (15, 20, 3)
    assert (padded[2:12] == 255).all()
    assert (padded[:2] == 128).all()
    assert (padded[12:] == 128).all()
    assert (resize(pixels, (5, 10), "pad") == 255).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 200), (13, 17), (97, 31), (300, 299)])
def test_any_shape_becomes_the_wanted_size(fit, shape):
    for size in [(4, 4), (16, 5), (33, 64)]:
        assert resize(picture(*shape), size, fit).shape == (*size, 3)


def test_a_flat_image_stays_flat():
    pixels = np.full((13, 29, 3), 77, dtype=np.uint8)
    for fit in ("crop", "stretch"):
        assert (resize(pixels, (8, 8), fit) == 77).all()
