"""Transforms: a sample in, a sample out, the mask always moved exactly as the image.

Start reading at `prepare`, which says what happens to a sample on its way into the network:
resize -> augment (training only) -> normalise. Everything before the last step keeps the image in
[0, 1]; a setting that changes nothing returns the sample itself, bit for bit.

Where a crop or a rotation looks beyond the image, the image continues with its nearest edge pixel
and the mask is IGNORE, so that such pixels count neither in the loss nor in the metrics.

Random augmentation has two halves: `draw` makes every random decision, `apply` carries it out in
as few passes as possible. Crop, zoom, rotation and elastic deformation become one grid of source
positions that is sampled once, and the colour changes one matrix, so an image is not blurred twice.

Letters: C channels, H, W size of the source, h, w size of the result, G control points a side.
Positions in pixels count from the image's corner: pixel i covers [i, i + 1), its centre is i + 1/2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unet_seg.config import AugmentConfig, DataConfig
from unet_seg.contracts import check_dtype, check_range, check_shape
from unet_seg.data.sample import IGNORE, Sample
from unet_seg.errors import SegError

GREY = (0.299, 0.587, 0.114)
"""Share of red, green and blue in brightness as the eye sees it (ITU-R BT.601)."""

SMALLEST_STD = 1 / 255
"""An image with less contrast than one grey level is not stretched further by `normalize`."""


def prepare(
    sample: Sample, data: DataConfig, generator: np.random.Generator | None = None
) -> Sample:
    """Make a sample ready for the network; augments if a generator is given.

    Args:
        sample: image uint8 (C,H,W) or float32 (C,H,W) in [0, 1]; mask uint8 (H,W).
        data: resize, normalisation and augmentation to use.
        generator: source of all random decisions; None leaves the augmentation out.
    Returns:
        image float32 (C,h,w), normalised; mask uint8 (h,w).
    Raises:
        SegError: the sample is not as described, or has another number of channels than the data.
    """
    check_sample(sample, data.channels)
    if data.resize is not None:
        sample = resize(sample, data.resize)
    if generator is not None:
        sample = augment(sample, data.augment, generator)
    return normalize(sample, data)


def check_sample(sample: Sample, channels: int) -> None:
    """Raise SegError unless image and mask have the types, sizes and range of a sample."""
    image, mask, name = sample
    check_dtype(image, torch.uint8, torch.float32, name=f"{name}: image")
    check_dtype(mask, torch.uint8, name=f"{name}: mask")
    sizes = check_shape(image, f"{channels} H W", name=f"{name}: image")
    check_shape(mask, "H W", name=f"{name}: mask", sizes=sizes)
    if mask.numel() == 0:
        raise SegError(f"{name}: the image has no pixels, its size is {tuple(mask.shape)}.")
    if image.dtype != torch.uint8:
        check_range(image, 0, 1, name=f"{name}: image")


def to_float(image: Tensor) -> Tensor:
    """uint8 [0, 255] -> float32 [0, 1]; a float image is returned as it is."""
    return image.float().div_(255) if image.dtype == torch.uint8 else image


def normalize(sample: Sample, data: DataConfig) -> Sample:
    """Shift and scale an image in [0, 1] (or uint8) to the network's range, float32.

    `fixed` is (x - mean) / std with the numbers of the configuration. `image` makes the mean over
    all pixels and channels 0 and their standard deviation 1; differences between the channels, the
    colour, survive. An image of one grey level becomes 0.
    """
    image = to_float(sample.image)
    mean, std = data.mean, data.std
    if data.normalize == "image":
        values = image.numpy()
        mean, std = float(values.mean()), max(float(values.std()), SMALLEST_STD)
    return sample._replace(image=(image - mean).div_(std))


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """Resize to (h, w): image bilinear with antialiasing, float32 [0, 1]; mask nearest pixel."""
    if tuple(sample.mask.shape) == tuple(size):
        return sample
    image = F.interpolate(
        to_float(sample.image)[None], size, mode="bilinear", antialias=True, align_corners=False
    )
    mask = F.interpolate(sample.mask[None, None], size, mode="nearest-exact")
    return sample._replace(image=image[0].clamp_(0, 1), mask=mask[0, 0])


def hflip(sample: Sample) -> Sample:
    """Mirror left and right."""
    return sample._replace(image=sample.image.flip(-1), mask=sample.mask.flip(-1))


def vflip(sample: Sample) -> Sample:
    """Mirror top and bottom."""
    return sample._replace(image=sample.image.flip(-2), mask=sample.mask.flip(-2))


def crop(sample: Sample, top: int, left: int, size: tuple[int, int]) -> Sample:
    """Cut out (h, w) pixels from (top, left), which may lie outside; pixels keep their values."""
    H, W = sample.mask.shape
    h, w = size
    if top == left == 0 and (h, w) == (H, W):
        return sample
    if top >= 0 and left >= 0 and top + h <= H and left + w <= W:
        rows_cut, columns_cut = slice(top, top + h), slice(left, left + w)
        return sample._replace(
            image=sample.image[:, rows_cut, columns_cut], mask=sample.mask[rows_cut, columns_cut]
        )
    rows, columns = torch.arange(top, top + h), torch.arange(left, left + w)
    inside_hw = ((rows >= 0) & (rows < H))[:, None] & ((columns >= 0) & (columns < W))
    rows, columns = rows.clamp(0, H - 1), columns.clamp(0, W - 1)
    image = sample.image.index_select(1, rows).index_select(2, columns)
    mask = sample.mask.index_select(0, rows).index_select(1, columns)
    return sample._replace(image=image, mask=mask.masked_fill_(~inside_hw, IGNORE))


def warp(
    sample: Sample,
    size: tuple[int, int],
    *,
    centre: tuple[float, float],
    zoom: float = 1.0,
    degrees: float = 0.0,
    control: Tensor | None = None,
) -> Sample:
    """Crop, zoom, rotate and deform in one resampling.

    The pixel of the result whose centre lies (y, x) from the result's centre is taken from

        centre + R(degrees) ((y, x) + d(y, x)) / zoom,

    image bilinear, mask from the nearest pixel (the one that holds the position). A zoom below 1
    is not antialiased: crops shrink by little, and textures keep their sharpness.

    Args:
        sample: image uint8 or float32 [0, 1].
        size: (h, w) of the result.
        centre: (y, x) in the source that becomes the centre of the result, in pixels.
        zoom: above 1 enlarges the content.
        degrees: rotates the content anticlockwise.
        control: (2,G,G) float32, displacements d in pixels of the result, first the rows' (y), then
            the columns' (x), at G x G points spread evenly over it; between them a uniform cubic
            B-spline, which never exceeds the largest of them. Neighbouring points further apart
            than 2.5 times the largest displacement cannot fold the image (Choi & Lee, 2000).
    Returns:
        image float32 (C,h,w) in [0, 1]; mask uint8 (h,w), IGNORE where nothing was there.
    """
    H, W = sample.mask.shape
    grid_hw2 = _source_positions(size, (H, W), centre, zoom, degrees, control)[None]
    image = F.grid_sample(
        to_float(sample.image)[None],
        grid_hw2,
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    # Outside the source grid_sample gives 0; shifted by IGNORE, that is IGNORE.
    shifted_HW = sample.mask.float().sub_(IGNORE)
    mask = F.grid_sample(
        shifted_HW[None, None], grid_hw2, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return sample._replace(
        image=image[0].clamp_(0, 1), mask=mask[0, 0].add_(IGNORE).to(torch.uint8)
    )


def _source_positions(
    size: tuple[int, int],
    source: tuple[int, int],
    centre: tuple[float, float],
    zoom: float,
    degrees: float,
    control: Tensor | None,
) -> Tensor:
    """(h,w,2) source positions as grid_sample wants them: (x, y), -1 and 1 are the outer edges."""
    (h, w), (H, W), (centre_y, centre_x) = size, source, centre
    cos, sin = (f(math.radians(degrees)) / zoom for f in (math.cos, math.sin))
    y_h1 = (torch.arange(h) + (0.5 - h / 2))[:, None]
    x_1w = (torch.arange(w) + (0.5 - w / 2))[None]
    grid_hw2 = torch.empty(h, w, 2)
    torch.add(x_1w * cos + (centre_x - W / 2), y_h1 * -sin, out=grid_hw2[..., 0])
    torch.add(x_1w * sin + (centre_y - H / 2), y_h1 * cos, out=grid_hw2[..., 1])
    if control is not None:
        # The linear map of the displacements costs nothing while they are few: before the spline.
        dy_GG, dx_GG = control
        turned_2GG = torch.stack([cos * dx_GG - sin * dy_GG, sin * dx_GG + cos * dy_GG])
        rows_hG, columns_wG = _spline(h, control.shape[1]), _spline(w, control.shape[2])
        grid_hw2 += (rows_hG @ turned_2GG @ columns_wG.T).permute(1, 2, 0)
    return grid_hw2.mul_(torch.tensor([2 / W, 2 / H]))


@lru_cache(maxsize=16)
def _spline(num_pixels: int, num_points: int) -> Tensor:
    """(num_pixels, num_points) float32: weight of each control point at each pixel's centre.

    Points lie at 0, 1, ... G - 1 and the pixels span [0, G - 1]. The cubic B-spline (de Boor) at
    distance t is 2/3 - t^2 + t^3/2 below 1, (2 - t)^3/6 below 2, else 0. The points that would
    lie just beyond the ends repeat the end points, so weights are >= 0 and sum to 1 everywhere.
    """
    at_P1 = ((torch.arange(num_pixels) + 0.5) * (num_points - 1) / num_pixels)[:, None]
    t_PG = (at_P1 - torch.arange(-1, num_points + 1)).abs()
    near_PG = 2 / 3 - t_PG**2 + t_PG**3 / 2
    far_PG = (2 - t_PG).clamp(min=0) ** 3 / 6
    weights = torch.where(t_PG < 1, near_PG, far_PG)
    weights[:, 1] += weights[:, 0]
    weights[:, -2] += weights[:, -1]
    return weights[:, 1:-1].contiguous()


def adjust_colour(
    sample: Sample, *, brightness: float = 1.0, contrast: float = 1.0, saturation: float = 1.0
) -> Sample:
    """Multiply brightness, distance from the image's mean and distance from grey.

    All three are linear in the pixel, so they are one matrix and one offset; values are cut to
    [0, 1] once, at the end. Saturation leaves images of one channel alone. The factors 1, 1, 1
    return the sample itself, others an image of float32.
    """
    if brightness == contrast == saturation == 1:
        return sample
    image = to_float(sample.image)
    C, H, W = image.shape
    grey_C = torch.tensor(GREY if C == 3 else [1 / C] * C)
    # NumPy sums on one thread in one order: the same bits in the main process and in a worker.
    means_C = torch.from_numpy(image.numpy().mean(axis=(1, 2)))
    mean = brightness * float(grey_C @ means_C)
    matrix_CC = torch.eye(C) * saturation + (1 - saturation) * grey_C if C == 3 else torch.eye(C)
    pixels_CP = (matrix_CC * (contrast * brightness)) @ image.reshape(C, H * W)
    changed = pixels_CP.add_((1 - contrast) * mean).clamp_(0, 1).view(C, H, W)
    return sample._replace(image=changed)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One random decision about each step of the augmentation, made by `draw`."""

    hflip: bool
    vflip: bool
    size: tuple[int, int]
    """(h, w) of the result."""
    zoom: float
    degrees: float
    centre: tuple[float, float]
    """(y, x) in the source."""
    control: Tensor | None
    """(2,G,G) elastic displacements, or None."""
    brightness: float
    contrast: float
    saturation: float


