"""CSV text -> columns of text cells, and the row each record starts at.

Rows are numbered as an editor and a spreadsheet number them: the header is row 1. pyarrow parses;
Python's csv module, slower but aware of lines, is asked only when a file has ragged rows, blank
lines, or line breaks inside quotes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from maquette.errors import DataError, UsageError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SHOWN = 10


@dataclass(frozen=True)
class RaggedRow:
    """A row with more or fewer cells than the header."""

    line: int
    cells: int
    expected: int
    text: str

    def __str__(self) -> str:
        return f"row {self.line}: {self.reason}"

    @property
    def reason(self) -> str:
        """What was found and what was expected, without the place."""
        found = f"{self.cells} cell{'s' * (self.cells != 1)}"
        return f"{found}, expected {self.expected}: {self.text!r}"


@dataclass(frozen=True)
class CsvText:
    """A parsed file; ragged rows are in `ragged` and not in `columns`."""

    names: list[str]
    columns: list[pa.StringArray]
    lines: NDArray[np.int64]
    ragged: tuple[RaggedRow, ...]


def parse_csv(path: Path, content: bytes, *, delimiter: str) -> CsvText:
    """Parse UTF-8 text; every cell stays the text it was.

    Raises:
        DataError: a broken header, the wrong delimiter, no rows, or a quote left open.
        UsageError: a delimiter that cannot be one.
    """
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
        raise UsageError(
            f"delimiter {delimiter!r} cannot stand between cells; give one ASCII character such as "
            f"{', '.join(map(_named, DELIMITERS))}."
        )
    names, start, header_lines = _header(path, content, delimiter)
    _refuse_wrong_delimiter(path, names, content, delimiter)
    _refuse_broken_names(path, names)
    body = content[start:].rstrip(b"\r\n")
    if not body:
        raise DataError(
            f"{path} has a header ({', '.join(names[:8])}{', …' * (len(names) > 8)}) but no row "
            "below it: there is nothing to learn from."
        )
    columns, has_ragged = _parse(path, body, names, delimiter)
    num_rows = len(columns[0])
    if not has_ragged and body.count(b"\n") == num_rows - 1:
        return CsvText(names, columns, np.arange(num_rows) + header_lines + 1, ())
    records = list(_records(path, body.decode(), len(names), delimiter, header_lines))
    ragged = tuple(record for record in records if record.cells != len(names))
    lines = np.array([r.line for r in records if r.cells == len(names)], dtype=np.int64)
    if len(lines) != num_rows:
        raise DataError(
            f"{path}: its quotes can be read in two ways, as {num_rows} or {len(lines)} rows. "
            "Put whole cells in double quotes, and double a quote inside them."
        )
    return CsvText(names, columns, lines, ragged)


def guess_delimiter(text: str) -> str:
    """Return the delimiter that cuts most of the first rows into equally many cells, above one."""
    rows = text.splitlines()[:50]

    def score(delimiter: str) -> tuple[int, int]:
        widths = [len(row) for row in csv.reader(rows, delimiter=delimiter) if row]
        if not widths or widths[0] == 1:
            return 0, 0
        return widths.count(widths[0]), widths[0]

    return max(DELIMITERS, key=score)


def ragged_message(path: Path, ragged: tuple[RaggedRow, ...], num_rows: int) -> str:
    """Say which rows are ragged and what may be the reason; `num_rows` counts the whole ones."""
    lines = [
        f"{path}: {len(ragged)} of {num_rows + len(ragged)} rows have more or fewer cells than the "
        "header:"
    ]
    lines += [f"  {row}" for row in ragged[:SHOWN]]
    if len(ragged) > SHOWN:
        lines.append(f"  … and {len(ragged) - SHOWN} more")
    if num_rows == 0 and len({row.cells for row in ragged}) == 1:
        lines.append(
            f"Every row has {ragged[0].cells} cells and the header names {ragged[0].expected}: "
            "name every column in row 1."
        )
    else:
        lines.append("Put a cell that holds the delimiter or a line break in double quotes.")
    return "\n".join(lines)


def _header(path: Path, content: bytes, delimiter: str) -> tuple[list[str], int, int]:
    """Return the column names, the offset of the byte after them, and the lines they take."""
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")
    reader = csv.reader(text, delimiter=delimiter)
    try:
        names = next(row for row in reader if row)
    except csv.Error as error:
        raise DataError(f"{path}: the header in row 1 cannot be read: {error}.") from None
    offset = 0
    for _ in range(reader.line_num):
        offset = content.find(b"\n", offset) + 1 or len(content)
    return [name.strip() for name in names], offset, reader.line_num


def _refuse_wrong_delimiter(path: Path, names: list[str], content: bytes, delimiter: str) -> None:
    first = content.lstrip().split(b"\n", 1)[0].decode().rstrip("\r")
    guess = guess_delimiter(content[:65536].decode(errors="ignore"))
    if len(names) > 1 or guess == delimiter or guess not in first:
        return
    key = "\\t" if guess == "\t" else guess
    raise DataError(
        f"{path}: cut at {_named(delimiter)} the header is one column, {_short(first)!r}, but it "
        f'holds {first.count(guess)} × {_named(guess)}. Set delimiter: "{key}".'
    )


def _refuse_broken_names(path: Path, names: list[str]) -> None:
    numbers = sum(name.lstrip("+-").replace(".", "", 1).isdigit() for name in names)
    hint = " Row 1 holds numbers: is the header missing?" if 2 * numbers > len(names) else ""
    if "" in names:
        place = names.index("")
        index = " It looks like a saved row index." if place == 0 else ""
        raise DataError(
            f"{path}: column {place + 1} of {len(names)} has no name in the header (row 1).{index} "
            f"Name it, and list it in ignore_columns if the model must not see it.{hint}"
        )
    places: dict[str, list[str]] = {}
    for place, name in enumerate(names, start=1):
        places.setdefault(name, []).append(str(place))
    twice = [f"{n!r} is columns {' and '.join(p)}" for n, p in places.items() if len(p) > 1]
    if twice:
        raise DataError(
            f"{path}: the header (row 1) has duplicate columns: {'; '.join(twice)}. "
            f"Rename or remove all but one.{hint}"
        )


def _parse(
    path: Path, body: bytes, names: list[str], delimiter: str
) -> tuple[list[pa.StringArray], bool]:
    """Return one text column per name without the ragged rows, and whether there were any."""
    has_ragged = False

    def skip(_: object) -> str:
        nonlocal has_ragged
        has_ragged = True
        return "skip"

    for block_size in (1 << 20, len(body) + 1):
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(body),
                read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=block_size),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=delimiter, newlines_in_values=b'"' in body, invalid_row_handler=skip
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string())
                ),
            )
        except pa.ArrowInvalid as error:
            if "straddling" in str(error) and block_size <= len(body):
                continue  # a row longer than a block: take the file as one block
            raise DataError(f"{path} is not a CSV table: {error}.") from None
        break
    return [column.combine_chunks() for column in table.columns], has_ragged


def _records(
    path: Path, body: str, expected: int, delimiter: str, header_lines: int
) -> Iterator[RaggedRow]:
    """Yield every record that is not blank, ragged or whole, with the row it starts at."""
    lines = list(io.StringIO(body, newline=""))
    reader = csv.reader(lines, delimiter=delimiter)
    start = done = 0
    try:
        for cells in reader:
            start, done = done, reader.line_num
            if cells:
                text = _short("".join(lines[start:done]))
                yield RaggedRow(header_lines + start + 1, len(cells), expected, text)
    except csv.Error as error:
        raise DataError(
            f"{path}: row {header_lines + done + 1} cannot be read: {error}. "
            "Is a quote opened there and never closed?"
        ) from None
    _refuse_open_quote(path, "".join(lines[start:done]), header_lines + start + 1, delimiter)


def _refuse_open_quote(path: Path, record: str, line: int, delimiter: str) -> None:
    """Refuse a last record whose quote stays open: parsers let it swallow the rest of the file."""
    try:
        list(csv.reader(io.StringIO(record, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise DataError(
                f"{path}: row {line} opens a quote that is never closed: {_short(record)!r}. "
                "Close it, or write a quote that belongs to the text twice."
            ) from None


def _named(delimiter: str) -> str:
    return f"{DELIMITERS.get(delimiter, 'delimiter')} {delimiter!r}"


def _short(text: str, length: int = 80) -> str:
    text = text.rstrip("\r\n")
    return text if len(text) <= length else text[: length - 1] + "…"
