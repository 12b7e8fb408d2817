"""A table file -> checked samples: columns typed, bad rows set aside or refused with their places.

`read_samples` is the way in for training and reads from top to bottom; `read_labelled` reads other
data for a model that is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from maquette.data.arrow import is_valid, to_texts
from maquette.data.catalogue import resolve
from maquette.data.cells import (
    Kind,
    find_kind,
    is_whole,
    parse_numbers,
    parse_times,
)
from maquette.data.csv_text import ragged_message
from maquette.data.dates import DateOrder, find_date_order, parse_dates
from maquette.data.schema_file import read_schema
from maquette.data.schema_keywords import DATE_FORMATS, NAMES
from maquette.data.table_schema import Schema, Violation, column_kind, infer_schema, violations
from maquette.data.tables import Table, read_table
from maquette.errors import DataError, nearest
from maquette.tasks.tabular.quarantine import set_aside
from maquette.tasks.tabular.samples import TableSamples

if TYPE_CHECKING:
    from pathlib import Path

    from maquette.recipe.schema import TabularData

TargetType = Literal["class", "number"]
MOST_CLASSES = 20
"""Whole numbers with at most this many different values are classes under target_type: auto."""
EXPECTED = {"number": NAMES["number"], "date": DATE_FORMATS["date"]}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a file holds."""

    samples: TableSamples
    split_values: NDArray[Any] | None
    """(n,) group names, times or split names of the column that the split rule names."""
    quarantined: tuple[Mapping[str, str], ...]
    """`place` and `reason` of every row set aside."""


def read_samples(data: TabularData, *, shown: int) -> Reading:
    """Read and check the table of a recipe.

    Args:
        shown: violations that an error message lists; it counts the others.
    Raises:
        DataError: the file, a column or too many rows cannot be used.
    """
    table = _read_file(data)
    _refuse_unknown_columns(table, data)
    schema = _schema(table, data)
    kinds = _kinds(table, data, schema)
    orders = _date_orders(table, kinds)
    target_type = _target_type(table, data, schema)
    found = violations(table, schema, ignore_columns=data.ignore_columns)
    found += _unreadable(table, data, kinds, orders, target_type, found)
    table, quarantined = set_aside(table, found, tolerance=data.tolerance, shown=shown)
    return Reading(
        samples=_samples(table, data, kinds, orders, target_type),
        split_values=_split_values(table, data),
        quarantined=quarantined,
    )


def read_labelled(
    data: TabularData,
    *,
    kinds: Mapping[str, Kind],
    date_orders: Mapping[str, DateOrder],
    target_type: TargetType,
    shown: int,
) -> TableSamples:
    """Read another table for a model that knows what each of its columns is.

    Args:
        data: the settings of training with the other path; no split rule.
        kinds: input column -> kind, in the order of training; other columns are ignored.
        date_orders: date column -> how the training file wrote it; this one must do the same.
    Raises:
        DataError: a column is missing, or too many rows cannot be used.
    """
    table = _read_file(data)
    for name in (*kinds, data.target_column):
        if name not in table.cells:
            raise DataError(
                f"{table.source} has no column {name!r}, which the model was trained with."
                f"{nearest(name, table.columns)} Its columns: {', '.join(table.columns)}."
            )
    found = _unreadable(table, data, kinds, date_orders, target_type, ())
    table, _ = set_aside(table, found, tolerance=data.tolerance, shown=shown)
    return _samples(table, data, kinds, date_orders, target_type)


def read_as(data: TabularData, path: Path, *, allow_ragged: bool = False) -> Table:
    """Read the table `path`, spelled as a recipe says: delimiter, encoding and missing values.

    Raises:
        DataError: as `read_table` does.
    """
    return read_table(
        path,
        delimiter=data.delimiter,
        encoding=data.encoding,
        missing_values=data.missing_values,
        allow_ragged=allow_ragged,
    )


def _read_file(data: TabularData) -> Table:
    table = read_as(data, resolve(data.path), allow_ragged=True)
    if not len(table):
        raise DataError(ragged_message(table.source, table.ragged, 0))
    return table


def _refuse_unknown_columns(table: Table, data: TabularData) -> None:
    wanted = [("target_column", data.target_column)]
    wanted += [("ignore_columns", name) for name in data.ignore_columns]
    wanted += [("categorical_columns", name) for name in data.categorical_columns]
    wanted += [("split.column", data.split.column)] if data.split.column else []
    for key, name in wanted:
        if name not in table.cells:
            raise DataError(
                f"{table.source} has no column {name!r} (data.tabular.{key})."
                f"{nearest(name, table.columns)} Its columns: {', '.join(table.columns)}."
            )
    if data.target_column in (*data.ignore_columns, data.split.column):
        raise DataError(
            f"Column {data.target_column!r} is the target; it can be neither in ignore_columns nor "
            "the split.column."
        )
    if not _input_columns(table, data):
        raise DataError(
            f"{table.source} has no input column: {data.target_column!r} is the target, and no "
            "other column is left to learn from."
        )


