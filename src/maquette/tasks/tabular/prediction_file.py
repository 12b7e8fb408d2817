"""Predict a CSV or Parquet table into a CSV: every input column, then the answers.

Added are `prediction` and, for classes, one `probability_<class>` column each.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maquette.data.tables import Table
from maquette.errors import DataError, RequestError, nearest
from maquette.files import write_atomic
from maquette.recipe.schema import TabularData
from maquette.tasks.base import Predictions
from maquette.tasks.tabular.reading import read_as

CHUNK = 4096
"""Rows read, predicted and written together; bounds memory."""


def predict_table(
    predict: Callable[[Sequence[Any]], Predictions],
    *,
    columns: Sequence[str],
    settings: TabularData,
    source: Path,
    output: Path,
) -> list[str]:
    """Predict every row of `source`, write `output`, and return lines that say what was done.

    Args:
        columns: what the model takes; other columns of the file are passed through.
        settings: how the training data was spelled: delimiter, encoding, missing values.
    Raises:
        DataError: no such table, a column is missing or taken, or a cell does not fit (with its
            row); nothing is written then.
    """
    table = read_as(settings, source)
    _refuse_misfit(table, columns)

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            for start in range(0, len(table), CHUNK):
                stop = min(start + CHUNK, len(table))
                chunk = table.take(np.arange(start, stop))
                answers = _predict(predict, chunk, columns)
                if start == 0:
                    writer.writerow([*table.columns, "prediction", *_probability_columns(answers)])
                writer.writerows(_rows(chunk, answers))

    write_atomic(output, write)
    return [f"{len(table)} prediction{'s' * (len(table) != 1)} in {output}"]


def _refuse_misfit(table: Table, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in table.cells:
            raise DataError(
                f"{table.source} has no column {column!r}, which the model needs."
                f"{nearest(column, table.columns)} It has: {', '.join(table.columns)}."
            )
    for column in table.columns:
        if column == "prediction" or column.startswith("probability_"):
            raise DataError(
                f"{table.source} already has a column {column!r}, which the answers would be "
                "written to; rename or remove it."
            )


def _predict(
    predict: Callable[[Sequence[Any]], Predictions], chunk: Table, columns: Sequence[str]
) -> Predictions:
    cells = [chunk.cells[column].to_pylist() for column in columns]
    rows = list(zip(*cells, strict=True))
    try:
        return predict(rows)
    except RequestError:
        for line, row in zip(chunk.lines, rows, strict=True):
            _predict_one(predict, row, int(line), chunk.source)
        raise


def _predict_one(
    predict: Callable[[Sequence[Any]], Predictions], row: Any, line: int, source: Path
) -> None:
    """Find the row that does not fit, and name it by its place in the file."""
    try:
        predict([row])
    except RequestError as error:
        reason = str(error).removeprefix("Row 0 (counting from 0), ")
        raise DataError(f"{source}, row {line}: {reason}") from None


def _probability_columns(answers: Predictions) -> list[str]:
    return [f"probability_{name}" for name in answers.classes or ()]


def _rows(chunk: Table, answers: Predictions) -> list[tuple[Any, ...]]:
    columns: list[Sequence[Any]] = [column.to_pylist() for column in chunk.cells.values()]
    columns.append(answers.values)
    if answers.probabilities is not None:
        columns += [[f"{p:.6g}" for p in column] for column in answers.probabilities.T.tolist()]
    return list(zip(*columns, strict=True))
