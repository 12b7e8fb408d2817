"""Read a table: CSV or Parquet file -> text cells, so that every message can quote the original.

    table = read_table(path, delimiter=",", encoding="utf-8", missing_values=("", "NA"))
    table.cells["age"]      the column's cells as text; null where the value is missing
    table.lines             where each row stands in the file

What the text means (numbers, dates, categories) is decided in `cells.py` and `table_schema.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from maquette.data.arrow import from_rows, from_texts
from maquette.data.csv_text import RaggedRow, parse_csv, ragged_message
from maquette.data.text_encoding import to_utf8
from maquette.errors import DataError, nearest

PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of text cells, in file order."""

    source: Path
    cells: dict[str, pa.StringArray]
    """Text without surrounding spaces; null where the cell spells a missing value."""
    lines: NDArray[np.int64]
    """(n,) row in the file; the header of a CSV is row 1, the first sample of Parquet is row 1."""
    row_1: str = "the header"
    """What stands in row 1."""
    ragged: tuple[RaggedRow, ...] = ()
    """CSV rows with another number of cells; they are not in `cells`."""

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def columns(self) -> tuple[str, ...]:
        """The column names in file order."""
        return tuple(self.cells)

    def take(self, rows: NDArray[np.int64]) -> Table:
        """Return these rows (positions, not lines), in this order."""
        cells = {name: column.take(from_rows(rows)) for name, column in self.cells.items()}
        return replace(self, cells=cells, lines=self.lines[rows])


def read_table(
    path: str | Path,
    *,
    delimiter: str = ",",
    encoding: str = "utf-8",
    missing_values: Sequence[str] = ("",),
    allow_ragged: bool = False,
) -> Table:
    """Read a CSV or Parquet file; which of the two, its first bytes say.

    Args:
        delimiter, encoding: of a CSV; Parquet needs neither.
        missing_values: cells that mean "no value", compared after surrounding spaces are cut.
        allow_ragged: list rows with too many or too few cells in `Table.ragged` instead of raising.
    Raises:
        DataError: the file is missing, unreadable, empty, broken or not a table; the message says
            where and what to change.
        UsageError: there is no such encoding.
    """
    path = Path(path)
    content = read_bytes(path)
    if content.startswith(PARQUET_MAGIC):
        cells = _parquet_cells(path, content)
        lines = np.arange(1, _height(cells) + 1)
        table = Table(source=path, cells=cells, lines=lines, row_1="the first sample")
    else:
        text = parse_csv(path, to_utf8(path, content, encoding), delimiter=delimiter)
        if text.ragged and not allow_ragged:
            raise DataError(ragged_message(path, text.ragged, len(text.lines)))
        cells = dict(zip(text.names, text.columns, strict=True))
        table = Table(source=path, cells=cells, lines=text.lines, ragged=text.ragged)
    missing = from_texts(sorted({value.strip() for value in missing_values}))
    return replace(table, cells={n: _clean(column, missing) for n, column in table.cells.items()})


def _clean(column: pa.StringArray, missing: pa.StringArray) -> pa.StringArray:
    trimmed = pc.utf8_trim_whitespace(column)
    nothing = pa.nulls(len(column), pa.string())
    return pc.if_else(pc.is_in(trimmed, value_set=missing), nothing, trimmed)


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        DataError: missing (with the nearest name beside it), a folder, or not readable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        folder = path.parent
        names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        where = "" if folder.is_dir() else f" The folder {folder} does not exist either."
        raise DataError(f"There is no file {path}.{nearest(path.name, names)}{where}") from None
    except IsADirectoryError:
        tables = sorted(p.name for p in path.iterdir() if p.suffix in (".csv", ".tsv", ".parquet"))
        found = f"; it holds {', '.join(tables[:5])}" if tables else ""
        raise DataError(f"{path} is a folder, expected one CSV or Parquet file{found}.") from None
    except PermissionError:
        raise DataError(
            f"{path} may not be read by this user. Change its permissions: chmod u+r {path}"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None


def _parquet_cells(path: Path, content: bytes) -> dict[str, pa.StringArray]:
    """Spell every Parquet value as text, so that both formats take the same way from here on."""
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file: {error}.") from None
    names = [name.strip() for name in table.column_names]
    if len(set(names)) < len(names) or not all(names):
        raise DataError(f"{path} has unnamed or duplicate columns: {', '.join(map(repr, names))}.")
    if table.num_rows == 0:
        raise DataError(f"{path} has {len(names)} columns but no row: there is nothing to learn.")
    columns = zip(names, table.columns, strict=True)
    return {name: _spell(path, name, column.combine_chunks()) for name, column in columns}


def _spell(path: Path, name: str, column: pa.Array) -> pa.StringArray:
    try:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_float16(column.type):
            column = column.cast(pa.float32())
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        raise DataError(
            f"{path}: column {name!r} holds {column.type}; expected numbers, text, booleans or "
            "dates. Spread it over several columns, or leave it out of the file."
        ) from None


def _height(cells: dict[str, pa.StringArray]) -> int:
    return len(next(iter(cells.values())))
