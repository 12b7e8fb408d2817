"""Open and judge every image of a recipe: what can be used, what cannot and why, what is odd.

`read_images` is the way in. It decodes everything, because only decoding shows a damaged file, and
keeps the resized pixels where they fit in memory, so that training need not decode again.

Letters: n images, H W pixels.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maquette.data.catalogue import resolve
from maquette.data.images import (
    SUFFIXES,
    ImageError,
    Pixels,
    decode_image,
    format_of,
    read_bytes,
    resize,
)
from maquette.device import available_memory
from maquette.errors import DataError
from maquette.tasks.base import DataReport, Json
from maquette.tasks.image_folders import FoundImage, Listing, count, some
from maquette.tasks.threads import in_threads
from maquette.tasks.vision.listing import list_images

if TYPE_CHECKING:
    from maquette.recipe.schema import ImageData

MOST_MEMORY = 2 * 2**30
"""Bytes of resized pixels kept at most; less when a quarter of the available memory is less."""


@dataclass(frozen=True, kw_only=True)
class CheckedImage:
    """An image that decodes."""

    found: FoundImage
    format: str
    size: tuple[int, int]
    """Height and width, upright."""
    digest: bytes
    """Hash of the decoded pixels: equal for copies, in whatever format."""


@dataclass(frozen=True, kw_only=True)
class ReadImages:
    """Every usable image of a recipe, n of them, and the report on all."""

    images: Sequence[CheckedImage]
    pixels: NDArray[np.uint8] | None
    """(n, H, W, 3) resized; None when not wanted, or too large for the memory."""
    report: DataReport


def read_images(data: ImageData, *, keep_pixels: bool, least_classes: int = 2) -> ReadImages:
    """List, decode and judge the images of a recipe.

    Raises:
        DataError: more bad images than `data.tolerance` allows (each is listed with its reason), a
            class without images, or fewer classes than `least_classes`.
    """
    by_column = data.split.method in ("grouped", "time", "column")
    listing = list_images(
        resolve(data.path),
        image_column=data.image_column,
        label_column=data.label_column,
        split_column=data.split.column if by_column else None,
    )
    pixels = _room(len(listing.images), data.image_size) if keep_pixels else None

    def check(row: int) -> CheckedImage | str:
        return _check(listing.images[row], data, None if pixels is None else pixels[row])

    checked = list(in_threads(check, range(len(listing.images))))
    good = [row for row, one in enumerate(checked) if isinstance(one, CheckedImage)]
    images = [one for one in checked if isinstance(one, CheckedImage)]
    bad = [
        *listing.bad,
        *(
            {"place": found.id, "reason": one}
            for found, one in zip(listing.images, checked, strict=True)
            if isinstance(one, str)
        ),
    ]
    _refuse_bad(data, listing, images, bad)
    _refuse_few_classes(data, images, least_classes)
    if pixels is not None and bad:
        pixels = pixels[good]
    report = DataReport(
        source=data.path,
        num_samples=len(images),
        quarantined=bad,
        warnings=[*listing.warnings, *_warnings(data, images)],
        summary=_summary(images),
    )
    return ReadImages(images=images, pixels=pixels, report=report)


def copies(images: Sequence[CheckedImage]) -> list[list[int]]:
    """Group the positions of images that show the same pixels; images without a copy are absent."""
    groups = defaultdict(list)
    for row, image in enumerate(images):
        groups[image.digest].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _room(count: int, image_size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Make room for the resized pixels, or return None when they would crowd the memory."""
    shape = (count, *image_size, 3)
    budget = min(MOST_MEMORY, available_memory() // 4)
    return np.empty(shape, dtype=np.uint8) if math.prod(shape) <= budget else None


def _check(found: FoundImage, data: ImageData, kept: Pixels | None) -> CheckedImage | str:
    """Decode one image, and write its resized pixels to `kept`; return why if it cannot be used."""
    try:
        content = read_bytes(found.path)
        pixels = decode_image(content, max_pixels=data.max_pixels)
    except ImageError as error:
        return error.reason
    if kept is not None:
        kept[:] = resize(pixels, data.image_size, data.fit)
    height, width, _ = pixels.shape
    digest = hashlib.blake2b(pixels.data, digest_size=16, salt=width.to_bytes(8, "little")).digest()
    name = format_of(content) or ""
    return CheckedImage(found=found, format=name, size=(height, width), digest=digest)


def _refuse_bad(
    data: ImageData,
    listing: Listing,
    images: Sequence[CheckedImage],
    bad: Sequence[dict[str, str]],
) -> None:
    """Raise when a class is empty, or when more images are bad than the recipe tolerates."""
    total = len(bad) + len(images)
    too_many = not images or len(bad) > data.tolerance * total
    lines = [
        f"{name}/ is a class folder without images; put some in, or remove it"
        for name in listing.empty_classes
    ]
    if too_many:
        lines += [f"{one['place']} {one['reason']}" for one in bad]
    else:
        lost = {found.label for found in listing.images} - {one.found.label for one in images}
        lines += [f"the class {name!r} has no usable image left" for name in sorted(lost)]
    if not lines:
        return
    message = "\n  ".join([f"{data.path} cannot be used as it is:", *lines])
    if too_many:
        message += f"\n{_advice(len(bad), total, data.tolerance)}"
    raise DataError(message)


def _advice(num_bad: int, total: int, tolerance: float) -> str:
    share = num_bad / total
    text = (
        f"{num_bad} of {total} images cannot be used ({share:.2%}, data.image.tolerance is "
        f"{tolerance:.2%}). Repair or remove them"
    )
    if num_bad == total:
        return f"{text}."
    return (
        f"{text}, or set them aside with data.image.tolerance={math.ceil(share * 1000) / 1000:g}."
    )


def _refuse_few_classes(data: ImageData, images: Sequence[CheckedImage], least: int) -> None:
    classes = {image.found.label for image in images}
    if len(classes) < least:
        raise DataError(
            f"{data.path} has one class only, {min(classes)!r}; a classifier needs at least two."
        )


def _warnings(data: ImageData, images: Sequence[CheckedImage]) -> Iterator[str]:
    misnamed = [
        f"{image.found.id} ({image.format})"
        for image in images
        if SUFFIXES.get(image.found.path.suffix.lower()) != image.format
    ]
    if misnamed:
        yield (
            f"{len(misnamed)} of {len(images)} images: the name does not say the format, so the "
            f"content decided: {some(misnamed)}"
        )
    sizes = {image.size for image in images}
    if len(sizes) > 1:
        smallest, largest = (f"{h} × {w}" for h, w in (min(sizes), max(sizes)))
        height, width = data.image_size
        yield (
            f"{len(sizes)} image sizes (height × width), from {smallest} to {largest}; all become "
            f"{height} × {width} (fit: {data.fit})"
        )
    yield from _copy_warnings(images)


def _copy_warnings(images: Sequence[CheckedImage]) -> Iterator[str]:
    groups = copies(images)
    if groups:
        names = [" = ".join(images[row].found.id for row in rows[:3]) for rows in groups]
        yield f"{count(groups, 'picture')} found more than once: {some(names)}"
    disputed = [
        ", ".join(f"{images[row].found.id} is {images[row].found.label}" for row in rows[:3])
        for rows in groups
        if len({images[row].found.label for row in rows}) > 1
    ]
    if disputed:
        yield f"{count(disputed, 'picture')} found under several labels: {some(disputed)}"


def _summary(images: Sequence[CheckedImage]) -> Json:
    heights, widths = zip(*(image.size for image in images), strict=True)
    return {
        "classes": dict(sorted(Counter(image.found.label for image in images).items())),
        "formats": dict(Counter(image.format for image in images).most_common()),
        "height": {"smallest": min(heights), "largest": max(heights)},
        "width": {"smallest": min(widths), "largest": max(widths)},
    }
