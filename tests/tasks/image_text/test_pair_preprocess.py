"""Raw pairs to network inputs: every kind of input, every refusal, and back from JSON."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_pairs import PROMPTS, caption, picture, png
from PIL import Image

from maquette.data.images import ImageError
from maquette.errors import RequestError
from maquette.tasks.image_text.preprocess import (
    OPENAI_MEAN,
    OPENAI_STD,
    ImageTextPreprocessor,
    clip_preprocess,
)
from maquette.tasks.image_text.squares import fit_square
from maquette.tasks.image_text.tokenizer import ClipTokenizer


@pytest.fixture(scope="module")
def pairs():
    tokenizer = ClipTokenizer.train(
        [caption(n) for n in range(30)], vocabulary_size=600, context_length=20
    )
    return ImageTextPreprocessor(
        image_size=8,
        fit="crop",
        mean=OPENAI_MEAN,
        std=OPENAI_STD,
        tokenizer=tokenizer,
        classes=None,
        prompts=PROMPTS,
        architecture={"embed_dim": 8},
        similarity="cosine",
        max_pixels=1000,
    )


@pytest.fixture(scope="module")
def sorter(pairs):
    return replace(pairs, classes=("bad", "good"))


def test_every_kind_of_image_encodes_alike(pairs, tmp_path):
    (tmp_path / "a.png").write_bytes(png(3))
    image = picture(3)
    raw = [tmp_path / "a.png", str(tmp_path / "a.png"), png(3), image, np.array(image)]
    pixels, ids = pairs.encode([{"image": one, "text": "a red thing"} for one in raw])
    square = torch.from_numpy(fit_square(np.array(image), 8, "crop")).permute(2, 0, 1) / 255
    expected = (square - torch.tensor(OPENAI_MEAN).view(3, 1, 1)) / torch.tensor(OPENAI_STD).view(
        3, 1, 1
    )
    assert pixels.shape == (5, 3, 8, 8)
    torch.testing.assert_close(pixels[0], expected)
    assert all(torch.equal(one, pixels[0]) for one in pixels)
    assert torch.equal(ids, pairs.tokenizer.trimmed(["a red thing"] * 5))


def test_a_pair_does_not_depend_on_its_batch(pairs):
    raw = [{"image": png(n, size=(9 + n, 12)), "text": caption(n)} for n in range(3)]
    pixels, ids = pairs.encode(raw)
    for number, one in enumerate(raw):
        alone, own_ids = pairs.encode([one])
        assert torch.equal(alone[0], pixels[number])
        assert torch.equal(own_ids[0], ids[number, : own_ids.shape[1]])


def test_a_network_with_classes_takes_images_alone_or_with_texts(sorter):
    (bare,) = sorter.encode([png(1), {"image": png(1)}])
    assert torch.equal(bare[0], bare[1])
    pixels, ids = sorter.encode([{"image": png(1), "text": "good"}])
    assert torch.equal(pixels[0], bare[0])
    assert ids.shape[0] == 1


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            [b"x"],
            'Input 0 (counting from 0) is a bytes, expected {"image": …, "text": …}: this model '
            "compares images with texts.",
        ),
        (
            [{"image": png(0), "txt": "x"}],
            "Input 0 (counting from 0) has the unknown key 'txt'. Did you mean 'text'? Expected "
            "image and text.",
        ),
        (
            [{"image": png(0), "text": "x"}, {"text": "x"}],
            'Input 1 (counting from 0) has no \'image\', expected {"image": …, "text": …}.',
        ),
        (
            [{"image": png(0)}],
            'Input 0 (counting from 0) has no \'text\', expected {"image": …, "text": …}.',
        ),
        (
            [{"image": png(0), "text": " "}],
            "The text of input 0 (counting from 0) is empty, expected words.",
        ),
        (
            [{"image": png(0), "text": 3}],
            "The text of input 0 (counting from 0) is a int, expected words.",
        ),
        (
            [{"image": png(0), "text": "x"}, {"image": b"", "text": "x"}],
            "Image 1 (counting from 0) is empty (0 bytes).",
        ),
        (
            [{"image": 3, "text": "x"}],
            "Image 0 (counting from 0) is a int, expected a path, the bytes of an image file, a "
            "Pillow image, or a uint8 array (height, width, 3).",
        ),
        (
            [{"image": np.zeros((4, 4)), "text": "x"}],
            "Image 0 (counting from 0) is an array (4, 4) of float64, expected (height, width, 3) "
            "of uint8: red, green and blue from 0 to 255.",
        ),
        (
            [{"image": np.zeros((40, 40, 3), np.uint8), "text": "x"}],
            "Image 0 (counting from 0) has 40 × 40 = 1600 pixels, more than max_pixels=1000; it "
            "was refused before decoding.",
        ),
    ],
)
def test_what_cannot_be_encoded_is_told_with_its_index(pairs, raw, expected):
    with pytest.raises(RequestError) as caught:
        pairs.encode(raw)
    assert str(caught.value) == expected


def test_texts_for_some_images_only_are_refused(sorter):
    with pytest.raises(RequestError) as caught:
        sorter.encode([{"image": png(0), "text": "x"}, png(1)])
    assert str(caught.value) == (
        "Input 1 (counting from 0) has no text, but others have; give every image a text, or none."
    )


def test_json_restores_everything(pairs, sorter):
    for one in (pairs, sorter):
        restored = ImageTextPreprocessor.from_json(json.loads(json.dumps(one.to_json())))
        assert restored.to_json() == one.to_json()
        assert restored.classes == one.classes
        raw = [{"image": png(0), "text": caption(0)}]
        assert all(map(torch.equal, restored.encode(raw), one.encode(raw)))


def test_the_schema_tells_pairs_from_images(pairs, sorter):
    schema = pairs.input_schema()
    assert schema["required"] == ["image", "text"]
    assert "20 tokens" in schema["properties"]["text"]["description"]
    assert sorter.input_schema() == schema["properties"]["image"]
    assert "brought to 8 × 8 (fit: crop)" in sorter.input_schema()["description"]


def test_clip_preprocess_equals_encoding(pairs):
    pixels = pairs.encode([{"image": png(5), "text": "x"}])[0]
    assert torch.equal(clip_preprocess(png(5), image_size=8), pixels[0])
    stream = io.BytesIO(png(5))
    assert torch.equal(clip_preprocess(Image.open(stream), image_size=8), pixels[0])
    with pytest.raises(ImageError, match=r"is empty \(0 bytes\)"):
        clip_preprocess(b"", image_size=8)
