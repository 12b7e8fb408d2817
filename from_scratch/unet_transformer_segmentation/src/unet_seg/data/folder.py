"""Your own images and masks: in comes a `FolderConfig`, out come datasets for train, valid, test.

`open_splits` reads every file once, before anything is trained, and reports everything that is
wrong in one error. How files are paired is in `pairs.py`, what mask values mean in `class_map.py`.

Letters: C channels, H, W pixels.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from unet_seg.config import FolderConfig
from unet_seg.data.class_map import ClassMap
from unet_seg.data.pairs import SPLITS, Pair, find_pairs
from unet_seg.data.sample import Sample
from unet_seg.errors import SegError
from unet_seg.image_files import read_image, read_mask

MOST_SHOWN = 50
"""Bad files listed in one message; of the rest it gives the number."""


class FolderDataset(Dataset[Sample]):
    """Pairs of image and mask files as samples, in the order of the pairs.

    With `folder.cache` a decoded sample stays in memory, so its tensors must not be changed in
    place. Each worker process fills a cache of its own.
    """

    def __init__(self, pairs: Sequence[Pair], folder: FolderConfig, *, channels: int) -> None:
        """Take the pairs; no file is read yet.

        Args:
            pairs: at least one, as `find_pairs` gives them.
            folder: its class_map, ignore and cache are used.
            channels: 1 or 3, of the images.
        Raises:
            SegError: no pairs, or a class map that does not make sense.
        """
        if not pairs:
            raise SegError(f"{folder.root}: no image with a mask, so the dataset is empty.")
        self.pairs = list(pairs)
        self.channels = channels
        self.class_map = ClassMap(folder)
        self.classes: tuple[str, ...] = self.class_map.classes
        self._keep = folder.cache
        self._cache: dict[Path, Sample] = {}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """The sample: image uint8 (C,H,W) (float32 from `.npy` floats), mask uint8 (H,W), name.

        Raises:
            SegError: a file that `scan` would have reported. The message names it.
        """
        pair = self.pairs[index]
        sample = self._cache.get(pair.image)
        if sample is None:
            sample = self._read(pair)
            if self._keep:
                self._cache[pair.image] = sample
        return sample

    def part(self, pairs: Sequence[Pair]) -> FolderDataset:
        """The same dataset with some of its pairs; both share what is in memory."""
        made = copy.copy(self)
        made.pairs = list(pairs)
        made._cache = self._cache  # copying goes through __getstate__, which leaves it out
        return made

    def _read(self, pair: Pair) -> Sample:
        image = read_image(pair.image, self.channels)
        values = read_mask(pair.mask, colours=self.class_map.colours)
        if values.shape[:2] != tuple(image.shape[1:]):
            raise SegError(
                f"{pair.mask}: is {values.shape[0]}x{values.shape[1]} (height x width), but "
                f"{pair.image} is {image.shape[1]}x{image.shape[2]}; they must be equal."
            )
        try:
            ids = self.class_map.to_ids(values)
        except SegError as error:
            lossy = pair.mask.suffix.lower() in (".jpg", ".jpeg", ".webp")
            hint = " JPEG and WebP change values; save masks as PNG." if lossy else ""
            raise SegError(f"{pair.mask}: {error}{hint}") from None
        return Sample(image, torch.from_numpy(ids), pair.name)

    def __getstate__(self) -> dict[str, Any]:
        # Sent to worker processes without the cache: each tensor would need an open file there.
        return {**self.__dict__, "_cache": {}}


def open_splits(folder: FolderConfig, *, channels: int) -> dict[str, FolderDataset]:
    """Pair, check and split the files of a folder.

    Splits come from the manifest's split column; if it has no valid rows, `valid_fraction` of
    train is held out. Without that column `test_fraction` of all images is held out for the test
    and then `valid_fraction` of the rest.

    Args:
        folder: where the files are and what they mean.
        channels: 1 or 3, of the images.
    Returns:
        Datasets train, valid and test, each with at least one image, no image in two of them.
    Raises:
        SegError: everything that is wrong with the files, in one message; a split without images.
    """
    pairs, problems = find_pairs(folder)
    if not pairs:
        raise SegError(_report(folder, problems))
    whole = FolderDataset(pairs, folder, channels=channels)
    scan(whole, folder, problems)
    return {split: whole.part(chosen) for split, chosen in split_pairs(pairs, folder).items()}


def scan(dataset: FolderDataset, folder: FolderConfig, problems: Iterable[str] = ()) -> None:
    """Read every pair, which also fills the cache, so that no bad file stops a run half-way.

    Args:
        dataset: all pairs.
        folder: named in the message.
        problems: what is already known to be wrong, one line each.
    Raises:
        SegError: one line for each missing mask, size mismatch, broken file and mask value outside
            the class map; the first 50, then how many more.
    """
    found = list(problems)
    found += [line for i in range(len(dataset)) if (line := _problem(dataset, i)) is not None]
    if found:
        raise SegError(_report(folder, found))


def _problem(dataset: FolderDataset, index: int) -> str | None:
    """What is wrong with a pair, or None."""
    try:
        dataset[index]
    except SegError as error:
        return str(error)
    return None


def split_pairs(pairs: Sequence[Pair], folder: FolderConfig) -> dict[str, list[Pair]]:
    """Divide pairs into train, valid and test, keeping their order.

    Raises:
        SegError: a split stays empty.
    """
    if any(pair.split is not None for pair in pairs):
        splits = {split: [pair for pair in pairs if pair.split == split] for split in SPLITS}
        for split in ("train", "test"):
            if not splits[split]:
                raise SegError(
                    f"{folder.manifest}: no row has split {split}. Mark some rows {split}, or "
                    "remove the column to have the splits drawn at random."
                )
    else:
        rest, test = _hold_out(pairs, folder.test_fraction, folder.split_seed)
        splits = {"train": rest, "valid": [], "test": test}
    if not splits["valid"]:
        train, valid = _hold_out(splits["train"], folder.valid_fraction, folder.split_seed)
        splits.update(train=train, valid=valid)
    if not splits["train"]:
        raise SegError(
            f"{folder.root}: {len(pairs)} images are too few; train, valid and test need at least "
            "one each."
        )
    return splits


def _hold_out(pairs: Sequence[Pair], fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Divide at random into the rest and about `fraction` of the pairs, at least one.

    The order of hashed names decides, not a shuffle, so that most images stay where they are when
    others are added.
    """

    def draw(pair: Pair) -> bytes:
        return hashlib.sha256(f"{seed}:{pair.name}".encode()).digest()

    count = max(1, round(fraction * len(pairs)))
    held = set(sorted(pairs, key=draw)[:count])
    return [p for p in pairs if p not in held], [p for p in pairs if p in held]


def _report(folder: FolderConfig, problems: Sequence[str]) -> str:
    """All problems as one message."""
    count = len(problems)
    head = f"{folder.root}: {count} problem{'s' if count > 1 else ''} in the images and masks:"
    shown = [f"  {line}" for line in problems[:MOST_SHOWN]]
    if count > MOST_SHOWN:
        shown.append(f"  and {count - MOST_SHOWN} more")
    return "\n".join([head, *shown, "Mend or remove these files, then start again."])