def augment(sample: Sample, config: AugmentConfig, generator: np.random.Generator) -> Sample:
    """Change a training sample at random, image and mask alike.

    Args:
        sample: image uint8 (C,H,W) or float32 (C,H,W) in [0, 1].
        config: what may change, and how far.
        generator: every random decision comes from here.
    Returns:
        A sample of the size `config.crop`, or of its own size without one. The image is float32 in
        [0, 1], or still what it was where pixels were only moved.
    """
    H, W = sample.mask.shape
    return apply(sample, draw((H, W), config, generator))


def draw(size: tuple[int, int], config: AugmentConfig, generator: np.random.Generator) -> Change:
    """Make every random decision about an image of size (H, W).

    The number of draws does not depend on what is switched on (the elastic points come last), so
    switching one thing on in an ablation leaves the others as they were.
    """
    flips = generator.random(2)
    unit = generator.uniform(-1, 1, size=7)
    zoom = 1.0
    if config.crop is not None:  # uniform in log: enlarged and shrunk equally often
        low, high = (math.log(scale) for scale in config.crop_scale)
        zoom = math.exp((low + high) / 2 + unit[0] * (high - low) / 2)
    result = config.crop or size
    control = None
    if config.elastic > 0:
        G = config.elastic_grid
        control = torch.from_numpy(generator.uniform(-1, 1, (2, G, G)).astype(np.float32))
        control *= config.elastic
    centre_y, centre_x = (
        _place(whole, part, zoom, u)
        for whole, part, u in zip(size, result, unit[1:3].tolist(), strict=True)
    )
    return Change(
        hflip=bool(flips[0] < config.hflip),
        vflip=bool(flips[1] < config.vflip),
        size=result,
        zoom=zoom,
        degrees=float(unit[3]) * config.rotate,
        centre=(centre_y, centre_x),
        control=control,
        brightness=1 + float(unit[4]) * config.brightness,
        contrast=1 + float(unit[5]) * config.contrast,
        saturation=1 + float(unit[6]) * config.saturation,
    )


