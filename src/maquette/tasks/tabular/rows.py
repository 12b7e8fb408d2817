"""Read raw rows, as requests and files give them, into arrays; say precisely what does not fit.

A row is a mapping by column name or a sequence of cells in column order. Numbers may be given as
text that reads as one, dates as ISO 8601 text; None (null) is a missing value, NaN is refused.

Letters: B rows, F number columns, D date columns, K category columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from functools import partial
from itertools import chain
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from maquette.errors import RequestError, nearest
from maquette.tasks.tabular.categories import CategoryColumn, as_number
from maquette.tasks.tabular.encoders import DateColumn, Dates, Floats, NumberColumn

if TYPE_CHECKING:
    from maquette.data.dates import DateOrder

NUM_LISTED = 12
"""Column names quoted in a message; a table may have hundreds."""


class Cells(NamedTuple):
    """Checked cells of B rows."""

    numbers: Floats
    """(B, F), missing as NaN."""
    dates: Dates
    """(B, D) datetime64[ms] in UTC, missing as NaT."""
    slots: NDArray[np.int64]
    """(B, K) category slots, 0 for unknown and missing."""


class RowReader:
    """Reads rows of one table."""

    def __init__(
        self,
        *,
        columns: Sequence[str],
        numbers: Sequence[NumberColumn],
        dates: Sequence[DateColumn],
        categories: Sequence[CategoryColumn],
        target_name: str,
    ) -> None:
        """Prepare the look-ups; `columns` are all input columns in the order of cells."""
        self._columns = tuple(columns)
        self._fields = frozenset(columns)
        self._target_name = target_name
        place = {name: position for position, name in enumerate(columns)}
        self._numbers = [(place[column.name], column) for column in numbers]
        self._dates = [(place[column.name], column) for column in dates]
        self._categories = [(place[column.name], column, column.slots()) for column in categories]
        self._only_numbers = tuple(column.name for column in numbers) == self._columns

    def read(self, raw: Sequence[Any]) -> Cells:
        """Read B rows.

        Raises:
            RequestError: a row does not fit; the text names row, field, value and what is expected.
        """
        if self._only_numbers:
            numbers = self._read_plain_numbers(raw)
            if numbers is not None:
                return Cells(
                    numbers,
                    np.empty((len(raw), 0), dtype="datetime64[ms]"),
                    np.empty((len(raw), 0), dtype=np.int64),
                )
        rows = [self._cells(index, row) for index, row in enumerate(raw)]
        return Cells(
            self._read_numbers(rows),
            self._read_dates(rows),
            self._read_categories(rows),
        )

    def _read_plain_numbers(self, raw: Sequence[Any]) -> Floats | None:
        """The fast way for rows of finite numbers; None when something needs a closer look."""
        kinds = set(map(type, raw))
        if kinds == {dict}:
            if any(row.keys() != self._fields for row in raw):
                return None
            raw = [[row[name] for name in self._columns] for row in raw]
        elif not kinds <= {list, tuple}:
            return None
        if not set(map(type, chain.from_iterable(raw))) <= {float, int}:
            return None
        try:
            values = np.array(raw, dtype=np.float64)
        except (ValueError, OverflowError):
            return None
        is_whole = values.shape == (len(raw), len(self._columns))
        return values if is_whole and np.isfinite(values).all() else None

    def _cells(self, index: int, row: Any) -> Sequence[Any]:
        """Return a row's cells in column order."""
        if isinstance(row, Mapping):
            if row.keys() != self._fields:
                self._refuse_fields(index, row)
            return [row[name] for name in self._columns]
        if isinstance(row, (str, bytes)) or not isinstance(row, (Sequence, np.ndarray)):
            raise RequestError(
                f"Row {index} (counting from 0) is {_shown(row)}, expected a list of "
                f"{len(self._columns)} cells or an object with the fields {listed(self._columns)}."
            )
        if len(row) != len(self._columns):
            raise RequestError(
                f"Row {index} (counting from 0) has {len(row)} cells, expected "
                f"{len(self._columns)} in this order: {listed(self._columns)}."
            )
        return cast(Sequence[Any], row)

    def _refuse_fields(self, index: int, row: Mapping[Any, Any]) -> None:
        where = f"Row {index} (counting from 0)"
        for name in row:
            if name == self._target_name:
                raise RequestError(
                    f"{where} has the field {name!r}, which is what the model predicts; remove it."
                )
            if name not in self._fields:
                near = nearest(str(name), self._fields)
                raise RequestError(
                    f"{where} has the unknown field {_shown(name)}.{near} "
                    f"Fields: {listed(self._columns)}."
                )
        missing = [name for name in self._columns if name not in row]
        raise RequestError(
            f"{where} has no field {missing[0]!r}. Give every field, null where the value is "
            f"missing: {listed(self._columns)}."
        )

    def _read_numbers(self, rows: Sequence[Sequence[Any]]) -> Floats:
        values = np.empty((len(rows), len(self._numbers)))
        for j, (place, column) in enumerate(self._numbers):
            may_miss = column.fill is not None
            values[:, j] = _each(parse_number, rows, place, column.name, may_miss)
        return values

    def _read_dates(self, rows: Sequence[Sequence[Any]]) -> Dates:
        values = np.empty((len(rows), len(self._dates)), dtype="datetime64[ms]")
        for j, (place, column) in enumerate(self._dates):
            spelled = _spelled_dates((row[place] for row in rows), column.order)
            parse = partial(parse_date, spelled=spelled)
            values[:, j] = _each(parse, rows, place, column.name, column.days.fill is not None)
        return values

    def _read_categories(self, rows: Sequence[Sequence[Any]]) -> NDArray[np.int64]:
        slots = np.empty((len(rows), len(self._categories)), dtype=np.int64)
        for j, (place, column, known) in enumerate(self._categories):
            find = partial(find_slot, known=known)
            slots[:, j] = _each(find, rows, place, column.name, may_miss=True)
        return slots


