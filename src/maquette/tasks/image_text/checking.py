"""Open and judge every pair of a recipe: what can be used, what cannot and why. No torch here.

`read_pairs` is the way in. It decodes every image, because only decoding shows a damaged file, and
keeps what training will see of it, so that training need not decode again.

Letters: n pairs.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maquette.data.catalogue import resolve
from maquette.errors import DataError, nearest
from maquette.tasks.base import DataReport, Json
from maquette.tasks.image_folders import count, some
from maquette.tasks.image_text.captions import normal_text
from maquette.tasks.image_text.class_folders import list_class_folders
from maquette.tasks.image_text.image_cache import fill_store, look_at_all
from maquette.tasks.image_text.image_store import ImageFile, ImageStore, Verdict
from maquette.tasks.image_text.manifest import FoundPair, PairListing, list_manifest
from maquette.tasks.image_text.shards import is_shards, list_shards

if TYPE_CHECKING:
    from maquette.recipe.image_text import ImageTextData

SHOWN = 1000
"""Bad pairs listed in a message; the rest are counted."""


@dataclass(frozen=True, kw_only=True)
class ReadPairs:
    """Every usable pair of a recipe, n of them, and the report on all."""

    pairs: Sequence[FoundPair]
    images: NDArray[np.int64]
    """(n,) numbers in `store`; equal for equal pictures."""
    store: ImageStore
    is_prompted: bool
    is_sharded: bool
    report: DataReport


def read_pairs(data: ImageTextData, *, prompts: Sequence[str], keep: bool) -> ReadPairs:
    """List the pairs of a recipe, decode their images, and judge both.

    Args:
        keep: hold the decoded images as `data.cache` says; else only look at them.
    Raises:
        DataError: more bad pairs than `data.tolerance` allows; each is listed with its reason.
    """
    listing = list_pairs(data, prompts)
    numbers: dict[ImageFile, int] = {}
    named = [numbers.setdefault(pair.image, len(numbers)) for pair in listing.pairs]
    store, verdicts = _open(data, list(numbers), keep=keep)
    good = [row for row, number in enumerate(named) if verdicts[number].reason is None]
    bad = [*listing.bad, *_bad_images(listing.pairs, [verdicts[number] for number in named])]
    _refuse_bad(data, len(good), bad)
    first: dict[str, int] = {}
    images = [first.setdefault(verdicts[named[row]].digest, named[row]) for row in good]
    pairs = [listing.pairs[row] for row in good]
    seen = [verdicts[named[row]] for row in good]
    return ReadPairs(
        pairs=pairs,
        images=np.array(images, dtype=np.int64),
        store=store,
        is_prompted=listing.is_prompted,
        is_sharded=is_shards(data.path),
        report=DataReport(
            source=data.path,
            num_samples=len(pairs),
            quarantined=bad,
            warnings=[*listing.warnings, *_warnings(pairs, images, seen, listing.is_prompted)],
            summary=_summary(pairs, images, seen, store),
        ),
    )


def list_pairs(data: ImageTextData, prompts: Sequence[str]) -> PairListing:
    """List the pairs of shards, class folders or a manifest; nothing is decoded yet.

    Raises:
        DataError: there is no such data, or it lacks a column.
    """
    if is_shards(data.path):
        return list_shards(data.path, data, prompts)
    path = resolve(data.path)
    if path.is_dir():
        return list_class_folders(path, data, prompts)
    if path.is_file():
        return list_manifest(path, data, prompts)
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(
        f"There is no manifest, folder or shard {path}.{nearest(path.name, siblings)} "
        "data.image_text.path takes a CSV, Parquet or JSONL file, a folder with one folder per "
        'class, or tar shards ("shards/*.tar").'
    )


def _open(
    data: ImageTextData, files: list[ImageFile], *, keep: bool
) -> tuple[ImageStore, list[Verdict]]:
    if not keep:
        store = ImageStore(
            files=files, size=data.image_size, fit=data.fit, max_pixels=data.max_pixels
        )
        return store, look_at_all(files, max_pixels=data.max_pixels)
    sizes = [*(step.size for step in data.resolution.progressive), *data.resolution.multi_scale]
    return fill_store(
        files,
        size=data.image_size,
        other_sizes=sizes,
        fit=data.fit,
        max_pixels=data.max_pixels,
        cache=data.cache,
    )


def _bad_images(
    pairs: Sequence[FoundPair], verdicts: Sequence[Verdict]
) -> Iterator[dict[str, str]]:
    for pair, verdict in zip(pairs, verdicts, strict=True):
        if verdict.reason is not None:
            name = "" if pair.place == pair.image.name else f"{pair.image.name} "
            yield {"place": pair.place, "reason": f"{name}{verdict.reason}"}


def _refuse_bad(data: ImageTextData, num_good: int, bad: Sequence[dict[str, str]]) -> None:
    """Raise when more pairs are bad than the recipe tolerates."""
    total = num_good + len(bad)
    assert total, "every reader refuses data without rows"
    if num_good and len(bad) <= data.tolerance * total:
        return
    lines = [f"{one['place']} {one['reason']}" for one in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"… and {len(bad) - SHOWN} more")
    share = len(bad) / total
    advice = (
        f"{len(bad)} of {total} pairs cannot be used ({share:.2%}, data.image_text.tolerance is "
        f"{data.tolerance:.2%}). Repair or remove them"
    )
    if num_good:
        enough = math.ceil(share * 1000) / 1000
        advice += f", or set them aside with data.image_text.tolerance={enough:g}"
    shown = "\n  ".join([f"{data.path} cannot be used as it is:", *lines])
    raise DataError(f"{shown}\n{advice}.")


def _warnings(
    pairs: Sequence[FoundPair],
    images: Sequence[int],
    verdicts: Sequence[Verdict],
    is_prompted: bool,
) -> Iterator[str]:
    names: dict[int, dict[str, None]] = {}
    for pair, image in zip(pairs, images, strict=True):
        names.setdefault(image, {})[pair.image.name] = None
    copies = [" = ".join(list(found)[:3]) for found in names.values() if len(found) > 1]
    if copies:
        yield f"{count(copies, 'picture')} found more than once: {some(copies)}"
    firsts: dict[tuple[int, str], str] = {}
    repeated = []
    for pair, image in zip(pairs, images, strict=True):
        before = firsts.setdefault((image, "" if is_prompted else pair.texts[0]), pair.place)
        if before != pair.place and not is_prompted:
            repeated.append(f"{pair.place} = {before}")
    if repeated:
        pairs_found = count(repeated, "pair")
        yield f"{pairs_found} with the same picture and text as another: {some(repeated)}"
    small = [
        pair.image.name
        for pair, verdict in zip(pairs, verdicts, strict=True)
        if min(verdict.size) * 8 < max(verdict.size)
    ]
    if small:
        yield (
            f"{count(small, 'picture')} more than 8 times as long as wide or as wide as long: "
            f"{some(small)}"
        )


def _summary(
    pairs: Sequence[FoundPair],
    images: Sequence[int],
    verdicts: Sequence[Verdict],
    store: ImageStore,
) -> Json:
    heights, widths = zip(*(verdict.size for verdict in verdicts), strict=True)
    words = sorted(len(text.split()) for pair in pairs for text in pair.texts)
    distinct = {normal_text(pair.texts[0]) for pair in pairs}
    summary: Json = {
        "images": len(set(images)),
        "captions": len(words),
        "distinct_captions": len(distinct),
        "repeated_captions": len(pairs) - len(distinct),
        "words": {"smallest": words[0], "median": words[len(words) // 2], "largest": words[-1]},
        "formats": dict(Counter(verdict.format for verdict in verdicts).most_common()),
        "height": {"smallest": min(heights), "largest": max(heights)},
        "width": {"smallest": min(widths), "largest": max(widths)},
        "cache": store.place,
        "sha256": _dataset_hash(pairs, verdicts),
    }
    labels = [pair.label for pair in pairs if pair.label is not None]
    if labels:
        summary["classes"] = dict(sorted(Counter(labels).items()))
    return summary


def _dataset_hash(pairs: Sequence[FoundPair], verdicts: Sequence[Verdict]) -> str:
    """The version of the data: SHA-256 over sorted image names, texts, labels and image bytes."""
    lines = sorted(
        "\0".join([pair.image.name, *pair.texts, pair.label or "", verdict.content])
        for pair, verdict in zip(pairs, verdicts, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
