"""The raw samples of labelled images: checked, split, and ready to be prepared. No torch here.

    check_images(data)             what `maquette check` asks: is every image usable?
    load_images(data, seed=…)      the three splits of a recipe
    load_labelled(data, classes)   other images for a finished bundle, all of them one split

Letters: n samples, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from maquette.data.images import ImageError, Pixels, decode_image, resize
from maquette.data.splits import split_rows
from maquette.data.times import read_times
from maquette.errors import DataError
from maquette.tasks.base import DataReport, Splits
from maquette.tasks.image_folders import count, some
from maquette.tasks.threads import in_threads
from maquette.tasks.vision.checking import CheckedImage, ReadImages, copies, read_images

if TYPE_CHECKING:
    from maquette.recipe.schema import ImageData


@dataclass(frozen=True, kw_only=True)
class ImageSamples:
    """Checked images of one split; n samples."""

    ids: tuple[str, ...]
    """The path of each image as a user knows it: "cats/3.png"."""
    paths: tuple[Path, ...]
    labels: NDArray[np.object_]
    """(n,) class names."""
    sizes: NDArray[np.int64]
    """(n, 2) height and width of each image as it was found."""
    pixels: NDArray[np.uint8] | None
    """(n, H, W, 3) resized images, or None when they are too many to keep in memory."""
    image_size: tuple[int, int]
    fit: Literal["crop", "pad", "stretch"]
    max_pixels: int

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, rows: Sequence[int], *, ahead: int = 64) -> Iterator[Pixels]:
        """Yield the (H, W, 3) uint8 pixels of these positions, resized, in their order.

        They come from memory, or are decoded in threads, at most `ahead` before they are taken;
        the pixels are the same either way.

        Raises:
            DataError: a file has changed since it was checked.
        """
        if self.pixels is not None:
            pixels = self.pixels
            return (pixels[row] for row in rows)
        return in_threads(self._decode, rows, ahead=ahead)

    def take(self, rows: NDArray[np.int64]) -> ImageSamples:
        """The samples at these positions, in their order."""
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            paths=tuple(self.paths[row] for row in rows),
            labels=self.labels[rows],
            sizes=self.sizes[rows],
            pixels=None if self.pixels is None else self.pixels[rows],
        )

    def _decode(self, row: int) -> Pixels:
        try:
            pixels = decode_image(self.paths[row], max_pixels=self.max_pixels)
        except ImageError as error:
            raise DataError(
                f"{self.ids[row]} {error.reason}. It was whole when the data was checked; restore "
                "it and continue with `maquette train --resume`."
            ) from None
        return resize(pixels, self.image_size, self.fit)


def check_images(data: ImageData) -> DataReport:
    """Open, decode and split every image of a recipe as training would; report what was found.

    Raises:
        DataError: more bad images than `tolerance` allows (each is listed with its reason), a class
            without images, or one class only; or the split cannot be made.
    """
    read = read_images(data, keep_pixels=False)
    rows = _split(data, read.images, seed=0)
    _refuse_untaught_classes(_samples(read, data), rows)
    sizes = {name: len(positions) for name, positions in rows.items()}
    return replace(read.report, summary=read.report.summary | {"splits": sizes})


def load_images(data: ImageData, *, seed: int) -> Splits[ImageSamples]:
    """Read, check and split the images of a recipe.

    Raises:
        DataError: as `check_images`; or the split cannot be made, or keeps a class from training.
    """
    read = read_images(data, keep_pixels=True)
    samples = _samples(read, data)
    rows = _split(data, read.images, seed)
    _refuse_untaught_classes(samples, rows)
    splits = {name: samples.take(positions) for name, positions in rows.items()}
    warnings = [*read.report.warnings, *_shared_pictures(read.images, rows)]
    return Splits(
        train=splits["train"],
        valid=splits["valid"],
        test=splits["test"],
        assignment={name: split.ids for name, split in splits.items()},
        report=replace(read.report, warnings=warnings),
    )


def load_labelled(data: ImageData, classes: Sequence[str]) -> ImageSamples:
    """Read and check labelled images for a model that knows `classes`; one class is enough here.

    Raises:
        DataError: as `check_images`; or an image of another class.
    """
    read = read_images(data, keep_pixels=True, least_classes=1)
    unknown = sorted({image.found.label for image in read.images} - set(classes))
    if unknown:
        raise DataError(
            f"{data.path} has images of {some(unknown)}, which the model was not trained on; "
            f"its classes are {', '.join(classes)}."
        )
    return _samples(read, data)


def _samples(read: ReadImages, data: ImageData) -> ImageSamples:
    return ImageSamples(
        ids=tuple(image.found.id for image in read.images),
        paths=tuple(image.found.path for image in read.images),
        labels=np.array([image.found.label for image in read.images], dtype=object),
        sizes=np.array([image.size for image in read.images], dtype=np.int64),
        pixels=read.pixels,
        image_size=data.image_size,
        fit=data.fit,
        max_pixels=data.max_pixels,
    )


def _split(
    data: ImageData, images: Sequence[CheckedImage], seed: int
) -> dict[str, NDArray[np.int64]]:
    method = "stratified" if data.split.method == "auto" else data.split.method
    values = np.array([image.found.split_value for image in images], dtype=object)
    return split_rows(
        len(images),
        ratios=(data.train_split, data.validation_split, data.test_split),
        method=method,
        labels=np.array([image.found.label for image in images], dtype=object),
        groups=values if method == "grouped" else None,
        times=_times(data, images) if method == "time" else None,
        assigned=values if method == "column" else None,
        seed=seed,
    )


def _times(data: ImageData, images: Sequence[CheckedImage]) -> NDArray[Any]:
    assert data.split.column is not None, "SplitRule asks for a column when it goes by time"
    cells = [image.found.split_value for image in images]
    return read_times(cells, column=data.split.column, ids=[image.found.id for image in images])


def _refuse_untaught_classes(samples: ImageSamples, rows: Mapping[str, NDArray[np.int64]]) -> None:
    """A grouped, timed or given split may keep every image of a class out of training."""
    taught = set(samples.labels[rows["train"]])
    for name in ("valid", "test"):
        unknown = sorted(set(samples.labels[rows[name]]) - taught)
        if unknown:
            raise DataError(
                f"The {name} split has images of {some(unknown)}, but the train split has none; "
                "give train some of each class, or leave the class out."
            )


def _shared_pictures(
    images: Sequence[CheckedImage], rows: Mapping[str, NDArray[np.int64]]
) -> Iterator[str]:
    """Warn of copies in several splits: the network is then tested on what it has seen."""
    split_of = {int(row): name for name, positions in rows.items() for row in positions}
    shared = [
        " = ".join(f"{images[row].found.id} ({split_of[row]})" for row in group[:3])
        for group in copies(images)
        if len({split_of[row] for row in group}) > 1
    ]
    if shared:
        yield (
            f"{count(shared, 'picture')} found in several splits, so the results look better than "
            f"they are: {some(shared)}"
        )
