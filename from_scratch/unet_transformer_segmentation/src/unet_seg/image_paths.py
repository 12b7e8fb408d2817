"""From what a user names to image files, and from those to names for the results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from unet_seg.image_files import SUFFIXES


def find_images(inputs: Sequence[str | Path], errors: list[str]) -> list[Path]:
    """The image files that files, folders and globs stand for, each once, in the order given.

    A message for each input that stands for none is appended to `errors`.
    """
    found: list[Path] = []
    for given in map(Path, inputs):
        if given.is_file():
            found.append(given)
            continue
        folder = given.is_dir()
        names = given.iterdir() if folder else map(Path, glob(str(given), recursive=True))  # noqa: PTH207
        images = sorted(p for p in names if p.suffix.lower() in SUFFIXES and p.is_file())
        found += images
        if not images:
            known = ", ".join(SUFFIXES)
            what = "holds no image" if folder else "no such file or folder, and as a glob no image"
            errors.append(f"{given}: {what} ({known}).")
    return list({path.resolve(): path for path in found}.values())


def output_names(paths: Sequence[Path]) -> list[str]:
    """A name for the results of each path, no two alike: the stems where these differ."""
    if not paths:
        return []
    common = os.path.commonpath([path.resolve().parent for path in paths])
    below = [path.resolve().relative_to(common) for path in paths]
    stems = [path.stem for path in paths]
    for names in (
        stems,
        ["-".join(path.with_suffix("").parts) for path in below],
        ["-".join((*path.with_suffix("").parts, path.suffix[1:])) for path in below],
    ):
        if len({name.casefold() for name in names}) == len(names):  # as some file systems compare
            return names
    return [f"{number}-{stem}" for number, stem in enumerate(stems, start=1)]