def _input_columns(table: Table, data: TabularData) -> tuple[str, ...]:
    """The columns that the network sees: group and split names would only tell it who is who."""
    hidden = {data.target_column, *data.ignore_columns}
    if data.split.method in ("grouped", "column"):
        hidden.add(str(data.split.column))
    return tuple(name for name in table.columns if name not in hidden)


def _schema(table: Table, data: TabularData) -> Schema:
    if data.schema_path is not None:
        return read_schema(data.schema_path)
    as_text = (data.target_column,) if data.target_type == "class" else ()
    return infer_schema(
        table,
        target=data.target_column,
        categorical_columns=(*data.categorical_columns, *as_text),
        ignore_columns=data.ignore_columns,
    )


def _kinds(table: Table, data: TabularData, schema: Schema) -> dict[str, Kind]:
    def kind(name: str) -> Kind:
        if name in data.categorical_columns:
            return "category"
        return column_kind(schema, name) or find_kind(table.cells[name])

    return {name: kind(name) for name in _input_columns(table, data)}


def _target_type(table: Table, data: TabularData, schema: Schema) -> TargetType:
    if data.target_type != "auto":
        return data.target_type
    cells = table.cells[data.target_column]
    if (column_kind(schema, data.target_column) or find_kind(cells)) != "number":
        return "class"
    numbers, _ = parse_numbers(cells)
    distinct = set(numbers[~np.isnan(numbers)].tolist())
    return "class" if len(distinct) <= MOST_CLASSES and is_whole(numbers) else "number"


def _unreadable(
    table: Table,
    data: TabularData,
    kinds: Mapping[str, Kind],
    orders: Mapping[str, DateOrder],
    target_type: TargetType,
    found: Sequence[Violation],
) -> list[Violation]:
    """What a schema may allow and the network cannot use; cells already found are left out."""
    known = {(violation.line, violation.column) for violation in found}
    more: list[Violation] = []

    def add(name: str, bad: NDArray[np.bool_], expected: str) -> None:
        for row in np.flatnonzero(bad):
            if (int(table.lines[row]), name) not in known:
                value = table.cells[name][int(row)].as_py()
                more.append(Violation(int(table.lines[row]), name, value, expected))

    for name, kind in kinds.items():
        if kind != "category":
            add(name, _parse(table.cells[name], kind, orders.get(name))[1], EXPECTED[kind])
    target = table.cells[data.target_column]
    add(data.target_column, ~is_valid(target), "a value: it is the target")
    if target_type == "number":
        add(data.target_column, parse_numbers(target)[1], EXPECTED["number"])
    if data.split.column is not None:
        cells = table.cells[data.split.column]
        add(data.split.column, ~is_valid(cells), "a value: the split rule needs it")
        if data.split.method == "time":
            add(data.split.column, parse_times(cells)[1], "a date or a number to order rows by")
    return more


def _date_orders(table: Table, kinds: Mapping[str, Kind]) -> dict[str, DateOrder]:
    dates = [name for name, kind in kinds.items() if kind == "date"]
    return {name: find_date_order(table.cells[name]) or "ymd" for name in dates}


def _parse(
    cells: pa.StringArray, kind: Kind, order: DateOrder | None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read a number or date column; returns the values, and where a cell is neither."""
    if kind == "number":
        return parse_numbers(cells)
    dates = parse_dates(cells, order or "ymd")
    return dates, is_valid(cells) & np.isnat(dates)


def _samples(
    table: Table,
    data: TabularData,
    kinds: Mapping[str, Kind],
    orders: Mapping[str, DateOrder],
    target_type: TargetType,
) -> TableSamples:
    columns: dict[Kind, dict[str, Any]] = {"number": {}, "date": {}, "category": {}}
    for name, kind in kinds.items():
        cells = table.cells[name]
        is_text = kind == "category"
        columns[kind][name] = (
            to_texts(cells) if is_text else _parse(cells, kind, orders.get(name))[0]
        )
    target = table.cells[data.target_column]
    return TableSamples(
        numbers=columns["number"],
        dates=columns["date"],
        categories=columns["category"],
        columns=tuple(kinds),
        target=_class_names(target) if target_type == "class" else parse_numbers(target)[0],
        target_name=data.target_column,
        lines=table.lines,
        date_orders=dict(orders),
    )


def _class_names(cells: pa.StringArray) -> NDArray[np.object_]:
    """Class names as the file spells them; one number spelled in two ways (1, 1.0) is one class."""
    names = to_texts(cells)
    numbers, bad = parse_numbers(cells)
    if bad.any() or len(set(names.tolist())) == len(set(numbers.tolist())):
        return names
    return np.array([f"{number:g}" for number in numbers], dtype=object)


def _split_values(table: Table, data: TabularData) -> NDArray[Any] | None:
    if data.split.column is None:
        return None
    cells = table.cells[data.split.column]
    return parse_times(cells)[0] if data.split.method == "time" else to_texts(cells)
