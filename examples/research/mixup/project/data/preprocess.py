"""From the bytes of a photo to what the network sees. N images of S × S pixels."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_pixels(photo: bytes, side: int) -> Tensor:
    """Decode a photo at `side` × `side` pixels, (3, S, S) uint8."""
    with Image.open(io.BytesIO(photo)) as image:
        small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()  # (S, S, 3) -> (3, S, S)


def normalise(pixels: Tensor, reference: Tensor) -> Tensor:
    """Return pixels as floats, in deviations from the mean of each colour of other pixels.

    Both (N, 3, S, S) uint8, N may differ.
    """
    deviation, mean = torch.std_mean(reference.float(), dim=(0, 2, 3), keepdim=True)
    return (pixels.float() - mean) / deviation
