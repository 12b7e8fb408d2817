"""`maquette init IMAGES/`: look at class folders and write a commented recipe that trains as it is.

Up to `LOOKED_AT` images are decoded, so a large folder takes seconds; `maquette check` decodes all.
"""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from maquette.data.images import ImageError, decode_image
from maquette.errors import DataError
from maquette.tasks.image_folders import FoundImage, some
from maquette.tasks.threads import in_threads
from maquette.tasks.vision.listing import list_images

LOOKED_AT = 500
"""Images decoded, evenly over all of them."""

MAX_PIXELS = 50_000_000
"""The default of the recipe's `max_pixels`."""

SIDES = (32, 64, 128)
"""Lengths suggested for the longer side: the largest that the images have; smaller ones stay."""

SMALLEST_SIDE = 8

NEARLY_SQUARE = 1.5
"""Longer side / shorter side up to which cutting the middle out loses little."""

IMBALANCED = 3
"""Largest class / smallest class from which on classes are weighed."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large a network and how long a training suit a number of images."""

    up_to_images: float
    name: str
    base_width: int
    batch_size: int
    epochs: int
    learning_rate: float


SIZES = (
    Sizes(
        up_to_images=200,
        name="resnet18",
        base_width=16,
        batch_size=8,
        epochs=40,
        learning_rate=0.001,
    ),
    Sizes(
        up_to_images=10_000,
        name="resnet18",
        base_width=32,
        batch_size=32,
        epochs=40,
        learning_rate=0.003,
    ),
    Sizes(
        up_to_images=float("inf"),
        name="resnet18",
        base_width=64,
        batch_size=64,
        epochs=20,
        learning_rate=0.002,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What names and headers show of a folder of images."""

    path: Path
    counts: dict[str, int]
    """Images of each class."""
    shapes: Sequence[tuple[int, int]]
    """Height and width of the images looked at."""
    bad: Sequence[str]
    """Place and reason of what cannot be used, among those looked at."""

    @property
    def num_images(self) -> int:
        return sum(self.counts.values())


def suggest_recipe(path: Path) -> str:
    """Look at class folders and return the YAML of a recipe for them.

    Raises:
        DataError: no class folders, one class only, a class without images, or no image that opens.
    """
    return _write(_look_at(Path(path)))


def _look_at(path: Path) -> Look:
    listing = list_images(path, image_column="image", label_column="label", split_column=None)
    counts = dict(sorted(Counter(image.label for image in listing.images).items()))
    _refuse_classes(path, counts, listing.empty_classes)
    step = math.ceil(len(listing.images) / LOOKED_AT)
    seen = list(in_threads(_shape, listing.images[::step]))
    shapes = [one for one in seen if not isinstance(one, str)]
    bad = [f"{one['place']} {one['reason']}" for one in listing.bad]
    bad += [one for one in seen if isinstance(one, str)]
    if not shapes:
        raise DataError(f"{path} has no usable image: {some(bad)}.")
    return Look(path=path, counts=counts, shapes=shapes, bad=bad)


def _refuse_classes(path: Path, counts: dict[str, int], empty: Sequence[str]) -> None:
    """Refuse what no recipe could make trainable."""
    lonely = [name for name, count in counts.items() if count == 1]
    if empty:
        raise DataError(
            f"{path} has class folders without images: {some(empty)}. Put some in, or remove them."
        )
    if lonely:
        raise DataError(
            f"{path} has classes with one image only: {some(lonely)}. It cannot be both learned "
            "and tested; add images, or remove the folder."
        )
    if len(counts) < 2:
        raise DataError(
            f"{path} has one class only, {min(counts)!r}; a classifier needs at least two."
        )


def _shape(found: FoundImage) -> tuple[int, int] | str:
    """Height and width, or what is wrong."""
    try:
        height, width, _ = decode_image(found.path, max_pixels=MAX_PIXELS).shape
    except ImageError as error:
        return f"{found.id} {error.reason}"
    return height, width


def _write(look: Look) -> str:
    sizes = next(sizes for sizes in SIZES if look.num_images <= sizes.up_to_images)
    classes = some([f"{name} ({count})" for name, count in look.counts.items()])
    lines = [
        f"# Written by: {shlex.join(['maquette', 'init', str(look.path)])}",
        "# Save it as recipe.yaml and run: maquette train recipe.yaml",
        f"# {look.num_images} images of {len(look.counts)} classes: {_one_line(classes)}.",
        f"name: {_name(look.path)}",
        "data:",
        "  image:",
        *(f"    {line}" for line in _data_lines(look)),
        "model:",
        "  type: vision",
        f"  name: {sizes.name}",
        "  architecture:",
        f"    base_width: {sizes.base_width}  # for {look.num_images} images; 64 is the paper's",
        "training:",
        f"  epochs: {sizes.epochs}  # at most: early stopping ends a run that no longer improves",
        f"  batch_size: {sizes.batch_size}",
        f"  learning_rate: {sizes.learning_rate}",
    ]
    if max(look.counts.values()) >= IMBALANCED * min(look.counts.values()):
        lines.append("  class_weights: balanced  # each class counts the same, rare or not")
    lines += ["  early_stopping:", "    patience: 15"]
    return "\n".join(lines) + "\n"


def _data_lines(look: Look) -> Iterator[str]:
    height, width = _image_size(look.shapes)
    smallest, largest = min(look.shapes), max(look.shapes)
    found = f"{smallest[0]} × {smallest[1]}"
    if smallest != largest:
        found += f" to {largest[0]} × {largest[1]}"
    yield f"path: {_scalar(str(look.path))}"
    if max(largest) > max(height, width):
        found += "; larger sees more and takes longer"
    yield f"image_size: [{height}, {width}]  # height, width; found: {found}"
    yield _fit_line(look.shapes)
    if look.bad:
        share = math.ceil(1000 * len(look.bad) / (len(look.shapes) + len(look.bad))) / 1000
        yield f"tolerance: {share:g}  # sets aside: {_one_line(some(look.bad))}"
    yield "augmentation:  # random changes of the training images, new ones every epoch"
    yield "  rotation_range: 10  # degrees either way"
    yield "  translate: 0.1  # up to a tenth of the side"
    yield "  scale: [0.9, 1.1]"
    yield "  brightness: 0.2"
    yield "  contrast: 0.2"
    yield "  horizontal_flip: false  # true where left and right mean nothing: animals, not text"


def _image_size(shapes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The common shape of all images made no larger than `SIDES` allow, or else a square."""
    height, width = (int(side) for side in np.median(shapes, axis=0))
    longer = max(height, width)
    side = max([s for s in SIDES if s <= longer], default=longer)
    if len(set(shapes)) > 1:
        height = width = longer
    scale = side / longer
    return max(round(height * scale), SMALLEST_SIDE), max(round(width * scale), SMALLEST_SIDE)


def _fit_line(shapes: Sequence[tuple[int, int]]) -> str:
    longest = max(max(shape) / min(shape) for shape in shapes)
    if len(set(shapes)) == 1 or longest <= NEARLY_SQUARE:
        return "fit: crop  # fills the shape and cuts what is over; or pad, stretch"
    return f"fit: pad  # sides differ up to {longest:.1f} times; crop would cut much away"


def _name(path: Path) -> str:
    """A recipe name: letters, digits, dot, dash and underscore, at most 64."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.resolve().name).strip("-._")[:64]
    return _scalar(name or "images")


def _scalar(text: str) -> str:
    """A string as YAML, quoted where it must be."""
    return yaml.safe_dump(text, allow_unicode=True, width=10_000).removesuffix("\n...\n").strip()


def _one_line(text: str) -> str:
    """What a comment may hold: no line breaks."""
    return " ".join(text.split())
