"""The data of a tabular recipe: read, checked and split.

    load_table(data, seed=0)      Splits of TableSamples, for training
    check_table(data)             the report alone, for `maquette check`; every violation is listed

Reading and checking are in `reading.py`, warnings and facts in `findings.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maquette.data.splits import SPLITS, split_rows
from maquette.errors import DataError
from maquette.tasks.base import DataReport, Splits
from maquette.tasks.tabular.findings import copy_warnings, find_warnings, summarise
from maquette.tasks.tabular.reading import Reading, TargetType, read_labelled, read_samples
from maquette.tasks.tabular.samples import TableSamples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maquette.data.cells import Kind
    from maquette.data.dates import DateOrder
    from maquette.recipe.schema import TabularData

__all__ = ["TableSamples", "check_table", "load_labelled", "load_table"]

SHOWN_BY_LOAD = 20
SHOWN_BY_CHECK = 1000


def load_table(data: TabularData, *, seed: int) -> Splits[TableSamples]:
    """Read, check and split the table.

    Raises:
        DataError: the table cannot be used; the text names rows, columns and values.
    """
    reading = read_samples(data, shown=SHOWN_BY_LOAD)
    parts = _split(data, reading, seed)
    splits = {name: reading.samples.take(rows) for name, rows in parts.items()}
    return Splits(
        train=splits["train"],
        valid=splits["valid"],
        test=splits["test"],
        assignment={name: split.ids for name, split in splits.items()},
        report=_report(data, reading, parts),
    )


def check_table(data: TabularData) -> DataReport:
    """Read and check the table as training would, and report what was found.

    Raises:
        DataError: the table cannot be used; the text lists every bad cell (the first thousand)
            with row, column, value and what was expected.
    """
    reading = read_samples(data, shown=SHOWN_BY_CHECK)
    return _report(data, reading, _split(data, reading, seed=0))


def load_labelled(
    data: TabularData,
    *,
    kinds: Mapping[str, Kind],
    date_orders: Mapping[str, DateOrder],
    classes: Sequence[str] | None,
) -> TableSamples:
    """Read another labelled table for a model that knows its columns and classes.

    Raises:
        DataError: it cannot be used, or holds a class that the model was not trained on.
    """
    target_type: TargetType = "number" if classes is None else "class"
    samples = read_labelled(
        data,
        kinds=kinds,
        date_orders=date_orders,
        target_type=target_type,
        shown=SHOWN_BY_LOAD,
    )
    if classes is None:
        return samples
    for row, label in enumerate(samples.target):
        if label not in classes:
            raise DataError(
                f"{data.path}, {samples.ids[row]}: class {label!r} in column "
                f"{samples.target_name!r} is not one the model was trained on; "
                f"its classes are {', '.join(classes)}."
            )
    return samples


def _split(data: TabularData, reading: Reading, seed: int) -> dict[str, NDArray[np.int64]]:
    samples, method, values = reading.samples, data.split.method, reading.split_values
    is_class = samples.target.dtype == object
    _refuse_constant_target(samples)
    parts = split_rows(
        len(samples),
        ratios=(data.train_split, data.validation_split, data.test_split),
        method=method,
        labels=samples.target if is_class else None,
        groups=values if method == "grouped" else None,
        times=values if method == "time" else None,
        assigned=values if method == "column" else None,
        ids=samples.ids,
        seed=seed,
    )
    if is_class:
        _refuse_unlearned_classes(samples, parts)
    return parts


def _refuse_constant_target(samples: TableSamples) -> None:
    if (samples.target == samples.target[0]).all():
        value = samples.target[0]
        what = f"class, {value!r}" if samples.target.dtype == object else f"value, {value:g}"
        raise DataError(
            f"Column {samples.target_name!r} has one {what}, in all {len(samples)} rows: there is "
            "nothing to learn. Choose another target_column, or add rows that differ."
        )


def _refuse_unlearned_classes(samples: TableSamples, parts: dict[str, NDArray[np.int64]]) -> None:
    learned = set(samples.target[parts["train"]].tolist())
    for name in SPLITS[1:]:
        for row in parts[name]:
            if samples.target[row] not in learned:
                raise DataError(
                    f"Class {samples.target[row]!r} ({samples.ids[row]}) is in {name} but in no "
                    "row of train, so it cannot be learned. Give the class more rows, remove it, "
                    "or deal the rows by another split.method (stratified keeps every class)."
                )


def _report(data: TabularData, reading: Reading, parts: dict[str, NDArray[np.int64]]) -> DataReport:
    samples = reading.samples
    sizes = {name: len(rows) for name, rows in parts.items()}
    return DataReport(
        source=data.path,
        num_samples=len(samples),
        quarantined=reading.quarantined,
        warnings=[*find_warnings(samples), *copy_warnings(samples, parts)],
        summary=summarise(samples) | {"splits": sizes},
    )
