"""Rows of a CSV, Parquet or JSONL manifest, or of tar shards, become pairs. No torch here.

    listing = list_manifest(path, data, prompts)       nothing is decoded yet

Every row is told by its place ("captions.csv:17"). What cannot be used goes to `bad` with place and
reason; whether that stops the run is decided when the images have been opened too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maquette.data.csv_text import DELIMITERS
from maquette.data.tables import PARQUET_MAGIC, read_bytes, read_table
from maquette.data.text_encoding import to_utf8
from maquette.errors import DataError, nearest
from maquette.tasks.image_text.image_store import ImageFile

if TYPE_CHECKING:
    from maquette.recipe.image_text import ImageTextData

Cell = str | tuple[str, ...] | None
"""Text; several texts where JSON has a list; None where there is nothing."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row as it was found."""

    place: str
    cells: dict[str, Cell]
    image: ImageFile | None = None
    """The image, where it lies beside the cells and is not named by one of them."""
    shard: int | None = None


@dataclass(frozen=True, kw_only=True)
class FoundPair:
    """A pair that is named, its image not opened yet."""

    id: str
    place: str
    image: ImageFile
    texts: tuple[str, ...]
    """Captions, or prompts of the class; at least one."""
    label: str | None = None
    split_value: str | None = None
    """The cell in the split, group or time column."""
    shard: int | None = None
    """The tar it lies in, counted from 0."""


@dataclass(kw_only=True)
class PairListing:
    """What was found, in the order of the files."""

    pairs: list[FoundPair] = field(default_factory=list)
    bad: list[dict[str, str]] = field(default_factory=list)
    """`place` and `reason` of each row that cannot be used."""
    warnings: list[str] = field(default_factory=list)
    is_prompted: bool = False
    """Whether the texts are prompts of classes."""


def list_manifest(path: Path, data: ImageTextData, prompts: Sequence[str]) -> PairListing:
    """List the pairs of a manifest file.

    Raises:
        DataError: not a manifest, no such column, or no row with the values of `where`.
    """
    content = read_bytes(path)
    listing = PairListing()
    if _is_json(path, content):
        records = list(_json_records(path, content, listing))
        columns = list(dict.fromkeys(name for record in records for name in record.cells))
    else:
        delimiter = "," if content.startswith(PARQUET_MAGIC) else _delimiter(path, content, data)
        table = read_table(path, delimiter=delimiter, allow_ragged=True)
        listing.bad += [
            {"place": f"{path.name}:{row.line}", "reason": f"has {row.reason}"}
            for row in table.ragged
        ]
        columns = list(table.columns)
        cells = [table.cells[name].to_pylist() for name in columns]
        records = [
            Record(place=f"{path.name}:{line}", cells=dict(zip(columns, row, strict=True)))
            for line, *row in zip(table.lines.tolist(), *cells, strict=True)
        ]
    refuse_columns(str(path), columns, data, has_images=False)
    add_pairs(listing, records, data, prompts, folder=path.parent, source=str(path))
    return listing


def add_pairs(
    listing: PairListing,
    records: Sequence[Record],
    data: ImageTextData,
    prompts: Sequence[str],
    *,
    folder: Path,
    source: str,
) -> None:
    """Add what the records hold to the listing.

    Args:
        folder: what image paths are relative to.
        source: the data's name, for messages.
    """
    listing.is_prompted = not data.text_columns
    split_column = _split_column(data)
    num_rows: dict[str, int] = {}
    chosen = [record for record in records if _is_wanted(record, data.where)]
    if records and not chosen:
        raise DataError(_nothing_wanted(source, records, data.where))
    for record in chosen:
        reason = _refusal(record, data, folder)
        if reason is not None:
            listing.bad.append({"place": record.place, "reason": reason})
            continue
        name = record.image.name if record.image else str(record.cells[data.image_column])
        num_rows[name] = num_rows.get(name, 0) + 1
        label = None if data.label_column is None else _text(record.cells[data.label_column])
        texts = _texts(record, data)
        if listing.is_prompted:
            texts = prompts_of(label or "", prompts)
        listing.pairs.append(
            FoundPair(
                id=name if num_rows[name] == 1 else f"{name}#{num_rows[name]}",
                place=record.place,
                image=record.image or ImageFile(name, folder / name),
                texts=texts,
                label=label,
                split_value=None if split_column is None else _text(record.cells[split_column]),
                shard=record.shard,
            )
        )


def prompts_of(label: str, prompts: Sequence[str]) -> tuple[str, ...]:
    """Return every prompt with the class's name in it."""
    return tuple(prompt.replace("{}", label) for prompt in prompts)


def _split_column(data: ImageTextData) -> str | None:
    by_column = data.split.method in ("grouped", "time", "column")
    return data.split.column if by_column else None


