"""Sliding window: logits of an image of any size, computed window by window.

In: a network and a prepared image (1,C,H,W). Out: logits (1,N,H,W) as if the network had seen the
whole image, in memory that grows with the image only by the logits themselves.

Windows overlap, and where several see a pixel their logits are averaged with weights that fall off
like a Gaussian from each window's centre, as nnU-Net does (Isensee et al., 2021), since a network
knows least about pixels at the edge of what it sees. Two details differ, both for exactness:

- the outermost quarter of an overlap counts for nothing. A network whose receptive field reaches
  no further than that gives the same logits with and without windows (up to rounding), except
  where attention or a norm over the image mixes in pixels from everywhere;
- windows start at multiples of the network's stride, where its pooling grid is the whole image's.

The weights of a window are a product of one profile for rows and one for columns, and the profiles
of all windows sum to 1 at each pixel. So logits are accumulated in place, with no map of weight
sums and no division at the end.

Letters: B windows computed at once, N classes, C channels, H, W image, P, Q height and width of a
window, K windows along an axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice, product
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unet_seg.contracts import check_shape
from unet_seg.errors import SegError

SIGMA = 1 / 8
"""Standard deviation of the Gaussian as a part of the window's side."""

LARGEST_OVERLAP = 0.9
"""Above this, the number of windows that see each pixel is out of proportion: over 100."""


@torch.inference_mode()
def sliding_window(
    model: nn.Module,
    image: Tensor,
    *,
    window: int,
    overlap: float = 0.5,
    batch_size: int = 1,
) -> Tensor:
    """Logits of an image from overlapping windows.

    Args:
        model: (B,C,P,Q) float32 -> (B,N,P,Q); in eval mode. Its attribute `stride`, if it has one,
            is what windows are aligned to.
        image: (1,C,H,W) float32, normalised, H, W >= 1, on any device: windows travel to the
            model's. Sides are padded with 0 to multiples of the stride, right and bottom.
        window: P in pixels, rounded up to a multiple of the stride; along an axis on which the
            image is smaller, windows are as small as the image.
        overlap: of neighbouring windows as a part of P, 0 to 0.9; at least this.
        batch_size: windows computed at once. More than 1 is only faster on a GPU.
    Returns:
        (1,N,H,W) float32 on the device of the image.
    Raises:
        SegError: the image is not as described; window, overlap or batch_size out of range.
    """
    sizes = check_shape(image, "1 C H W", name="image")
    check_windows(window, overlap)
    if batch_size < 1:
        raise SegError(f"batch_size={batch_size} must be at least 1.")
    if sizes["H"] < 1 or sizes["W"] < 1:
        raise SegError(f"image has shape {tuple(image.shape)}: it has no pixels.")
    stride = model_stride(model)
    H, W = (round_up(sizes[axis], stride) for axis in "HW")
    P, Q = (min(round_up(window, stride), side) for side in (H, W))
    rows, columns = window_starts(H, P, overlap, stride), window_starts(W, Q, overlap, stride)
    rows_KP, columns_KQ = profiles(rows, P).to(image.device), profiles(columns, Q).to(image.device)
    image_1CHW = pad_to(image, H, W)
    device = model_device(model)

    logits_1NHW: Tensor | None = None
    for places in _groups(product(enumerate(rows), enumerate(columns)), batch_size):
        windows = [image_1CHW[..., y : y + P, x : x + Q] for (_, y), (_, x) in places]
        out_BNPQ = model(torch.cat(windows).to(device)).float().to(image.device)
        if logits_1NHW is None:
            logits_1NHW = torch.zeros(1, out_BNPQ.shape[1], H, W, device=image.device)
        for out_NPQ, ((row, y), (column, x)) in zip(out_BNPQ, places, strict=True):
            weight_PQ = rows_KP[row, :, None] * columns_KQ[column]
            logits_1NHW[0, :, y : y + P, x : x + Q].addcmul_(out_NPQ, weight_PQ)
    assert logits_1NHW is not None
    return logits_1NHW[..., : sizes["H"], : sizes["W"]]


def window_starts(size: int, window: int, overlap: float, multiple: int = 1) -> list[int]:
    """Where windows start along an axis: evenly, from 0 to `size` - `window`.

    Args:
        size: pixels of the axis, at least `window`; both are multiples of `multiple`.
        overlap: neighbours share at least this part of a window (Isensee et al., 2021), unless
            `multiple` leaves no such start; windows never leave a gap.
        multiple: every start is a multiple of it.
    """
    room, last = size - window, (size - window) // multiple
    step = max(math.floor(window * (1 - overlap) / multiple + 1e-9), 1)
    count = -(-last // step) + 1 if room else 1
    # Consecutive multiples of last / (count - 1) <= step round to at most `step` apart.
    return [round(i * last / max(count - 1, 1)) * multiple for i in range(count)]


def profiles(starts: list[int], window: int) -> Tensor:
    """Weight of each of K windows along an axis, (K,P) float32.

    At each pixel of the axis the weights of all windows there sum to 1. They are 0 on the outermost
    quarter of an overlap, and positive elsewhere.
    """
    offset_P = torch.arange(window) - (window - 1) / 2
    gauss_P = torch.exp(-(offset_P**2) / (2 * (SIGMA * window) ** 2))
    weights_KP = gauss_P.repeat(len(starts), 1)
    for left, right in zip(range(len(starts) - 1), range(1, len(starts)), strict=True):
        overlap = window - (starts[right] - starts[left])
        weights_KP[left, window - overlap // 4 :] = 0
        weights_KP[right, : overlap // 4] = 0
    total = torch.zeros(starts[-1] + window)
    for start, weight_P in zip(starts, weights_KP, strict=True):
        total[start : start + window] += weight_P
    for start, weight_P in zip(starts, weights_KP, strict=True):
        weight_P /= total[start : start + window]
    return weights_KP


def pad_to(image: Tensor, height: int, width: int) -> Tensor:
    """Pad (..., H, W) with 0 at the right and the bottom; the image itself if it fits already."""
    H, W = image.shape[-2:]
    return image if (height, width) == (H, W) else F.pad(image, (0, width - W, 0, height - H))


def round_up(size: int, multiple: int) -> int:
    """The smallest multiple that is at least `size`."""
    return -(-size // multiple) * multiple


def model_stride(model: nn.Module) -> int:
    """What a network wants image sides to be multiples of; 1 if it does not say."""
    return int(getattr(model, "stride", 1))


def model_device(model: nn.Module) -> torch.device:
    """Where a network's weights are; the CPU if it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def check_windows(window: int, overlap: float) -> None:
    """Raise SegError unless window and overlap are in their range."""
    if window < 1:
        raise SegError(f"window={window} must be at least 1 pixel; 512 suits most networks.")
    if not 0 <= overlap <= LARGEST_OVERLAP:
        raise SegError(f"overlap={overlap:g} must be in [0, {LARGEST_OVERLAP:g}]; use 0.5.")


Place: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""(number, start) of a window among the rows and among the columns."""


def _groups(places: Iterator[Place], size: int) -> Iterator[list[Place]]:
    while group := list(islice(places, size)):
        yield group
