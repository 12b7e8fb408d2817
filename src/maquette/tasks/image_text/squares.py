"""Bring any image to a square, as CLIP's checkpoints saw theirs. No torch here.

Letters: H W pixels, S side of the square.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from maquette.data.images import Pixels

if TYPE_CHECKING:
    from PIL import Image

Fit = Literal["crop", "pad", "stretch"]

LONGEST = 16
"""Longer / shorter side up to which the whole image is resized before it is cut, exactly as the
checkpoints' own transforms do. Beyond, only what is kept is resized (Pillow may then round
in another order): the whole of a 50 000 000 × 1 image would grow 224-fold."""

_GREY = (128, 128, 128)


def fit_square(pixels: Pixels, size: int, fit: Fit) -> Pixels:
    """Bring an image to `size` × `size` with antialiased bicubic interpolation (Pillow's).

    crop: the shorter side becomes `size`, the longer one int(size · longer / shorter), and the
        middle is kept; an odd margin is rounded to even, as torchvision does (OpenAI's and
        open_clip's transform). pad: the whole image, centred on grey (128, 128, 128). stretch: the
        whole image, distorted. A square image of that size comes back unchanged.

    Args:
        pixels: (H, W, 3) uint8.
        size: S.
    Returns:
        (S, S, 3) uint8
    """
    from PIL import Image

    height, width, _ = pixels.shape
    if height == width == size:
        return pixels
    image = Image.fromarray(pixels)
    bicubic = Image.Resampling.BICUBIC
    if fit == "stretch":
        return np.array(image.resize((size, size), bicubic))
    if fit == "crop":
        return np.array(_centre(image, size))
    scale = size / max(height, width)
    inner = (max(round(width * scale), 1), max(round(height * scale), 1))
    canvas = Image.new("RGB", (size, size), _GREY)
    canvas.paste(image.resize(inner, bicubic), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return np.array(canvas)


def _centre(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to `size` and keep the middle."""
    from PIL import Image

    shorter = min(image.size)
    wide, tall = (int(size * side / shorter) for side in image.size)
    left, top = round((wide - size) / 2), round((tall - size) / 2)
    if max(wide, tall) <= LONGEST * size:
        resized = image.resize((wide, tall), Image.Resampling.BICUBIC)
        return resized.crop((left, top, left + size, top + size))
    right, down = image.width / wide, image.height / tall  # pixels of the image per resized pixel
    box = (left * right, top * down, (left + size) * right, (top + size) * down)
    # Rounding may put a border 1e-13 outside the image, which Pillow refuses.
    inside = (*box[:2], min(box[2], image.width), min(box[3], image.height))
    return image.resize((size, size), Image.Resampling.BICUBIC, box=inside)
