"""Images to network inputs: decode, resize, normalise. Fitted on train, saved as JSON, used
everywhere.

Letters: B batch, H W pixels of `image_size`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.data.images import (
    FORMATS,
    ImageError,
    Pixels,
    decode_image,
    refuse_size,
    resize,
    rgb_pixels,
)
from maquette.errors import RequestError
from maquette.tasks.base import Json

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""What torchvision's and timm's published weights were trained with."""

Colour = tuple[float, float, float]
"""One number for each of red, green and blue."""


@dataclass(frozen=True, kw_only=True)
class ImagePreprocessor:
    """Everything between a raw image and the network, besides augmentation."""

    image_size: tuple[int, int]
    """Height and width of what the network sees."""
    fit: Literal["crop", "pad", "stretch"]
    mean: Colour
    """Subtracted from values in [0, 1]."""
    std: Colour
    """Divided by after that."""
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    """Training images of each class."""
    max_pixels: int

    def encode(self, raw: Sequence[Any]) -> tuple[Tensor, ...]:
        """Turn B images into the network's one argument.

        Args:
            raw: each a path, the bytes of an image file, a Pillow image, or a uint8 array
                (H', W', 3) of any size.
        Returns:
            ((B, 3, H, W) float32,)
        Raises:
            RequestError: an image cannot be used; the text names its index.
        """
        pixels = np.empty((len(raw), *self.image_size, 3), dtype=np.uint8)
        for index, image in enumerate(raw):
            try:
                pixels[index] = resize(self._decode(image), self.image_size, self.fit)
            except ImageError as error:
                raise RequestError(f"Image {index} (counting from 0) {error.reason}.") from None
        return (self.normalise(unit_range(torch.from_numpy(pixels))),)

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float32 in [0, 1] -> the same with the mean and deviation taken out."""
        mean, std = (torch.tensor(colour).view(1, 3, 1, 1) for colour in (self.mean, self.std))
        return (images - mean) / std

    def input_schema(self) -> Json:
        """JSON Schema of one raw input."""
        height, width = self.image_size
        return {
            "title": "image",
            "description": f"An image file ({', '.join(FORMATS)}) of 2 to {self.max_pixels} "
            f"pixels; it is brought to {height} × {width} (height × width, fit: {self.fit}).",
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": "image/*",
        }

    def to_json(self) -> Json:
        return {
            "image_size": list(self.image_size),
            "fit": self.fit,
            "mean": list(self.mean),
            "std": list(self.std),
            "classes": list(self.classes),
            "class_counts": list(self.class_counts),
            "max_pixels": self.max_pixels,
        }

    @classmethod
    def from_json(cls, state: Json) -> ImagePreprocessor:
        """Restore what `to_json` gave."""
        tuples = {name: tuple(value) for name, value in state.items() if isinstance(value, list)}
        return cls(**(state | tuples))

    def _decode(self, image: Any) -> Pixels:
        """Return a raw input as pixels; raises ImageError."""
        if isinstance(image, str):
            image = Path(image)
        if isinstance(image, (bytes, bytearray, memoryview)):
            image = bytes(image)
        if isinstance(image, (bytes, Path)):
            return decode_image(image, max_pixels=self.max_pixels)
        if isinstance(image, np.ndarray):
            return self._check_array(image)
        if _is_pillow(image):
            return rgb_pixels(image, max_pixels=self.max_pixels)
        raise ImageError(
            f"is a {type(image).__name__}, expected a path, the bytes of an image file, a Pillow "
            "image, or a uint8 array (height, width, 3)"
        )

    def _check_array(self, image: NDArray[Any]) -> Pixels:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ImageError(
                f"is an array {image.shape} of {image.dtype}, expected (height, width, 3) of "
                "uint8: red, green and blue from 0 to 255"
            )
        height, width, _ = image.shape
        refuse_size(width, height, max_pixels=self.max_pixels)
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
