"""Squares for CLIP against open_clip's and transformers' transforms, level by level.

Stored numbers run in the ordinary suite; with `-m peers` numbers made just now from another seed.
"""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from clip_images_cases import SHAPES, SIZES, picture
from facts import read_facts

from maquette.tasks.image_text.preprocess import OPENAI_MEAN, OPENAI_STD, clip_preprocess
from maquette.tasks.image_text.squares import fit_square


@pytest.fixture(scope="module", params=["golden", pytest.param("live", marks=pytest.mark.peers)])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("live")
    return read_facts(request.param, "clip_images", folder, seed=1)


def levels(text: str, size: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(size, size, 3).astype(int)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", SHAPES)
def test_squares_are_open_clips(facts, name, size):
    pixels = picture(name, seed=facts["made with"]["seed"])
    theirs = levels(facts["cases"][f"{name} {size}"]["open_clip"], size)
    assert np.array_equal(fit_square(pixels, size, "crop"), theirs)
    mean, std = (torch.tensor(c).view(3, 1, 1) for c in (OPENAI_MEAN, OPENAI_STD))
    expected = (torch.from_numpy(theirs).permute(2, 0, 1) / 255 - mean) / std
    found = clip_preprocess(pixels, image_size=size)
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", SHAPES)
def test_squares_are_transformers_where_the_margin_is_even(facts, name, size):
    """It cuts at the floor of half the margin and we round, as torchvision: one pixel apart."""
    pixels = picture(name, seed=facts["made with"]["seed"])
    height, width, _ = pixels.shape
    shorter = min(height, width)
    margins = [int(size * side / shorter) - size for side in (height, width)]
    theirs = levels(facts["cases"][f"{name} {size}"]["transformers"], size)
    ours = fit_square(pixels, size, "crop").astype(int)
    if any(margin % 4 == 3 for margin in margins):  # half of it rounds up to an even number
        assert np.array_equal(ours[:, :-1], theirs[:, 1:]) or np.array_equal(ours[:-1], theirs[1:])
    else:
        assert np.array_equal(ours, theirs)