def _each(
    parse: Callable[[Any], Any],
    rows: Sequence[Sequence[Any]],
    place: int,
    name: str,
    may_miss: bool,
) -> list[Any]:
    """Parse one column's cells; a cell that does not parse is refused with row and field."""
    index = 0
    try:
        parsed = []
        for index, row in enumerate(rows):  # noqa: B007 - the error below needs the index
            if row[place] is None and not may_miss:
                raise ValueError("a value; this model does not take missing ones")
            parsed.append(parse(row[place]))
    except ValueError as error:
        raise RequestError(
            f"Row {index} (counting from 0), field {name!r}: got {_shown(rows[index][place])}, "
            f"expected {error}."
        ) from None
    return parsed


def parse_number(cell: Any) -> float:
    """Read a cell as a number; None is NaN.

    Raises:
        ValueError: its text says what is expected instead.
    """
    if cell is None:
        return math.nan
    if isinstance(cell, str):
        number = as_number(cell)
    elif isinstance(cell, Real) and not isinstance(cell, bool):
        number = _as_float(cell)
    else:
        number = None
    if number is None:
        raise ValueError("a finite number, or null for a missing value")
    return number


def _as_float(cell: Real) -> float | None:
    try:
        number = float(cell)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def parse_date(cell: Any, spelled: Mapping[str, np.datetime64] | None = None) -> np.datetime64:
    """Read a cell as a date, in UTC; None is NaT.

    Args:
        spelled: texts that are not ISO 8601 but dates in the order of the training file.
    Raises:
        ValueError: its text says what is expected instead.
    """
    if cell is None:
        return np.datetime64("NaT", "ms")
    if isinstance(cell, np.datetime64) and not np.isnat(cell):
        return np.datetime64(cell.astype("datetime64[ms]"))
    if isinstance(cell, str):
        if spelled and cell in spelled:
            return spelled[cell]
        cell = _iso_date(cell)
    if isinstance(cell, date) and not isinstance(cell, datetime):
        cell = datetime.combine(cell, time())
    if (
        not isinstance(cell, datetime) or cell != cell
    ):  # pandas' NaT is a datetime that is not itself
        raise ValueError('a date such as "2024-05-31" or "2024-05-31T14:30:00", or null')
    if cell.tzinfo is not None:
        cell = cell.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(cell, "ms")


def _iso_date(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None


def _spelled_dates(cells: Iterable[Any], order: DateOrder) -> dict[str, np.datetime64]:
    """Read the texts that are not ISO 8601 as the training file was read, all at once."""
    texts = {cell for cell in cells if isinstance(cell, str) and _iso_date(cell) is None}
    if not texts:
        return {}
    from maquette.data.arrow import from_texts
    from maquette.data.dates import parse_dates

    listed_texts = sorted(texts)
    dates = parse_dates(from_texts([text.strip() for text in listed_texts]), order)
    pairs = zip(listed_texts, dates, strict=True)
    return {text: date for text, date in pairs if not np.isnat(date)}


def find_slot(cell: Any, known: Mapping[Any, int]) -> int:
    """Return the slot of a category cell: 0 for None and for values not seen in training.

    Raises:
        ValueError: not text, number, true or false; or NaN.
    """
    try:
        slot = known.get(cell, 0)
    except TypeError:  # a list or an object cannot be looked up
        raise ValueError("text, or null for a missing value") from None
    if slot or cell is None or isinstance(cell, str):
        return slot
    if not isinstance(cell, (Real, np.bool_)) or cell != cell:
        raise ValueError("text, or null for a missing value")
    return slot


def listed(names: Iterable[str]) -> str:
    """Join names for a message, the first `NUM_LISTED` of them."""
    names = list(names)
    rest = f", … ({len(names)} in all)" if len(names) > NUM_LISTED else ""
    return ", ".join(names[:NUM_LISTED]) + rest


def _shown(value: Any) -> str:
    """A value for a message, cut to a readable length; a bool is not mistaken for a number."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