def _place(whole: int, part: int, zoom: float, u: float) -> float:
    """Centre of a window of `part` / `zoom` pixels along an axis of `whole` pixels, u in [-1, 1).

    The window lies inside the image, or the image inside the window, whichever is larger.
    Without zoom the window starts on a whole pixel, so that a plain crop copies pixels.
    """
    room = whole - part / zoom
    if zoom == 1:
        start = min(math.floor((u + 1) / 2 * (abs(room) + 1)), abs(room))
        return math.copysign(start, room) + part / 2
    return whole / 2 + u * abs(room) / 2


def apply(sample: Sample, change: Change) -> Sample:
    """Carry out one decision; what it leaves alone stays as it is, bit for bit."""
    if change.zoom == 1 and change.degrees == 0 and change.control is None:
        top, left = (
            round(centre - part / 2)
            for centre, part in zip(change.centre, change.size, strict=True)
        )
        sample = crop(sample, top, left, change.size)
    else:
        sample = warp(
            sample,
            change.size,
            centre=change.centre,
            zoom=change.zoom,
            degrees=change.degrees,
            control=change.control,
        )
    if change.hflip:
        sample = hflip(sample)
    if change.vflip:
        sample = vflip(sample)
    return adjust_colour(
        sample,
        brightness=change.brightness,
        contrast=change.contrast,
        saturation=change.saturation,
    )
