"""Decode every image once and keep it: in memory, in the cache folder, or not. No torch here.

In the cache folder lie memory-mapped files, whole or not there at all. A folder is named by the
hash of every image's bytes, the sizes and the fit, so other images never meet under one name. It
holds one `.npy` per size and `verdicts.json`; when it is there, nothing is decoded. Two processes
may fill it at once: the first to finish wins.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np

from maquette.data.images import ImageError, Pixels
from maquette.device import available_memory
from maquette.errors import DataError, RunError
from maquette.files import CACHE, cache_folder, write_folder_once
from maquette.tasks.image_text.image_store import ImageFile, ImageStore, Verdict, look_at
from maquette.tasks.image_text.squares import Fit
from maquette.tasks.threads import in_threads

VERSION = 1
"""Raised when other pixels come out of the same bytes."""

MOST_MEMORY = 2 * 2**30
"""Bytes that `auto` keeps in memory at most; less when a quarter of what is available is less."""

Cache = Literal["auto", "memory", "disk", "off"]


def fill_store(
    files: Sequence[ImageFile],
    *,
    size: int,
    fit: Fit,
    max_pixels: int,
    other_sizes: Sequence[int] = (),
    cache: Cache = "auto",
) -> tuple[ImageStore, list[Verdict]]:
    """Open and decode every image, and keep its squares where `cache` says.

    Args:
        size: the side that the finished network sees.
        other_sizes: further sides that training reads.
    Returns:
        the store, and a verdict for each file; the pixels of files that cannot be used are zero.
    Raises:
        DataError: `memory` is asked for and there is not enough.
        RunError: `disk` is meant and the cache folder is full or not writable.
    """
    store = ImageStore(files=files, size=size, fit=fit, max_pixels=max_pixels)
    sizes = sorted({size, *other_sizes})
    needed = sum(len(files) * size * size * 3 for size in sizes)
    if cache == "off" or not needed:
        return store, look_at_all(files, max_pixels=max_pixels)
    free = available_memory()
    if cache == "memory" and needed > free:
        raise DataError(
            f"{len(files)} decoded images of {_sides(sizes)} need {needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB of memory are available; set data.image_text.cache: disk, or "
            "a smaller image_size."
        )
    if cache == "memory" or (cache == "auto" and needed <= min(MOST_MEMORY, free // 4)):
        return _fill_memory(store, sizes)
    return _fill_disk(store, sizes, needed=needed)


def look_at_all(files: Sequence[ImageFile], *, max_pixels: int) -> list[Verdict]:
    """Open and decode every image, and keep only what was found."""

    def look(file: ImageFile) -> Verdict:
        return look_at(file, max_pixels=max_pixels, fit="crop")[0]

    return list(in_threads(look, files))


def _fill_memory(store: ImageStore, sizes: Sequence[int]) -> tuple[ImageStore, list[Verdict]]:
    tables = {size: np.zeros((len(store.files), size, size, 3), np.uint8) for size in sizes}

    def look(index: int) -> Verdict:
        verdict, squares = look_at(
            store.files[index], max_pixels=store.max_pixels, fit=store.fit, sizes=sizes
        )
        for size, square in squares.items():
            tables[size][index] = square
        return verdict

    verdicts = list(in_threads(look, range(len(store.files))))
    return replace(store, tables=tables, place="memory"), verdicts


def _sides(sizes: Sequence[int]) -> str:
    return " and ".join(f"{size} × {size}" for size in sizes)


def _fill_disk(
    store: ImageStore, sizes: Sequence[int], *, needed: int
) -> tuple[ImageStore, list[Verdict]]:
    """Return the store with its tables mapped from the cache folder, made when it is not there.

    Args:
        needed: bytes of the tables.
    Raises:
        RunError: the disk is full, or the folder is not writable.
    """
    folder = cache_folder("images") / _name(store, sizes)
    if not folder.is_dir():
        _refuse_small_disk(folder, needed)
    write_folder_once(folder, lambda part: _write(part, store, sizes))
    tables = {size: np.load(_table(folder, size), mmap_mode="r") for size in sizes}
    found = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
    verdicts = [Verdict(**one | {"size": tuple(one["size"])}) for one in found]
    return replace(store, tables=tables, place=str(folder)), verdicts


def _name(store: ImageStore, sizes: Sequence[int]) -> str:
    facts = [VERSION, store.fit, store.max_pixels, *sorted(sizes)]
    whole = hashlib.sha256(json.dumps(facts).encode())
    for content in in_threads(_hash, store.files):
        whole.update(content)
    return whole.hexdigest()[:32]


def _hash(file: ImageFile) -> bytes:
    try:
        return hashlib.sha256(file.read()).digest()
    except ImageError:
        return b"not there"


def _write(folder: Path, store: ImageStore, sizes: Sequence[int]) -> None:
    """Decode everything once and write it in order.

    Plain writes, not a mapped file: a disk that fills up is an error here and a crash there.
    """

    def look(file: ImageFile) -> tuple[Verdict, dict[int, Pixels]]:
        return look_at(file, max_pixels=store.max_pixels, fit=store.fit, sizes=sizes)

    verdicts = []
    with ExitStack() as stack:
        files = {s: stack.enter_context(_table(folder, s).open("wb")) for s in sizes}
        for size, file in files.items():
            header = {
                "descr": "|u1",
                "fortran_order": False,
                "shape": (len(store.files), size, size, 3),
            }
            np.lib.format.write_array_header_1_0(file, header)
        for verdict, squares in in_threads(look, store.files):
            verdicts.append(asdict(verdict))
            for size, file in files.items():
                square = squares.get(size)
                file.write(bytes(size * size * 3) if square is None else square.tobytes())
    (folder / "verdicts.json").write_text(json.dumps(verdicts), encoding="utf-8")


def _table(folder: Path, size: int) -> Path:
    return folder / f"{size}.npy"


def _refuse_small_disk(folder: Path, needed: int) -> None:
    place = next(parent for parent in folder.parents if parent.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise RunError(
            f"The decoded images need {needed / 2**30:.1f} GiB in {folder.parent}, whose disk has "
            f"{free / 2**30:.1f} GiB free. Free some space, choose another cache folder with "
            f"{CACHE}=FOLDER, or set data.image_text.cache: off."
        )
