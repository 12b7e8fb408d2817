"""Decoded images, kept between epochs: the second epoch decodes nothing. No torch here.

    store, verdicts = fill_store(files, size=64, fit="crop", max_pixels=…)     image_cache.py
    store.read(indices, size=64)        (m, 64, 64, 3) uint8

Filling opens and decodes every image once, because only decoding shows a damaged file, and keeps
what the network will see of it, once for each size: in memory, in a memory-mapped file of the cache
folder, or not at all. Every pixel equals what `fit_square` makes of the image itself, so training,
evaluation and serving see the same. Sizes that are not kept are decoded when they are read.

Letters: n files, m wanted, S side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maquette.data.images import ImageError, Pixels, decode_image, format_of
from maquette.errors import DataError
from maquette.tasks.image_text.squares import Fit, fit_square
from maquette.tasks.threads import in_threads


@dataclass(frozen=True)
class ImageFile:
    """The bytes of an image: a file, or a part of a tar."""

    name: str
    """What a user knows it by."""
    path: Path
    offset: int = 0
    length: int | None = None
    """Bytes from `offset`; None is the whole file."""

    def read(self) -> bytes:
        """Return the bytes; safe in threads.

        Raises:
            ImageError: the system does not let us.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read(-1 if self.length is None else self.length)
        except OSError as error:
            raise ImageError(f"cannot be opened: {error.strerror or error}") from None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What opening an image showed."""

    content: str
    """SHA-256 of its bytes; "" when they could not be read."""
    reason: str | None = None
    """Why it cannot be used: a phrase to put after its name."""
    format: str = ""
    size: tuple[int, int] = (0, 0)
    """Height and width, upright."""
    digest: str = ""
    """Hash of the decoded pixels: equal for copies, in whatever format."""


@dataclass(frozen=True, kw_only=True)
class ImageStore:
    """Images by number, at any size."""

    files: Sequence[ImageFile]
    size: int
    """The side that the finished network sees."""
    fit: Fit
    max_pixels: int
    tables: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    """S -> (n, S, S, 3) of every file, in memory or mapped from the disk."""
    place: str = "not kept"
    """Where the tables are, for a reader."""

    def holds(self, size: int) -> bool:
        """Whether images of this side come without decoding."""
        return size in self.tables

    def read(self, indices: Sequence[int] | NDArray[np.int64], *, size: int) -> Pixels:
        """Return the images of these numbers, (m, size, size, 3) uint8.

        Raises:
            DataError: a file has changed since it was checked.
        """
        if size in self.tables:
            kept: Pixels = self.tables[size][np.asarray(indices, dtype=np.int64)]
            return kept
        pictures = list(self.stream((int(index), size) for index in indices))
        return np.stack(pictures) if pictures else np.empty((0, size, size, 3), np.uint8)

    def stream(self, wanted: Iterable[tuple[int, int]], *, ahead: int = 64) -> Iterator[Pixels]:
        """Yield (S, S, 3) for each (number, S), decoded in threads at most `ahead` early."""
        return in_threads(self._picture, wanted, ahead=ahead)

    def without_tables(self) -> ImageStore:
        """The same images, decoded at every reading."""
        return replace(self, tables={}, place="not kept")

    def _picture(self, wanted: tuple[int, int]) -> Pixels:
        index, size = wanted
        if size in self.tables:
            kept: Pixels = self.tables[size][index]
            return kept
        file = self.files[index]
        try:
            pixels = decode_image(file.read(), max_pixels=self.max_pixels)
        except ImageError as error:
            raise DataError(
                f"{file.name} {error.reason}. It was whole when the data was checked; restore it "
                "and continue with `maquette train --resume`."
            ) from None
        return fit_square(pixels, size, self.fit)


def look_at(
    file: ImageFile, *, max_pixels: int, fit: Fit, sizes: Iterable[int] = ()
) -> tuple[Verdict, dict[int, Pixels]]:
    """Open and decode one image; return what was found, and its square of each size."""
    try:
        content = file.read()
    except ImageError as error:
        return Verdict(content="", reason=error.reason), {}
    name = hashlib.sha256(content).hexdigest()
    try:
        pixels = decode_image(content, max_pixels=max_pixels)
    except ImageError as error:
        return Verdict(content=name, reason=error.reason), {}
    height, width, _ = pixels.shape
    digest = hashlib.blake2b(pixels.data, digest_size=16, salt=width.to_bytes(8, "little"))
    verdict = Verdict(
        content=name,
        format=format_of(content) or "",
        size=(height, width),
        digest=digest.hexdigest(),
    )
    return verdict, {size: fit_square(pixels, size, fit) for size in sizes}
