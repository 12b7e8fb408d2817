"""What a network of images says when it is given something else.

Shapes: B batch, C channels, H W pixels.
"""

from __future__ import annotations

from torch import Tensor


def require_images(image_BCHW: Tensor, *, in_channels: int) -> None:
    """Refuse what is not a batch of images with `in_channels` channels first.

    Raises:
        ValueError: names the shape that was given and the one that was expected.
    """
    if image_BCHW.ndim != 4 or image_BCHW.shape[1] != in_channels:
        raise ValueError(
            f"image_BCHW is {tuple(image_BCHW.shape)}, expected (B, {in_channels}, H, W); "
            "channels-last images need image.permute(0, 3, 1, 2)."
        )
