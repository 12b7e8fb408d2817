"""Pairs in tar shards, as WebDataset writes them: key.jpg beside key.txt, key.json or key.cls.

    index = read_index(path)                    one pass over the headers; cached
    order = stream_order(shards, …)             an epoch: shards shuffled, then a shuffle buffer

Members of one key stand together in one tar. `.txt` is the column "text", `.cls` the column "cls",
and the fields of `.json` are columns too: a shard is a manifest whose images lie beside its rows.
The index knows where each image's bytes begin, so any sample can be read at any time and by any
thread; an epoch still goes through each tar from its beginning. No torch here.

Letters: n samples.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from glob import glob
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maquette.data.images import SUFFIXES
from maquette.data.randomness import permutation, uniforms
from maquette.errors import DataError, MaquetteError, nearest
from maquette.files import cache_folder, write_json
from maquette.tasks.image_folders import some
from maquette.tasks.image_text.image_store import ImageFile
from maquette.tasks.image_text.manifest import (
    PairListing,
    Record,
    add_pairs,
    cell_of,
    refuse_columns,
)
from maquette.tasks.threads import in_threads

if TYPE_CHECKING:
    from maquette.recipe.image_text import ImageTextData

VERSION = 1
"""Raised when an index of the same tar says something else."""

_TEXTS = {".txt": "text", ".cls": "cls"}


@dataclass(frozen=True, kw_only=True)
class ShardSample:
    """One key of a tar."""

    key: str
    image: str
    """The member with the image; "" when there is none."""
    offset: int
    length: int
    """Where its bytes are in the tar."""
    cells: dict[str, Any]
    """Columns from the members beside it, as JSON values."""
    reason: str | None = None
    """Why the sample cannot be used."""


def is_shards(path: str) -> bool:
    """Whether a recipe's path means tar shards."""
    return re.search(r"\.(tar(\.\w+)?|tgz)$", path) is not None


def find_shards(path: str) -> list[Path]:
    """Return the tars that a path or pattern means, by name.

    Args:
        path: with `*` and `?` as a shell reads them, or numbered as WebDataset does:
            "train-{0000..0041}.tar".
    Raises:
        DataError: there are none, some of the numbered ones are absent, or they are compressed.
    """
    wanted = {one: glob(one, recursive=True) for one in _numbered(path)}  # noqa: PTH207
    found = [Path(name) for name in sorted({name for names in wanted.values() for name in names})]
    absent = [Path(one).name for one, names in wanted.items() if not names]
    if found and absent:
        raise DataError(
            f"{len(absent)} of the {len(wanted)} shards {path} are not there: {some(absent)}."
        )
    packed = [shard.name for shard in found if shard.suffix in (".gz", ".tgz", ".bz2", ".xz")]
    if packed:
        raise DataError(
            f"{some(packed)} are compressed, and single samples are read from tars that are not. "
            "The images in them are compressed already: gunzip the shards."
        )
    if not found:
        folder = Path(path).parent
        others = [entry.name for entry in folder.glob("*.tar")] if folder.is_dir() else []
        there = f" {folder} holds {some(sorted(others))}." if others else ""
        raise DataError(f"There is no tar shard {path}.{nearest(Path(path).name, others)}{there}")
    return found


