"""Image preprocessing: what encode takes and refuses, the statistics, and the saved state."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from maquette.data.images import encode_png
from maquette.errors import RequestError
from maquette.tasks.pixels import measure_colours, unit_range
from maquette.tasks.vision.preprocess import ImagePreprocessor

PREPROCESSOR = ImagePreprocessor(
    image_size=(8, 10),
    fit="crop",
    mean=(0.1, 0.2, 0.3),
    std=(0.5, 0.25, 0.2),
    classes=("cat", "dog"),
    class_counts=(3, 4),
    max_pixels=10_000,
)


def picture(seed=0, height=8, width=10):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_encoding_is_scaling_and_normalising():
    (found,) = PREPROCESSOR.encode([picture(0), picture(1)])
    assert found.shape == (2, 3, 8, 10)
    assert found.dtype == torch.float32
    mean, std = np.array(PREPROCESSOR.mean), np.array(PREPROCESSOR.std)
    expected = (np.stack([picture(0), picture(1)]) / 255 - mean) / std
    np.testing.assert_allclose(found.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)


def test_every_kind_of_input_gives_the_same(tmp_path):
    pixels = picture(height=30, width=20)
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(pixels))
    (expected,) = PREPROCESSOR.encode([pixels])
    content = path.read_bytes()
    kinds = [path, str(path), content, bytearray(content), memoryview(content)]
    for kind in [*kinds, Image.fromarray(pixels), Image.open(io.BytesIO(content))]:
        assert torch.equal(PREPROCESSOR.encode([kind])[0], expected)


def test_an_image_is_encoded_the_same_in_any_company():
    (together,) = PREPROCESSOR.encode([picture(seed, 20 + seed, 30) for seed in range(5)])
    for seed in range(5):
        assert torch.equal(
            PREPROCESSOR.encode([picture(seed, 20 + seed, 30)])[0][0], together[seed]
        )


def test_no_images():
    assert PREPROCESSOR.encode([])[0].shape == (0, 3, 8, 10)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"", "Image 1 (counting from 0) is empty (0 bytes)."),
        (
            b"hello",
            "Image 1 (counting from 0) is not an image Maquette reads: it begins with b'hello', "
            "which is none of JPEG, PNG, WebP, BMP, TIFF, GIF.",
        ),
        (
            "nowhere.png",
            "Image 1 (counting from 0) cannot be opened: No such file or directory.",
        ),
        (
            np.zeros((4, 4), dtype=np.uint8),
            "Image 1 (counting from 0) is an array (4, 4) of uint8, expected (height, width, 3) of "
            "uint8: red, green and blue from 0 to 255.",
        ),
        (
            np.zeros((4, 4, 3), dtype=np.float32),
            "Image 1 (counting from 0) is an array (4, 4, 3) of float32, expected (height, width, "
            "3) of uint8: red, green and blue from 0 to 255.",
        ),
        (
            np.zeros((200, 100, 3), dtype=np.uint8),
            "Image 1 (counting from 0) has 100 × 200 = 20000 pixels, more than max_pixels=10000; "
            "it was refused before decoding.",
        ),
        (
            Image.new("RGB", (1, 1)),
            "Image 1 (counting from 0) is 1 × 1 pixel: there is no picture to learn from.",
        ),
        (
            {"image": "a.png"},
            "Image 1 (counting from 0) is a dict, expected a path, the bytes of an image file, a "
            "Pillow image, or a uint8 array (height, width, 3).",
        ),
    ],
    ids=["empty", "text", "missing", "flat", "floats", "large", "single", "dict"],
)
def test_what_does_not_fit_is_named_by_its_index(bad, message):
    with pytest.raises(RequestError) as caught:
        PREPROCESSOR.encode([picture(), bad])
    assert str(caught.value) == message
    assert caught.value.http_status == 422


def test_a_truncated_pillow_image_is_a_request_error():
    image = Image.open(io.BytesIO(encode_png(picture(0, 90, 90))[:9000]))
    with pytest.raises(RequestError, match=r"^Image 0 \(counting from 0\) is a truncated or"):
        PREPROCESSOR.encode([image])


def test_the_saved_state_is_json_and_restores_everything():
    state = json.loads(json.dumps(PREPROCESSOR.to_json()))
    assert ImagePreprocessor.from_json(state) == PREPROCESSOR


def test_the_schema_describes_one_image():
    schema = PREPROCESSOR.input_schema()
    assert schema["contentMediaType"] == "image/*"
    assert "8 × 10 (height × width, fit: crop)" in schema["description"]
    json.dumps(schema)


def test_colours_are_measured_over_all_pixels():
    parts = [picture(seed) for seed in range(5)]
    mean, std = measure_colours(parts)
    pixels = np.concatenate(parts).reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=0), atol=1e-12)
    assert measure_colours(reversed(parts)) == (mean, std)
    assert measure_colours([np.concatenate(parts)]) == (mean, std)


def test_a_channel_that_never_changes_is_only_centred():
    mean, std = measure_colours([np.full((4, 4, 3), 51, dtype=np.uint8)])
    assert mean == pytest.approx((0.2, 0.2, 0.2))
    assert std == (1, 1, 1)


def test_training_pixels_come_out_normalised():
    parts = [picture(seed) for seed in range(5)]
    mean, std = measure_colours(parts)
    (inputs,) = replace(PREPROCESSOR, mean=mean, std=std).encode(parts)
    assert inputs.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (inputs.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-5


def test_unit_range_puts_channels_first():
    pixels = torch.from_numpy(np.stack([picture()]))
    assert torch.equal(unit_range(pixels)[0, 2], pixels[0, :, :, 2] / 255)
    assert unit_range(pixels).is_contiguous()
