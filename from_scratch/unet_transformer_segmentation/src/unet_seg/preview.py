"""A picture of a dataset: images beside their masks in colours, and which colour is which class.

Goes in: any dataset of samples. Comes out: one PNG. Look at it before you train: a mask that is
shifted, mirrored or of the wrong class shows at once here, and in a loss curve hardly ever.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unet_seg.data.sample import IGNORE, Sample, Samples
from unet_seg.errors import SegError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Bytes = NDArray[np.uint8]

IGNORE_COLOUR = (255, 255, 255)
"""How ignored pixels are shown; `palette` has no white."""

CELL = 2.0
"""Width of an image in the picture, in inches."""

NAME_LENGTH = 32
"""Longer names keep their end, where those of one dataset differ."""


def preview(dataset: Samples, path: str | Path, count: int = 12) -> Path:
    """Draw up to `count` samples, spread evenly over the dataset, each beside its overlay.

    Args:
        dataset: samples with an image uint8, or float32 in [0, 1], of 1 or 3 channels.
        path: the PNG to write; its folder is made.
        count: how many samples, at least 1.
    Returns:
        `path`.
    Raises:
        SegError: count below 1, or an empty dataset.
    """
    from unet_seg.plots import save_figure

    if count < 1:
        raise SegError(f"preview: count={count} must be at least 1.")
    if len(dataset) == 0:
        raise SegError("preview: the dataset is empty; there is nothing to draw.")
    count = min(count, len(dataset))
    samples = [dataset[number * len(dataset) // count] for number in range(count)]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(_draw(samples, dataset.classes), path)
    return path


def side_by_side(sample: Sample, num_classes: int) -> Bytes:
    """The image, a white gap, and the image in grey under the colours of its mask.

    Args:
        sample: image uint8 or float32 [0, 1], of 1 or 3 channels.
    Returns:
        uint8 (H, 2 W + gap, 3).
    """
    from unet_seg.image_files import overlay, palette

    picture, mask = to_picture(sample), sample.mask.numpy()
    colours = np.full((IGNORE + 1, 3), IGNORE_COLOUR, dtype=np.uint8)
    colours[:num_classes] = palette(num_classes)
    gap = np.full((mask.shape[0], max(1, mask.shape[1] // 32), 3), 255, dtype=np.uint8)
    # Grey, since the image's own colours would mix with those of the classes.
    grey = picture.mean(axis=2).astype(np.uint8)
    return np.concatenate([picture, gap, overlay(grey, mask, colours, alpha=0.6)], axis=1)


def to_picture(sample: Sample) -> Bytes:
    """The image as uint8 (H,W,3); grey is repeated."""
    image = sample.image
    if image.is_floating_point():
        image = (image.clamp(0, 1) * 255).round()
    picture = image.permute(1, 2, 0).numpy().astype(np.uint8)
    return np.repeat(picture, 3 // picture.shape[2], axis=2)


def _draw(samples: Sequence[Sample], classes: Sequence[str]) -> Figure:
    """A grid about 4 : 3 for square images, names above the images, the legend below them all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(samples), max(1, round(math.sqrt(len(samples) * 2 / 3))))
    rows = math.ceil(len(samples) / columns)
    height = CELL * max(min(H / W, 3) for H, W in (sample.mask.shape for sample in samples))
    figure = Figure(figsize=(2 * CELL * columns, (height + 0.3) * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, sample in zip(axes, samples, strict=False):  # the last row may not be full
        name = sample.name
        axis.imshow(side_by_side(sample, len(classes)), interpolation="nearest")
        axis.set_title(
            name if len(name) <= NAME_LENGTH else f"…{name[-NAME_LENGTH:]}", size="small"
        )
    _add_legend(figure, samples, classes)
    return figure


def _add_legend(figure: Figure, samples: Sequence[Sample], classes: Sequence[str]) -> None:
    """Name the colours; ignored pixels only if there are any."""
    from matplotlib.patches import Patch

    from unet_seg.image_files import palette

    colours = dict(zip(classes, palette(len(classes)) / 255, strict=True))
    del colours[classes[0]]  # class 0 is left clear
    if any(bool((sample.mask == IGNORE).any()) for sample in samples):
        colours["ignored"] = np.array(IGNORE_COLOUR) / 255
    patches = [Patch(facecolor=c, edgecolor="black", label=n) for n, c in colours.items()]
    fitting = int(figure.get_figwidth() / (0.6 + 0.09 * max(map(len, colours), default=1)))
    ncols = max(1, min(fitting, len(patches)))
    figure.legend(
        handles=patches, loc="outside lower center", ncols=ncols, frameon=False, fontsize="small"
    )