def _numbered(path: str) -> list[str]:
    """Write out the first {from..to} of a path; names keep the leading zeros."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", path)
    if found is None:
        return [path]
    first, last = found.groups()
    numbers = (f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1))
    return [path[: found.start()] + number + path[found.end() :] for number in numbers]


def list_shards(path: str, data: ImageTextData, prompts: Sequence[str]) -> PairListing:
    """List the pairs of all shards; each is told by "shard.tar/key".

    Raises:
        DataError: no shards, one that is damaged, one without samples, or no such column.
    """
    listing = PairListing()
    shards = find_shards(path)
    records: list[Record] = []
    for number, (shard, samples) in enumerate(
        zip(shards, in_threads(read_index, shards), strict=True)
    ):
        for sample in samples:
            name = f"{shard.name}/{sample.key}"
            if sample.reason is not None:
                listing.bad.append({"place": name, "reason": sample.reason})
                continue
            records.append(
                Record(
                    place=name,
                    cells={column: cell_of(value) for column, value in sample.cells.items()},
                    image=ImageFile(
                        f"{shard.name}/{sample.image}", shard, sample.offset, sample.length
                    ),
                    shard=number,
                )
            )
    columns = list(dict.fromkeys(name for record in records for name in record.cells))
    if records:
        refuse_columns(path, columns, data, has_images=True)
    add_pairs(listing, records, data, prompts, folder=shards[0].parent, source=path)
    return listing


def read_index(shard: Path) -> list[ShardSample]:
    """Return the samples of a tar in their order.

    The index is kept in the cache folder by name, size and time of change; where that cannot be
    written, the next run reads the headers again.

    Raises:
        DataError: the tar is damaged, cut off, or holds no sample.
    """
    facts = shard.stat()
    about = [VERSION, str(shard.absolute()), facts.st_size, facts.st_mtime_ns]
    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
    cached = cache_folder("shards") / f"{name}.json"
    try:
        return [ShardSample(**one) for one in json.loads(cached.read_bytes())]
    except (OSError, ValueError, TypeError):
        samples = _index(shard)
    with suppress(MaquetteError, ValueError):  # a cache that cannot be written costs time alone
        write_json(cached, [asdict(sample) for sample in samples])
    return samples


def stream_order(
    shards: NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
    buffer: int,
    rank: int = 0,
    world: int = 1,
) -> NDArray[np.int64]:
    """Return an epoch's order: shards shuffled, each read in sequence, through a shuffle buffer.

    A pure function: a resumed run takes the same order and goes on at its position. Ranks get equal
    counts and no sample twice: the sequence of all shards is cut into `world` runs, so that ranks
    share few shards, and up to world - 1 samples at its end wait for another epoch.

    Args:
        shards: (n,) the shard of each sample; samples of a shard stand in its order.
        buffer: samples among which the next one is drawn.
    Returns:
        (n // world,) int64 positions; with one rank all n.
    """
    shuffled = permutation(int(shards.max()) + 1, seed=seed, epoch=epoch, purpose="shards")
    place = np.empty_like(shuffled)
    place[shuffled] = np.arange(len(shuffled))
    sequence = np.argsort(place[shards], kind="stable").astype(np.int64)
    share = len(shards) // world
    sequence = sequence[rank * share : (rank + 1) * share]
    return _through_buffer(sequence, buffer, seed=seed, epoch=epoch)


def _through_buffer(
    sequence: NDArray[np.int64], buffer: int, *, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Fill a buffer, then again and again hand out one of it at random and fill its place."""
    draws = uniforms(sequence, 1, seed=seed, epoch=epoch, purpose="buffer")[:, 0].tolist()
    held = sequence[:buffer].tolist()
    order = []
    for position, draw in enumerate(draws):
        chosen = int(draw * len(held))
        order.append(held[chosen])
        if position + buffer < len(sequence):
            held[chosen] = int(sequence[position + buffer])
        else:
            held[chosen] = held[-1]
            held.pop()
    return np.array(order, dtype=np.int64)


def _index(shard: Path) -> list[ShardSample]:
    groups: dict[str, dict[str, tarfile.TarInfo]] = {}
    samples = []
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not member.isfile() or PurePosixPath(member.name).name.startswith("."):
                    continue
                key, suffix = _split_name(member.name)
                if suffix in groups.get(key, {}):
                    raise DataError(
                        f"{shard} has the member {member.name} twice; write each key once."
                    )
                groups.setdefault(key, {})[suffix] = member
            for key, members in groups.items():
                samples.append(_sample(tar, key, members))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(
            f"{shard} is a damaged or cut-off tar ({error}); {len(groups)} keys could be read. "
            "Copy or make it again."
        ) from None
    if not samples:
        raise DataError(
            f"{shard} holds no sample; expected members such as 000001.jpg and 000001.txt."
        )
    return samples


def _split_name(name: str) -> tuple[str, str]:
    """Cut a member's name at the first dot of its last part, as WebDataset does."""
    path = PurePosixPath(name)
    stem, dot, suffix = path.name.partition(".")
    return str(path.parent / stem), f"{dot}{suffix}".lower()


def _sample(tar: tarfile.TarFile, key: str, members: dict[str, tarfile.TarInfo]) -> ShardSample:
    image = next((member for suffix, member in members.items() if suffix in SUFFIXES), None)
    reason, cells = None, {}
    try:
        cells = dict(_cells(tar, members))
    except ValueError as error:
        reason = f"has a text that cannot be read: {error}"
    if image is None:
        reason = f"has no image beside {', '.join(member.name for member in members.values())}"
    return ShardSample(
        key=key,
        image=image.name if image else "",
        offset=image.offset_data if image else 0,
        length=image.size if image else 0,
        cells=cells,
        reason=reason,
    )


def _cells(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> Iterator[tuple[str, Any]]:
    """Yield the columns that a key's text members hold; raises ValueError."""
    for suffix, member in sorted(members.items()):
        if suffix not in (".json", *_TEXTS):
            continue
        file = tar.extractfile(member)
        assert file is not None, "only regular files were kept"
        text = file.read().decode("utf-8")
        if suffix != ".json":
            yield _TEXTS[suffix], text
            continue
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"{member.name} is no JSON object")
        yield from values.items()
