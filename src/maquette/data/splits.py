"""Deal samples to train, valid and test: stratified, random, grouped, by time, or as a column says.

`split_rows` is a pure function of its arguments: the same seed deals the same samples on every
machine. What a sample's label, group or time is decides together with its position; nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maquette.data.randomness import permutation
from maquette.errors import DataError

Rows = NDArray[np.int64]
Ratios = tuple[float, float, float]
Method = Literal["auto", "stratified", "random", "grouped", "time", "column"]

SPLITS = ("train", "valid", "test")
SPELLINGS = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing"),
}
FEWEST = 3


def split_rows(
    num_rows: int,
    *,
    ratios: Ratios,
    method: Method,
    labels: Sequence[Any] | NDArray[Any] | None = None,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    times: NDArray[Any] | None = None,
    assigned: Sequence[Any] | NDArray[Any] | None = None,
    ids: Sequence[str] | None = None,
    seed: int,
) -> dict[str, Rows]:
    """Deal the rows 0..num_rows-1; the splits are disjoint and complete, and none is empty.

    Args:
        ratios: shares of train, valid and test; they sum to 1.
        method: `stratified` keeps the share of each class in each split to within one sample;
            `random` ignores classes; `grouped` keeps samples of one group together; `time` gives
            the latest to test and the ones before to valid, equal times together; `column` does
            what `assigned` says; `auto` is stratified with labels and random without.
        labels: (num_rows,) class names, for stratified, and for column without valid rows.
        groups: (num_rows,) for grouped.
        times: (num_rows,) numbers, datetime64, or ISO 8601 text, none missing, for time.
        assigned: (num_rows,) names such as train, validation, val, test, for column.
        ids: (num_rows,) what a reader calls the samples; only messages use them.
    Returns:
        {"train": rows, "valid": rows, "test": rows}, each int64 and ascending.
    Raises:
        DataError: the samples cannot be dealt this way; the text says why and what to change.
    """
    if num_rows < FEWEST:
        raise DataError(
            f"{num_rows} samples cannot fill train, validation and test; at least {FEWEST} are "
            "needed."
        )
    if method == "auto":
        method = "random" if labels is None else "stratified"
    if method == "column":
        parts = _by_column(_given(assigned, "assigned"), ratios, labels, seed)
    elif method == "time":
        parts = _by_time(_as_times(_given(times, "times")), ratios)
    elif method == "grouped":
        parts = _by_group(_given(groups, "groups"), ratios, seed)
    elif method == "random":
        parts = _shuffled(np.arange(num_rows), ratios, seed)
    elif labels is None:
        raise DataError(
            "split.method is stratified, which needs classes, but the target is a number. "
            "Use split.method: random."
        )
    else:
        names = np.asarray(labels, dtype=object).astype(str)
        _refuse_lonely(names, ids)
        parts = _by_class(names, ratios, seed)
    return {name: np.sort(rows) for name, rows in zip(SPLITS, parts, strict=True)}


def _given(values: Any, name: str) -> NDArray[Any]:
    assert values is not None, f"the caller passes {name} for this method"
    return np.asarray(values)


def _shuffled(rows: Rows, ratios: Sequence[float], seed: int) -> list[Rows]:
    order = rows[permutation(len(rows), seed=seed, epoch=0, purpose="split")]
    counts = _share(len(rows), ratios)
    return np.split(order, np.cumsum(counts)[:-1])


def _share(total: int, ratios: Sequence[float]) -> NDArray[np.int64]:
    """Largest remainder: whole counts that sum to `total`, at least one for each ratio above 0."""
    quotas = total * np.asarray(ratios)
    counts = np.floor(quotas + 1e-9).astype(np.int64)
    for place in np.argsort(-(quotas - counts), kind="stable")[: total - counts.sum()]:
        counts[place] += 1
    for place in np.flatnonzero((counts == 0) & (np.asarray(ratios) > 0)):
        counts[np.argmax(counts)] -= 1
        counts[place] = 1
    return counts


def _by_class(labels: NDArray[np.str_], ratios: Sequence[float], seed: int) -> list[Rows]:
    """Deal each class by itself; every class has at least two samples."""
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shuffled = permutation(len(labels), seed=seed, epoch=0, purpose="split")
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    members = np.split(by_class, np.cumsum(sizes)[:-1])
    parts: list[list[Rows]] = [[] for _ in ratios]
    for rows, counts in zip(members, _class_counts(sizes, ratios), strict=True):
        for part, dealt in zip(parts, np.split(rows, np.cumsum(counts)[:-1]), strict=True):
            part.append(dealt)
    return [np.concatenate(part) for part in parts]


def _class_counts(sizes: NDArray[np.int64], ratios: Sequence[float]) -> NDArray[np.int64]:
    """Counts (N classes, splits) whose rows sum to `sizes`; the first split has every class.

    Each class gets its quotas rounded down or up. Which ones are rounded up is chosen so that the
    totals follow the ratios too: rounding every small class alike would starve a split.
    """
    quotas = sizes[:, None] * np.asarray(ratios)  # (N, splits)
    counts: NDArray[np.int64] = np.floor(quotas + 1e-9).astype(np.int64)
    owed = np.zeros(len(ratios))  # what each split should have had from the classes so far
    for quota, count, size in zip(quotas, counts, sizes, strict=True):
        owed += quota - count
        for place in np.argsort(-owed, kind="stable")[: size - count.sum()]:
            count[place] += 1
            owed[place] -= 1
        if count[0] == 0:
            place = int(np.argmax(count))
            count[[0, place]] += (1, -1)
            owed[[0, place]] += (-1, 1)
    for place in np.flatnonzero(counts.sum(axis=0) == 0):
        spare = counts * (counts.sum(axis=0) > 1)
        spare[:, 0] *= counts[:, 0] > 1
        donor = np.unravel_index(np.argmax(spare), spare.shape)
        counts[donor] -= 1
        counts[donor[0], place] += 1
    return counts


def _refuse_lonely(labels: NDArray[np.str_], ids: Sequence[str] | None) -> None:
    classes, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    lonely = np.flatnonzero(sizes == 1)
    if not len(lonely):
        return
    places = [f" ({ids[row]})" if ids is not None else "" for row in first[lonely[:10]]]
    names = [f"{c!r}{p}" for c, p in zip(classes[lonely].tolist(), places, strict=False)]
    more = f" and {len(lonely) - 10} more" if len(lonely) > 10 else ""
    what = "class has" if len(lonely) == 1 else "classes have"
    raise DataError(
        f"{len(lonely)} {what} one sample only: {', '.join(names)}{more}. One sample cannot be "
        "both learned and tested. Merge the class with another, remove it, add samples, or set "
        "split.method: random."
    )


def _by_group(groups: NDArray[Any], ratios: Ratios, seed: int) -> list[Rows]:
    """Deal whole groups, the largest first, each to the split that lacks most samples."""
    names, codes, sizes = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    if len(names) < FEWEST:
        raise DataError(
            f"The group column has {len(names)} group{'s' * (len(names) != 1)} "
            f"({', '.join(map(repr, names.tolist()))}), which cannot fill three splits without "
            "being cut. Choose another split.column, or set split.method: random."
        )
    shuffled = permutation(len(names), seed=seed, epoch=0, purpose="split")
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    lacking = len(groups) * np.asarray(ratios)
    chosen = np.empty(len(names), dtype=np.int64)
    for group in order:
        chosen[group] = np.argmax(lacking)
        lacking[chosen[group]] -= sizes[group]
    _fill_empty(chosen, order[::-1])
    return [np.flatnonzero(chosen[codes] == split) for split in range(len(SPLITS))]


def _fill_empty(chosen: NDArray[np.int64], smallest_first: NDArray[np.int64]) -> None:
    """Give a split without groups the smallest group of a split that has several."""
    for split in range(len(SPLITS)):
        if (chosen == split).any():
            continue
        counts = np.bincount(chosen, minlength=len(SPLITS))
        donor = next(group for group in smallest_first if counts[chosen[group]] > 1)
        chosen[donor] = split


def _by_time(times: NDArray[Any], ratios: Ratios) -> list[Rows]:
    """Cut the time line twice, between different times, nearest to where the ratios would."""
    order: Rows = np.argsort(times, kind="stable")
    edges = np.flatnonzero(times[order][1:] != times[order][:-1]) + 1  # where the time changes
    if len(edges) < 2:
        raise DataError(
            f"The time column has {len(edges) + 1} different value{'s' * bool(len(edges))}; three "
            "splits in order of time need at least 3. Choose another split.column or method."
        )
    first = int(_nearest_edge(edges[:-1], len(times) * ratios[0]))
    second = int(_nearest_edge(edges[edges > first], len(times) * (ratios[0] + ratios[1])))
    return np.split(order, [first, second])


def _as_times(times: NDArray[Any]) -> NDArray[Any]:
    """Turn text into times that can be ordered; numbers and datetime64 are so already."""
    if times.dtype.kind in "iufM":
        return times
    from maquette.data.arrow import from_texts
    from maquette.data.cells import parse_times

    values, bad = parse_times(from_texts([str(value) for value in times]))
    if bad.any():
        raise DataError(
            f"The time column holds {str(times[int(bad.argmax())])!r}, expected dates such as "
            "2024-05-31 or 2024-05-31T14:30:00, or numbers."
        )
    return values


def _nearest_edge(edges: NDArray[np.int64], wanted: float) -> np.int64:
    return np.int64(edges[np.argmin(np.abs(edges - wanted))])


def _by_column(
    assigned: NDArray[Any], ratios: Ratios, labels: Sequence[Any] | NDArray[Any] | None, seed: int
) -> list[Rows]:
    meaning = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}
    given = np.array([str(value).strip().lower() for value in assigned])
    unknown = sorted({str(v) for v, low in zip(assigned, given, strict=True) if low not in meaning})
    if unknown:
        raise DataError(
            f"The split column holds {', '.join(map(repr, unknown[:5]))}, which names no split."
            f" Expected: {', '.join(meaning)}."
        )
    names = np.array([meaning[value] for value in given])
    train, valid, test = (np.flatnonzero(names == name) for name in SPLITS)
    if not len(train) or not len(test):
        absent = "train" if not len(train) else "test"
        raise DataError(f"The split column says {absent!r} for no row; all three splits need some.")
    if not len(valid):
        train, valid = _carve(train, ratios, labels, seed)
    return [train, valid, test]


def _carve(
    train: Rows, ratios: Ratios, labels: Sequence[Any] | NDArray[Any] | None, seed: int
) -> tuple[Rows, Rows]:
    """Take the validation rows out of the rows assigned to train, stratified where possible."""
    if ratios[1] == 0 or len(train) < 2:
        raise DataError(
            "The split column says 'valid' for no row. Mark some rows so, or give "
            "validation_split a share above 0 to have them taken out of train."
        )
    share = ratios[1] / (ratios[0] + ratios[1])
    two = (1 - share, share)
    if labels is None:
        kept, taken = _shuffled(train, two, seed)
        return kept, taken
    names = np.asarray(labels, dtype=object).astype(str)[train]
    _, codes, sizes = np.unique(names, return_inverse=True, return_counts=True)
    alone = sizes[codes] == 1  # the column put the class's other samples elsewhere: learn from it
    if alone.all():
        kept, taken = _shuffled(train, two, seed)
        return kept, taken
    kept, taken = (train[~alone][rows] for rows in _by_class(names[~alone], two, seed))
    return np.concatenate([kept, train[alone]]), taken
