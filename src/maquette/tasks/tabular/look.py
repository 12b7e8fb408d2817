"""What `maquette init` sees in a table: spelling, kinds of columns, target, what to ignore."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from maquette.data.arrow import from_mask, from_texts, is_valid, to_numpy, to_texts
from maquette.data.cells import Kind, find_kind, is_whole, parse_numbers, parse_times
from maquette.data.csv_text import guess_delimiter
from maquette.data.tables import PARQUET_MAGIC, Table, read_bytes, read_table
from maquette.data.text_encoding import guess_encoding
from maquette.errors import DataError, UsageError, nearest
from maquette.recipe.schema import TabularData
from maquette.tasks.tabular.findings import has_decimal_commas, identifier_reason
from maquette.tasks.tabular.reading import MOST_CLASSES

TARGET_NAMES = ("target", "label", "class", "y", "outcome")
USUAL_MISSING: tuple[str, ...] = TabularData.model_fields["missing_values"].default


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen in a table and decided about it."""

    path: Path
    table: Table
    delimiter: str
    encoding: str
    target: str
    why_target: str
    is_class: bool
    kinds: dict[str, Kind]
    ignored: dict[str, str]
    """Column name -> why the network should not see it."""
    more_missing: tuple[str, ...]
    """Texts in number columns that mean "no value" and are not among the usual ones."""
    num_bad_rows: int
    """Rows without a target, or with a cell that is not of its column's kind."""


def look_at(path: Path, target: str | None) -> Look:
    """Read a table and decide what a recipe for it should say; `target` None guesses.

    Raises:
        DataError: the file is no table, or has no column to learn from.
        UsageError: there is no column `target`.
    """
    content = read_bytes(path)
    delimiter, encoding = ",", "utf-8"
    if content and not content.startswith(PARQUET_MAGIC):
        encoding = guess_encoding(content)
        delimiter = guess_delimiter(content[:65536].decode(encoding, errors="ignore"))
    table = read_table(path, delimiter=delimiter, encoding=encoding, missing_values=USUAL_MISSING)
    if len(table.columns) < 2:
        raise DataError(
            f"{path} has one column, {table.columns[0]!r}; a model needs a target and at least one "
            "column to predict it from."
        )
    kinds = {name: find_kind(cells) for name, cells in table.cells.items()}
    values = {name: column_values(kind, table.cells[name]) for name, kind in kinds.items()}
    reasons = {name: reason for name in kinds if (reason := _reason_to_ignore(values[name], name))}
    chosen, why = _choose_target(table, target, reasons)
    ignored = {name: reason for name, reason in reasons.items() if name != chosen}
    if len(ignored) == len(kinds) - 1:
        ignored = {}
    more_missing = _more_missing(table, kinds)
    return Look(
        path=path,
        table=table,
        delimiter=delimiter,
        encoding=encoding,
        target=chosen,
        why_target=why,
        is_class=_is_class(kinds[chosen], table.cells[chosen]),
        kinds=kinds,
        ignored=ignored,
        more_missing=more_missing,
        num_bad_rows=_num_bad_rows(table, kinds, chosen, ignored, more_missing),
    )


def column_values(kind: Kind, cells: pa.StringArray) -> NDArray[np.generic]:
    """(n,) cells as a column of this kind holds them; bad ones are missing."""
    if kind == "category":
        return to_texts(cells)
    return parse_numbers(cells)[0] if kind == "number" else parse_times(cells)[0]


def _reason_to_ignore(values: NDArray[np.generic], name: str) -> str | None:
    observed = {value for value in values.tolist() if value is not None and value == value}
    if not observed:
        return "no value in any row"
    if len(observed) == 1 and len(values) > 1:
        return "the same in every row"
    if has_decimal_commas(values):
        return "numbers with a decimal comma read as text; write them with a point to use them"
    return identifier_reason(values, name)


def _choose_target(table: Table, target: str | None, reasons: dict[str, str]) -> tuple[str, str]:
    """Return the column to predict and why it was chosen."""
    if target is not None:
        if target not in table.cells:
            raise UsageError(
                f"{table.source} has no column {target!r} to predict."
                f"{nearest(target, table.columns)} Its columns: {', '.join(table.columns)}."
            )
        return target, "as asked"
    for wanted in TARGET_NAMES:
        for name in table.columns:
            if name.lower() == wanted:
                return name, f"guessed: a column named {name!r} usually is the target"
    possible = [name for name in table.columns if name not in reasons]
    if not possible:
        raise DataError(
            f"{table.source} has no column that could be predicted: each is an identifier, free "
            "text or the same in every row. Name one with --target COLUMN."
        )
    what = "the last column" if possible[-1] == table.columns[-1] else "the last that varies"
    return possible[-1], f"guessed: it is {what}; --target COLUMN chooses another"


def _is_class(kind: Kind, cells: pa.StringArray) -> bool:
    """Whole numbers are classes when they are few and none is rarer than three splits need."""
    if kind != "number":
        return True
    numbers, bad = parse_numbers(cells)
    counts = Counter(numbers[~np.isnan(numbers)].tolist())
    few = len(counts) <= MOST_CLASSES and is_whole(numbers) and not bad.any()
    return few and min(counts.values()) >= 3


def _more_missing(table: Table, kinds: dict[str, Kind]) -> tuple[str, ...]:
    """Find texts such as "-" that stand where a number should, and nothing else does.

    One cell may be a slip, a text with a digit in it ("4.5 cm") a number badly written, and a
    column's name a header repeated in mid-file: those stay for `check` to point at.
    """
    marks: set[str] = set()
    for name, kind in kinds.items():
        if kind == "number":
            cells = table.cells[name]
            words = cells.filter(from_mask(parse_numbers(cells)[1])).to_pylist()
            is_mark = len(words) > 1 and len(set(words)) == 1 and words[0] not in table.columns
            if is_mark and not any(letter.isdigit() for letter in words[0]):
                marks.add(words[0])
    return tuple(sorted(marks))


def _num_bad_rows(
    table: Table,
    kinds: dict[str, Kind],
    target: str,
    ignored: dict[str, str],
    more_missing: tuple[str, ...],
) -> int:
    bad = ~is_valid(table.cells[target])
    marks = from_texts(more_missing)
    for name, kind in kinds.items():
        if kind != "category" and name not in ignored:
            wrong = (parse_numbers if kind == "number" else parse_times)(table.cells[name])[1]
            is_mark = to_numpy(pc.is_in(table.cells[name], value_set=marks), null=False)
            bad |= wrong if name == target else wrong & ~is_mark
    return int(bad.sum())
