"""Between images as they are given and tensors; shared by the tasks that read images.

Letters: B batch, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maquette.data.images import ImageError, Pixels, decode_image, refuse_size, rgb_pixels

Colour = tuple[float, float, float]
"""One number for each of red, green and blue."""


def raw_pixels(image: Any, *, max_pixels: int) -> Pixels:
    """Return a raw input as pixels, in its own size.

    Args:
        image: a path, the bytes of an image file, a Pillow image, or a uint8 array (H, W, 3).
        max_pixels: larger images are refused, files before they are decoded.
    Returns:
        (H, W, 3) uint8
    Raises:
        ImageError: it cannot be used; `reason` says why.
    """
    if isinstance(image, str):
        image = Path(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        image = bytes(image)
    if isinstance(image, (bytes, Path)):
        return decode_image(image, max_pixels=max_pixels)
    if isinstance(image, np.ndarray):
        return _check_array(image, max_pixels)
    if _is_pillow(image):
        return rgb_pixels(image, max_pixels=max_pixels)
    raise ImageError(
        f"is a {type(image).__name__}, expected a path, the bytes of an image file, a Pillow "
        "image, or a uint8 array (height, width, 3)"
    )


def _check_array(image: NDArray[Any], max_pixels: int) -> Pixels:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(
            f"is an array {image.shape} of {image.dtype}, expected (height, width, 3) of "
            "uint8: red, green and blue from 0 to 255"
        )
    height, width, _ = image.shape
    refuse_size(width, height, max_pixels=max_pixels)
    return image


def unit_range(pixels: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1], contiguous."""
    return pixels.permute(0, 3, 1, 2).contiguous().float().div_(255)


def measure_colours(pixels: Iterable[Pixels]) -> tuple[Colour, Colour]:
    """Return mean and deviation per channel over all pixels, in [0, 1].

    A channel that never changes gets deviation 1: there is nothing to scale. Sums are of whole
    numbers, hence exact, so the result does not depend on how the pixels are cut up.
    """
    count, total, squares = 0, np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    for part in pixels:
        histogram = [np.bincount(channel, minlength=256) for channel in part.reshape(-1, 3).T]
        levels = np.arange(256)
        total += np.stack(histogram) @ levels
        squares += np.stack(histogram) @ levels**2
        count += part.size // 3
    mean = total / count / 255
    std = np.sqrt(np.maximum(squares / count / 255**2 - mean**2, 0))
    std[std < 1e-4] = 1
    red, green, blue = mean.tolist()
    return (red, green, blue), tuple(std.tolist())


def _is_pillow(image: Any) -> bool:
    """Whether this is a Pillow image, without importing Pillow for other things."""
    from PIL import Image

    return isinstance(image, Image.Image)
