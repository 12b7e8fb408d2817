"""Pairs of image and text to network inputs; saved as JSON, used everywhere.

Letters: B batch, T tokens of the longest text, S side of `image_size`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maquette.data.images import FORMATS, ImageError, Pixels
from maquette.errors import RequestError, nearest
from maquette.tasks.base import Json
from maquette.tasks.image_text.squares import Fit, fit_square
from maquette.tasks.image_text.tokenizer import ClipTokenizer
from maquette.tasks.pixels import Colour, raw_pixels, unit_range

OPENAI_MEAN: Colour = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Colour = (0.26862954, 0.26130258, 0.27577711)
"""What CLIP's published weights were trained with."""

MAX_PIXELS = 50_000_000
"""The default of the recipe's `max_pixels`."""

KEYS = ("image", "text")
"""What a pair is given by."""


@dataclass(frozen=True, kw_only=True)
class ImageTextPreprocessor:
    """Everything between a raw pair and the network, besides augmentation."""

    image_size: int
    """S of what the network sees."""
    fit: Fit
    mean: Colour
    """Subtracted from values in [0, 1]."""
    std: Colour
    """Divided by after that."""
    tokenizer: ClipTokenizer
    classes: tuple[str, ...] | None
    """Class names of a network that classifies images; None for one that compares pairs."""
    prompts: tuple[str, ...]
    """Each with "{}" for the name of a class."""
    architecture: Json
    """The shape of the network: `ClipConfig.to_json`."""
    similarity: str
    """How features are compared: a key of `SIMILARITIES`."""
    max_pixels: int

    def encode(self, raw: Sequence[Any]) -> tuple[Tensor, ...]:
        """Turn B pairs, or B images for a network with classes, into the network's arguments.

        Args:
            raw: each {"image": …, "text": …}; or, with classes, images or {"image": …}. An image is
                a path, the bytes of an image file, a Pillow image, or a uint8 array (H', W', 3).
        Returns:
            ((B, 3, S, S) float32, (B, T) int64), or ((B, 3, S, S) float32,)
        Raises:
            RequestError: an input cannot be used; the text names its index.
        """
        pairs = [self._pair(index, one) for index, one in enumerate(raw)]
        texts = [text for _, text in pairs if text is not None]
        if 0 < len(texts) < len(pairs):
            bare = next(index for index, (_, text) in enumerate(pairs) if text is None)
            raise RequestError(
                f"Input {bare} (counting from 0) has no text, but others have; give every image a "
                "text, or none."
            )
        pixels = np.empty((len(raw), self.image_size, self.image_size, 3), dtype=np.uint8)
        for index, (image, _) in enumerate(pairs):
            pixels[index] = self._square(index, image)
        images = self.normalise(unit_range(torch.from_numpy(pixels)))
        if self.classes is not None and not texts:
            return (images,)
        return images, self.tokenizer.trimmed(texts)

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) float32 in [0, 1] -> the mean and deviation taken out, in place."""
        return normalise(images, self.mean, self.std)

    def input_schema(self) -> Json:
        """JSON Schema of one raw input."""
        image = {
            "title": "image",
            "description": f"An image file ({', '.join(FORMATS)}) of 2 to {self.max_pixels} "
            f"pixels; it is brought to {self.image_size} × {self.image_size} (fit: {self.fit}).",
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": "image/*",
        }
        if self.classes is not None:
            return image
        text = {
            "title": "text",
            "description": f"A caption; what is beyond {self.tokenizer.context_length} tokens, "
            "start and end included, is cut off.",
            "type": "string",
            "minLength": 1,
        }
        return {
            "title": "pair",
            "type": "object",
            "properties": {"image": image, "text": text},
            "required": list(KEYS),
            "additionalProperties": False,
        }

    def to_json(self) -> Json:
        return {
            "image_size": self.image_size,
            "fit": self.fit,
            "mean": list(self.mean),
            "std": list(self.std),
            "tokenizer": self.tokenizer.to_json(),
            "classes": None if self.classes is None else list(self.classes),
            "prompts": list(self.prompts),
            "architecture": self.architecture,
            "similarity": self.similarity,
            "max_pixels": self.max_pixels,
        }

    @classmethod
    def from_json(cls, state: Json) -> ImageTextPreprocessor:
        """Restore what `to_json` gave."""
        tuples = {name: tuple(value) for name, value in state.items() if isinstance(value, list)}
        return cls(**(state | tuples | {"tokenizer": ClipTokenizer.from_json(state["tokenizer"])}))

    def _pair(self, index: int, raw: Any) -> tuple[Any, str | None]:
        """Return the image, and the text where it is needed or given."""
        if not isinstance(raw, Mapping):
            if self.classes is None:
                raise RequestError(
                    f"Input {index} (counting from 0) is a {type(raw).__name__}, expected "
                    '{"image": …, "text": …}: this model compares images with texts.'
                )
            return raw, None
        for key in raw:
            if key not in KEYS:
                raise RequestError(
                    f"Input {index} (counting from 0) has the unknown key {key!r}."
                    f"{nearest(str(key), KEYS)} Expected image and text."
                )
        if "image" not in raw or ("text" not in raw and self.classes is None):
            missing = "image" if "image" not in raw else "text"
            raise RequestError(
                f"Input {index} (counting from 0) has no {missing!r}, expected "
                '{"image": …, "text": …}.'
            )
        text = raw.get("text")
        if "text" in raw and not (isinstance(text, str) and text.strip()):
            found = "empty" if isinstance(text, str) else f"a {type(text).__name__}"
            raise RequestError(
                f"The text of input {index} (counting from 0) is {found}, expected words."
            )
        return raw["image"], text

    def _square(self, index: int, image: Any) -> Pixels:
        try:
            pixels = raw_pixels(image, max_pixels=self.max_pixels)
        except ImageError as error:
            raise RequestError(f"Image {index} (counting from 0) {error.reason}.") from None
        return fit_square(pixels, self.image_size, self.fit)


def normalise(images: Tensor, mean: Colour, std: Colour) -> Tensor:
    """Take a mean and a deviation out of (B, 3, h, w) float32 in [0, 1], in place.

    A new tensor for each step would take four times as long: fresh pages cost more than the sums.
    """
    means, deviations = (torch.tensor(colour).view(1, 3, 1, 1) for colour in (mean, std))
    return images.sub_(means).div_(deviations)


def clip_preprocess(
    image: Any,
    *,
    image_size: int,
    fit: Fit = "crop",
    mean: Colour = OPENAI_MEAN,
    std: Colour = OPENAI_STD,
    max_pixels: int = MAX_PIXELS,
) -> Tensor:
    """Turn one image into what a CLIP checkpoint's image tower takes.

    Args:
        image: a path, the bytes of an image file, a Pillow image, or a uint8 array (H', W', 3).
    Returns:
        (3, image_size, image_size) float32; add the batch axis with `[None]` or `torch.stack`.
    Raises:
        ImageError: it cannot be used.
    """
    pixels = fit_square(raw_pixels(image, max_pixels=max_pixels), image_size, fit)
    return normalise(unit_range(torch.from_numpy(pixels[None])), mean, std)[0]
