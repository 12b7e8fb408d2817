"""Which mask belongs to which image: found by name in two folders, or listed in a CSV manifest.

In comes a `FolderConfig`; out come pairs of paths and a list of what is wrong with them, so that
the caller can report everything at once.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from unet_seg.config import FolderConfig
from unet_seg.errors import SegError
from unet_seg.image_files import SUFFIXES

SPLITS = ("train", "valid", "test")

MOST_HINTS = 20
"""Missing masks for which a similar name is looked for, which takes time among thousands."""


class Pair(NamedTuple):
    """An image and its mask."""

    name: str
    """The image's path below the images' common folder, without its suffix."""
    image: Path
    mask: Path
    split: str | None
    """Its split, where a manifest says so."""


def find_pairs(folder: FolderConfig) -> tuple[list[Pair], list[str]]:
    """All pairs in the order of their names, and one line for each thing wrong with the others.

    Raises:
        SegError: a folder or the manifest is not there, is empty, or is no such table.
    """
    root = Path(folder.root)
    if not root.is_dir():
        raise SegError(
            f"data.folder.root={folder.root}: no such folder (seen from {Path.cwd()}). "
            "Give the folder that holds your images and masks."
        )
    if folder.manifest is not None:
        return _from_manifest(root, root / folder.manifest)
    return _by_name(root / folder.images, root / folder.masks)


def _by_name(images: Path, masks: Path) -> tuple[list[Pair], list[str]]:
    """Pair files whose paths below the two folders are equal up to the suffix."""
    image_files, mask_files = _list(images, "images"), _list(masks, "masks")
    problems = [
        f"{' and '.join(str(p) for p in paths)}: the same name twice; rename or remove all but one"
        for paths in (*image_files.values(), *mask_files.values())
        if len(paths) > 1
    ]
    unused = sorted(mask_files.keys() - image_files.keys())
    pairs = []
    for name, paths in sorted(image_files.items()):
        if name in mask_files:
            pairs.append(Pair(name, paths[0], mask_files[name][0], None))
            continue
        near = _nearest(name, unused) if len(problems) < MOST_HINTS else None
        hint = f"; is it {mask_files[near][0].name}? The names must be equal" if near else ""
        problems.append(f"{paths[0]}: has no mask {masks / name}.png{hint}")
    return pairs, problems


def _nearest(name: str, others: Sequence[str]) -> str | None:
    """The name that is probably meant: `cell1_mask` for `cell1`, else one that looks alike."""
    longer = [other for other in others if other.startswith(name)]
    return (
        min(longer, key=len) if longer else next(iter(get_close_matches(name, others, n=1)), None)
    )


def _list(folder: Path, key: str) -> dict[str, list[Path]]:
    """Image files below a folder by their relative path without suffix; hidden files are left."""
    if not folder.is_dir():
        raise SegError(
            f"{folder}: no such folder. data.folder.{key} names it, relative to data.folder.root."
        )
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            found[path.relative_to(folder).with_suffix("").as_posix()].append(path)
    if not found:
        raise SegError(f"{folder}: holds no images ({', '.join(SUFFIXES)}), so there is no data.")
    return found


def _from_manifest(root: Path, manifest: Path) -> tuple[list[Pair], list[str]]:
    """Pairs listed in a CSV file with the columns image, mask and optionally split."""
    pairs, problems = [], []
    line_of: dict[Path, int] = {}
    for line, row in _read_manifest(manifest):
        image, mask = root / row["image"], root / row["mask"]
        split = row.get("split")
        where = f"{manifest}:{line}"
        if split is not None and split not in SPLITS:
            near = get_close_matches(split, SPLITS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            problems.append(f"{where}: split {split!r} is none of {', '.join(SPLITS)}.{hint}")
        elif image in line_of:
            problems.append(f"{where}: {image} is listed twice, first in line {line_of[image]}")
        elif not image.is_file():
            problems.append(f"{where}: no image {image}; paths start from data.folder.root")
        elif not mask.is_file():
            problems.append(f"{where}: {image} has no mask {mask}")
        else:
            pairs.append(Pair("", image, mask, split))
        line_of.setdefault(image, line)
    return sorted(_named(pairs)), problems


def _read_manifest(manifest: Path) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and rows, cells stripped."""
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            columns = [str(name).strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise SegError(f"{manifest}: no such file; data.folder.manifest names it.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SegError(f"{manifest}: cannot be read as CSV ({error}).") from None
    missing = [name for name in ("image", "mask") if name not in columns]
    if missing:
        raise SegError(
            f"{manifest}: has no column {' and '.join(missing)}; its first line is "
            f"{','.join(columns)!r}, expected image,mask,split."
        )
    if not rows:
        raise SegError(f"{manifest}: lists no images, so there is no data.")
    return [
        (line, {k: v.strip() for k, v in row.items() if isinstance(v, str)}) for line, row in rows
    ]


def _named(pairs: list[Pair]) -> Iterable[Pair]:
    """Name each pair by its image's path below the images' common folder."""
    if not pairs:
        return
    top = Path(os.path.commonpath([pair.image.parent for pair in pairs]))
    for pair in pairs:
        yield pair._replace(name=pair.image.relative_to(top).with_suffix("").as_posix())
