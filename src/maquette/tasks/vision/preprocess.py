"""Images to network inputs: decode, resize, normalise. Fitted on train, saved as JSON, used
everywhere.

Letters: B batch, H W pixels of `image_size`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from maquette.data.images import FORMATS, ImageError, resize
from maquette.errors import RequestError
from maquette.tasks.base import Json
from maquette.tasks.pixels import Colour, raw_pixels, unit_range

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""What torchvision's and timm's published weights were trained with."""


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
                pixels[index] = resize(
                    raw_pixels(image, max_pixels=self.max_pixels), self.image_size, self.fit
                )
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
