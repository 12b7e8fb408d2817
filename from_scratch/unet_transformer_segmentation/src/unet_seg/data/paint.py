"""How a toy scene looks: colours, background texture, blur and noise.

Goes in: which thing each pixel shows. Comes out: an image. Colours say nothing about the class:
all are drawn alike, far from the background and from each other.

Letters: C channels, H, W image size, K things, the background being thing 0.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def paint(
    owner_HW: NDArray[np.int64],
    num_things: int,
    *,
    channels: int,
    texture: float,
    blur: float,
    noise: float,
    generator: np.random.Generator,
) -> NDArray[np.uint8]:
    """Colour every pixel by what it shows, then blur, then add noise, as a camera does.

    Args:
        owner_HW: the thing each pixel shows, 0 (background) to num_things - 1.
        texture, blur, noise: as in `ToyConfig`.
    Returns:
        (C,H,W) in [0, 255].
    """
    colours_CK = draw_colours(num_things, channels, generator).T
    image_CHW: Array = colours_CK[:, owner_HW]
    if texture > 0:
        # At full contrast a deviation of up to 0.2: patches of the background differ like shapes.
        strength_C11 = 0.2 * texture * generator.uniform(0.5, 1, (channels, 1, 1))
        field_HW = draw_field(owner_HW.shape, generator) * (owner_HW == 0)
        image_CHW += strength_C11.astype(np.float32) * field_HW
    if blur > 0:
        image_CHW = gaussian_blur(image_CHW, blur)
    if noise > 0:
        noise_CHW = generator.standard_normal(image_CHW.shape, dtype=np.float32)
        image_CHW += noise_CHW * np.float32(noise)
    levels_CHW: Array = np.clip(image_CHW, 0, 1) * np.float32(255)
    return np.rint(levels_CHW).astype(np.uint8)


def draw_colours(num_things: int, channels: int, generator: np.random.Generator) -> Array:
    """(K,C) in [0, 1]: the background first, in the middle half, so that texture is not cut off.

    Every other colour is the one of 16 random ones that is furthest from all before it.
    """
    colours_KC = np.empty((num_things, channels))
    colours_KC[0] = generator.uniform(0.25, 0.75, channels)
    for number in range(1, num_things):
        candidates = generator.random((16, channels))
        squared = ((candidates[:, None] - colours_KC[:number]) ** 2).sum(axis=2)
        colours_KC[number] = candidates[squared.min(axis=1).argmax()]
    return colours_KC.astype(np.float32)


def draw_field(size: tuple[int, ...], generator: np.random.Generator) -> Array:
    """(H,W): a smooth random field of mean 0 and variance 1, a sum of 20 plane waves.

    Many waves of random direction, length and phase add up to a Gaussian field, by the central
    limit theorem. Their lengths are those of the shapes: 0.1 to 1 of the shorter side.
    """
    H, W = size
    field_HW: Array = np.zeros((H, W), dtype=np.float32)
    y_H, x_W = np.arange(H), np.arange(W)
    lows, highs = (0, math.log(0.1), 0), (math.pi, math.log(1), 2 * math.pi)
    for direction, log_length, phase in generator.uniform(lows, highs, size=(20, 3)):
        wave_number = 2 * math.pi / (math.exp(log_length) * min(H, W))
        a_H = (wave_number * math.sin(direction) * y_H + phase).astype(np.float32)
        b_W = (wave_number * math.cos(direction) * x_W).astype(np.float32)
        # cos(a + b) by the addition theorem: H + W cosines instead of H * W
        field_HW += np.outer(np.cos(a_H), np.cos(b_W)) - np.outer(np.sin(a_H), np.sin(b_W))
    field_HW *= np.float32(math.sqrt(2 / 20))  # a cosine has variance 1/2
    return field_HW


def gaussian_blur(image_CHW: Array, sigma: float) -> Array:
    """Blur along rows, then along columns; the image continues with its edge pixels.

    A sum of shifted images, always in one order: its bits do not depend on the number of threads.
    """
    reach = math.ceil(3 * sigma)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (1, 2):
        length = image_CHW.shape[axis]
        blurred_CHW = np.zeros_like(image_CHW)
        for offset, weight in zip(offsets, weights, strict=True):
            source = np.clip(np.arange(length) + offset, 0, length - 1)
            blurred_CHW += weight * image_CHW.take(source, axis=axis)
        image_CHW = blurred_CHW
    return image_CHW
