"""Small pictures with labels, and what Maquette says about them."""

import numpy as np
import pytest
from PIL import Image

from maquette.errors import DataError
from maquette.recipe.schema import ImageData
from maquette.tasks.vision.data import check_images


def write_image(path, seed=0, size=(12, 10), **options):
    """Write a picture of its own; `size` is width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def data_of(path, **options):
    return ImageData(**({"path": str(path), "image_size": (8, 8)} | options))


def refusal(path, **options):
    with pytest.raises(DataError) as caught:
        check_images(data_of(path, **options))
    return str(caught.value)