def refuse_columns(
    source: str, columns: Sequence[str], data: ImageTextData, *, has_images: bool
) -> None:
    """Refuse data without a column that the recipe names; suggest the nearest.

    Args:
        has_images: the images lie beside the columns, so none has to name them.
    """
    wanted = [] if has_images else [("image_column", data.image_column)]
    wanted += [("text_columns", name) for name in data.text_columns]
    wanted += [("where", name) for name in data.where]
    if data.label_column is not None:
        wanted.append(("label_column", data.label_column))
    if (column := _split_column(data)) is not None:
        wanted.append(("split.column", column))
    for key, name in wanted:
        if name not in columns:
            raise DataError(
                f"{source} has no column {name!r} (data.image_text.{key})."
                f"{nearest(name, columns)} Its columns: {', '.join(columns) or 'none'}."
            )


def _is_json(path: Path, content: bytes) -> bool:
    return path.suffix.lower() in (".jsonl", ".ndjson", ".json") or content[:1] in (b"{", b"[")


def _json_records(path: Path, content: bytes, listing: PairListing) -> Iterator[Record]:
    """Yield a record for each line; a line that is no JSON object goes to `listing.bad`."""
    if content.lstrip()[:1] == b"[":
        raise DataError(
            f"{path} is one JSON list, expected JSON lines: one object per line, "
            '{"image": "a.jpg", "text": "a cat"}. With jq: jq -c ".[]" FILE > FILE.jsonl'
        )
    for line, text in enumerate(to_utf8(path, content, "utf-8").split(b"\n"), start=1):
        if not text.strip():
            continue
        place = f"{path.name}:{line}"
        try:
            values = json.loads(text)
        except ValueError as error:
            listing.bad.append({"place": place, "reason": f"is no JSON: {error}"})
            continue
        if isinstance(values, dict):
            yield Record(place=place, cells={name: cell_of(one) for name, one in values.items()})
        else:
            reason = f'is {text.decode()[:40]}, expected an object {{"image": …, "text": …}}'
            listing.bad.append({"place": place, "reason": reason})


def cell_of(value: Any) -> Cell:
    """Spell a JSON value as text; a list of texts stays several, null and "" are nothing."""
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(one.strip() for one in value if one.strip()) or None
    return json.dumps(value, ensure_ascii=False)


def _delimiter(path: Path, content: bytes, data: ImageTextData) -> str:
    """The character between the names of the header: the one that cuts out the image column."""
    header = to_utf8(path, content.split(b"\n", 1)[0], "utf-8").decode().strip()
    fits = [d for d in DELIMITERS if data.image_column in [n.strip(' "') for n in header.split(d)]]
    return "," if "," in fits or not fits else max(fits, key=header.count)


def _is_wanted(record: Record, where: dict[str, str]) -> bool:
    return all(_text(record.cells.get(name)) == value for name, value in where.items())


def _nothing_wanted(source: str, records: Sequence[Record], where: dict[str, str]) -> str:
    wanted = ", ".join(f"{name}: {value}" for name, value in where.items())
    found = [
        f"{name} is {', '.join(sorted({str(record.cells.get(name)) for record in records})[:8])}"
        for name in where
    ]
    return (
        f"{source}: none of {len(records)} rows has data.image_text.where {{{wanted}}}; "
        f"{'; '.join(found)}."
    )


def _refusal(record: Record, data: ImageTextData, folder: Path) -> str | None:
    """Why a row cannot be used, or None."""
    needed = [_split_column(data), data.label_column]
    if record.image is None:
        needed.insert(0, data.image_column)
    for column in needed:
        if column is None:
            continue
        if record.cells.get(column) is None:
            return f"has no value in the column {column!r}"
        if not isinstance(record.cells[column], str):
            return f"has a list in the column {column!r}, expected one text"
    if data.text_columns and not _texts(record, data):
        return f"has no text in {' or '.join(repr(name) for name in data.text_columns)}"
    if record.image is not None:
        return None
    image = str(record.cells[data.image_column])
    if "\0" in image:
        return "names an image with a NUL character"
    if (folder / image).is_dir():
        return f"names {image}, which is a folder"
    if not (folder / image).exists():
        return f"names {image}, but there is no such file in {folder}"
    return None


def _texts(record: Record, data: ImageTextData) -> tuple[str, ...]:
    """Every caption of a row, in the order of `text_columns`, each once."""
    found: list[str] = []
    for name in data.text_columns:
        cell = record.cells.get(name)
        found += [cell] if isinstance(cell, str) else cell or ()
    return tuple(dict.fromkeys(found))


def _text(cell: Cell) -> str | None:
    return cell if isinstance(cell, str) else None
