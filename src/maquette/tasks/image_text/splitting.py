"""Deal pairs to train, valid and test so that no image falls in two of them. No torch here.

What is dealt are units: all pairs of one image. Only a split column may put copies of a picture in
several splits, because it says so.

Letters: n pairs, U units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maquette.data.splits import split_rows
from maquette.data.times import read_times

if TYPE_CHECKING:
    from maquette.recipe.image_text import ImageTextData
    from maquette.tasks.image_text.manifest import FoundPair

Rows = NDArray[np.int64]


def split_pairs(
    data: ImageTextData, pairs: Sequence[FoundPair], images: Rows, *, seed: int
) -> dict[str, Rows]:
    """Deal n pairs as the recipe asks.

    `auto` is stratified where every class has at least two images, else random. `grouped` also
    keeps the pairs of a group together, and with them those of any image they share with others.

    Args:
        images: (n,) equal for equal pictures.
    Returns:
        {"train": rows, "valid": rows, "test": rows}, each int64 and ascending.
    Raises:
        DataError: the pairs cannot be dealt this way.
    """
    ratios = (data.train_split, data.validation_split, data.test_split)
    method = data.split.method
    values = [pair.split_value or "" for pair in pairs]
    if method == "grouped":
        groups = joined_groups(images, values)
        return split_rows(len(pairs), ratios=ratios, method=method, groups=groups, seed=seed)
    units, first = _units(images, values if method == "column" else None)
    labels = _labels([pairs[row] for row in first])
    if method == "auto":
        counts = Counter(labels or ())
        method = "stratified" if labels and min(counts.values()) > 1 else "random"
    dealt = split_rows(
        len(first),
        ratios=ratios,
        method=method,
        labels=labels,
        times=_times(data, pairs, units, len(first)) if method == "time" else None,
        assigned=[values[row] for row in first] if method == "column" else None,
        ids=[pairs[row].id for row in first],
        seed=seed,
    )
    return {name: np.flatnonzero(np.isin(units, chosen)) for name, chosen in dealt.items()}


def joined_groups(images: Rows, groups: Sequence[str]) -> NDArray[np.object_]:
    """Name each pair's group, groups that share an image becoming one, (n,) text."""
    parent: dict[str, str] = {name: name for name in groups}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: dict[int, str] = {}
    for image, name in zip(images.tolist(), groups, strict=True):
        parent[root(name)] = root(first.setdefault(image, name))
    return np.array([root(name) for name in groups], dtype=object)


def _units(images: Rows, assigned: Sequence[str] | None) -> tuple[Rows, list[int]]:
    """Number the units in order of appearance; return each pair's, (n,), and each unit's first."""
    numbers: dict[tuple[int, str], int] = {}
    first: list[int] = []
    units = np.empty(len(images), dtype=np.int64)
    for row, image in enumerate(images.tolist()):
        key = (image, "" if assigned is None else assigned[row])
        if key not in numbers:
            numbers[key] = len(first)
            first.append(row)
        units[row] = numbers[key]
    return units, first


def _labels(pairs: Sequence[FoundPair]) -> list[str] | None:
    labels = [pair.label for pair in pairs if pair.label is not None]
    return labels if len(labels) == len(pairs) else None


def _times(
    data: ImageTextData, pairs: Sequence[FoundPair], units: Rows, num_units: int
) -> NDArray[Any]:
    """(U,) the latest time of each unit: no pair of an earlier split is later than it seems."""
    assert data.split.column is not None, "SplitRule asks for a column when it goes by time"
    cells = [pair.split_value for pair in pairs]
    times = read_times(cells, column=data.split.column, ids=[pair.place for pair in pairs])
    latest = np.full(num_units, times.min(), dtype=times.dtype)
    np.maximum.at(latest, units, times)
    return latest
