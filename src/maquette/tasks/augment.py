"""Random changes of training images, in one pass over a batch of tensors.

Every number comes from `uniforms(keys of the samples, seed, epoch)`, and no step mixes samples or
sums over pixels, so what a sample becomes does not depend on its batch, its place or its company,
bit for bit.

Order: flips, one affine map (rotation, zoom, shift), brightness, contrast, saturation, erasing.

Letters: B batch, H W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maquette.data.randomness import uniforms

DRAWS = (
    "horizontal_flip",
    "vertical_flip",
    "rotation",
    "shift_x",
    "shift_y",
    "zoom",
    "brightness",
    "contrast",
    "saturation",
    "erase",
    "erase_area",
    "erase_shape",
    "erase_x",
    "erase_y",
)
"""The columns drawn for each sample; all of them always, so that switching one change on or off
leaves the others as they were."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""

ERASED_AREA = (0.02, 0.2)
"""Share of the image that one erased rectangle covers (Zhong et al. 2017 use up to 0.4)."""

ERASED_SHAPE = (0.3, 1 / 0.3)
"""Height / width of the rectangle before it is cut to the image, drawn evenly in its logarithm."""


@dataclass(frozen=True, kw_only=True)
class Augmenter:
    """The changes a recipe asks for; a zero range is no change and costs nothing."""

    seed: int
    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation_range: float = 0.0
    """Degrees either way."""
    translate: float = 0.0
    """Share of the side, either way, each axis on its own."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Zoom factors; above 1 things become larger."""
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erase: float = 0.0
    """Probability."""
    fill: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Colour in [0, 1] of erased rectangles and the fixed point of contrast: the mean colour."""

    def __call__(self, images: Tensor, keys: NDArray[np.uint64], *, epoch: int) -> Tensor:
        """Change a batch.

        Args:
            images: (B, 3, H, W) float32 in [0, 1]; not changed itself.
            keys: (B,) `key_of` each sample's id.
        Returns:
            (B, 3, H, W) float32 in [0, 1].
        """
        numbers = uniforms(keys, len(DRAWS), seed=self.seed, epoch=epoch, purpose="augment")
        draws = dict(zip(DRAWS, numbers.T, strict=True))
        if self.horizontal_flip:
            images = _where(draws["horizontal_flip"] < 0.5, images.flip(3), images)
        if self.vertical_flip:
            images = _where(draws["vertical_flip"] < 0.5, images.flip(2), images)
        if self.rotation_range or self.translate or self.scale != (1.0, 1.0):
            images = affine(images, **self._placement(draws))
        if self.brightness or self.contrast or self.saturation:
            images = self._recolour(images, draws)
        if self.erase:
            images = self._erase(images, draws)
        return images

    def _placement(self, draws: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        """Angle, zoom and shift of each sample, (B,) each."""
        low, high = self.scale
        return {
            "degrees": _around(0, self.rotation_range, draws["rotation"]),
            "zoom": low + (high - low) * draws["zoom"],
            "shift_x": _around(0, self.translate, draws["shift_x"]),
            "shift_y": _around(0, self.translate, draws["shift_y"]),
        }

    def _recolour(self, images: Tensor, draws: dict[str, NDArray[np.float64]]) -> Tensor:
        brightness, contrast, saturation = (
            _column(_around(1, getattr(self, name), draws[name]))
            for name in ("brightness", "contrast", "saturation")
        )
        images = images * brightness
        mean = torch.tensor(self.fill).view(1, 3, 1, 1)
        images = mean + (images - mean) * contrast
        red, green, blue = images.unbind(1)
        grey = (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1)
        return (grey + (images - grey) * saturation).clamp_(0, 1)

    def _erase(self, images: Tensor, draws: dict[str, NDArray[np.float64]]) -> Tensor:
        """Random erasing (Zhong et al. 2017, algorithm 1), filled with one colour."""
        height, width = images.shape[2:]
        low, high = ERASED_AREA
        area = (low + (high - low) * draws["erase_area"]) * height * width
        low, high = (math.log(shape) for shape in ERASED_SHAPE)
        shape = np.exp(low + (high - low) * draws["erase_shape"])
        tall = np.clip(np.round(np.sqrt(area * shape)), 1, height)
        wide = np.clip(np.round(np.sqrt(area / shape)), 1, width)
        top = np.floor(draws["erase_y"] * (height - tall + 1))
        left = np.floor(draws["erase_x"] * (width - wide + 1))
        rows, columns = np.arange(height), np.arange(width)
        inside_y = (rows >= top[:, None]) & (rows < (top + tall)[:, None])  # (B, H)
        inside_x = (columns >= left[:, None]) & (columns < (left + wide)[:, None])  # (B, W)
        hidden = inside_y[:, :, None] & inside_x[:, None, :]
        hidden &= (draws["erase"] < self.erase)[:, None, None]
        fill = torch.tensor(self.fill).view(1, 3, 1, 1)
        return torch.where(torch.from_numpy(hidden).unsqueeze(1), fill, images)


def affine(
    images: Tensor,
    *,
    degrees: NDArray[np.float64],
    zoom: NDArray[np.float64],
    shift_x: NDArray[np.float64],
    shift_y: NDArray[np.float64],
) -> Tensor:
    """Rotate, zoom about the centre, then shift; bilinear, the edge pixels continued outside.

    Args:
        images: (B, 3, H, W) float32.
        degrees: (B,) counter-clockwise as seen.
        zoom: (B,) above 1 things become larger.
        shift_x, shift_y: (B,) share of the width to the right, of the height downwards.
    """
    height, width = images.shape[2:]
    angle = np.deg2rad(degrees)
    cos, sin = _column(np.cos(angle) / zoom), _column(np.sin(angle) / zoom)
    # Pixel centres of the result, from the middle of the image, undone: shift, then turn and zoom.
    x = torch.arange(width).view(1, 1, width) - (width - 1) / 2 - _column(shift_x * width)[:, 0]
    y = torch.arange(height).view(1, height, 1) - (height - 1) / 2 - _column(shift_y * height)[:, 0]
    # y points down, so a counter-clockwise turn is [[cos, sin], [-sin, cos]]; this is its inverse.
    source_x = (cos[:, 0] * x - sin[:, 0] * y) * (2 / width)
    source_y = (sin[:, 0] * x + cos[:, 0] * y) * (2 / height)
    grid = torch.stack([source_x, source_y], dim=-1)  # (B, H, W, 2), the image spans [-1, 1]
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _around(middle: float, spread: float, draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draws in [0, 1) -> numbers in [middle - spread, middle + spread)."""
    return middle + spread * (2 * draws - 1)


def _column(numbers: NDArray[np.float64]) -> Tensor:
    """(B,) float64 -> (B, 1, 1, 1) float32."""
    return torch.from_numpy(numbers.astype(np.float32)).view(-1, 1, 1, 1)


def _where(chosen: NDArray[np.bool_], yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(torch.from_numpy(chosen).view(-1, 1, 1, 1), yes, no)
