"""The preprocessor of tables: fitted on the training rows, saved as JSON, used everywhere.

`encode` (raw rows: serving, prediction) and `encode_samples` (columns read from a file: training)
end in the same `_assemble`, so training and serving cannot disagree. The network's inputs are, in
this order:

    numbers      varying number columns, then days of dates, scaled
                 0/1 indicators of those that had missing training values
                 sine and cosine of the dates' cycles
                 categories as one-hot blocks or ordinals, unless they are embedded
    categories   slots of embedded categories, as a second tensor; only with `embedding`

Letters: B rows, F numbers after encoding, K varying category columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.errors import DataError
from maquette.recipe.schema import TabularPreprocessing
from maquette.tasks.base import Json
from maquette.tasks.tabular.categories import CategoryColumn, in_reading_order
from maquette.tasks.tabular.encoders import DateColumn, NumberColumn, NumberScaler, days, varies
from maquette.tasks.tabular.row_schema import row_schema
from maquette.tasks.tabular.rows import Cells, RowReader, listed

if TYPE_CHECKING:
    from maquette.data.cells import Kind
    from maquette.tasks.tabular.samples import TableSamples


@dataclass(frozen=True, kw_only=True)
class TabularPreprocessor:
    """Everything learned from the training rows that is not the network."""

    columns: tuple[str, ...]
    """Every input column, in the order of a row's cells."""
    numbers: tuple[NumberColumn, ...]
    dates: tuple[DateColumn, ...]
    categories: tuple[CategoryColumn, ...]
    scaling: str
    """none, standard, robust or quantile."""
    encoding: str
    """onehot, ordinal or embedding."""
    target_name: str
    classes: tuple[str, ...] | None = None
    """Class names in the order of the network's outputs; None for regression."""
    class_counts: tuple[int, ...] | None = None
    """Training rows of each class."""
    target_mean: float = 0.0
    target_scale: float = 1.0
    """Regression: the network learns (target - mean) / scale."""

    @classmethod
    def fit(cls, samples: TableSamples, settings: TabularPreprocessing) -> Self:
        """Learn from the training rows.

        Raises:
            DataError: one class, a constant target, no input that varies, or a column that
                cannot be used with these settings.
        """
        numbers = [
            NumberColumn.fit(name, values, settings) for name, values in samples.numbers.items()
        ]
        orders = samples.date_orders
        dates = [
            DateColumn.fit(name, values, settings, order=orders.get(name, "ymd"))
            for name, values in samples.dates.items()
        ]
        categories = [
            CategoryColumn.fit(name, values, settings.max_categories)
            for name, values in samples.categories.items()
        ]
        fitted = cls(
            columns=samples.columns,
            numbers=tuple(numbers),
            dates=tuple(dates),
            categories=tuple(categories),
            scaling=settings.scaling if settings.normalize else "none",
            encoding=settings.categorical_encoding,
            target_name=samples.target_name,
            **_fit_target(samples.target, samples.target_name),
        )
        if not fitted.num_inputs:
            raise DataError(
                f"No input column varies in the {len(samples)} training rows, so there is nothing "
                f"to predict {samples.target_name!r} from. Columns: {listed(samples.columns)}."
            )
        return fitted

    def encode(self, raw: Sequence[Any]) -> tuple[Tensor, ...]:
        """Turn raw rows into the network's arguments.

        Args:
            raw: B mappings by column name, or B sequences of cells in the order of `columns`.
        Returns:
            (B, F) float32, and (B, K) int64 slots when categories are embedded.
        Raises:
            RequestError: a row does not fit; the text names its index, the field and the value.
        """
        return self._assemble(self._reader.read(raw))

    def encode_samples(self, samples: TableSamples) -> tuple[Tensor, ...]:
        """Turn rows read from a file into the network's arguments, as `encode` does."""
        return self._assemble(self._cells(samples))

    def encode_targets(self, samples: TableSamples) -> Tensor:
        """(n,) int64 class indices, or (n,) float32 standardised numbers.

        Raises:
            DataError: a class that the training rows do not have.
        """
        if self.classes is None:
            standardised = (samples.target - self.target_mean) / self.target_scale
            return torch.from_numpy(standardised.astype(np.float32))
        index = {name: position for position, name in enumerate(self.classes)}
        for row, name in enumerate(samples.target):
            if name not in index:
                raise DataError(
                    f"{samples.ids[row]} has the class {name!r} in column {self.target_name!r}, "
                    f"which no training row has; training classes: {listed(self.classes)}. "
                    "Give the class more rows, or remove it."
                )
        return torch.tensor([index[name] for name in samples.target], dtype=torch.int64)

    def category_slots(self, samples: TableSamples) -> NDArray[np.int64]:
        """(n, K) slots of the category columns that vary."""
        return self._cells(samples).slots[:, self._varying]

    @property
    def num_numbers(self) -> int:
        """F, the width of the first tensor of `encode`."""
        numbers = [*self.numbers, *(date.days for date in self.dates)]
        width = sum((not c.is_constant) + c.has_indicator for c in numbers)
        width += sum(2 * len(date.cycles) for date in self.dates)
        if self.encoding == "onehot":
            return width + sum(self._num_slots)
        return width + (len(self._num_slots) if self.encoding == "ordinal" else 0)

    @property
    def category_sizes(self) -> tuple[int, ...]:
        """Slots of each embedded column, in the order of the second tensor of `encode`."""
        return self._num_slots if self.encoding == "embedding" else ()

    @property
    def num_inputs(self) -> int:
        """F plus the embedded columns: what `architecture.input_dim` counts."""
        return self.num_numbers + len(self.category_sizes)

    @property
    def onehot_starts(self) -> NDArray[np.int64]:
        """(K,) column of the first tensor of `encode` where each one-hot block begins."""
        first = self.num_numbers - sum(self._num_slots)
        return first + np.cumsum([0, *self._num_slots[:-1]])

    @property
    def column_kinds(self) -> dict[str, Kind]:
        """What each input column was in training, in the order of `columns`."""
        kinds: dict[str, Kind] = {column.name: "number" for column in self.numbers}
        kinds |= {column.name: "date" for column in self.dates}
        kinds |= {column.name: "category" for column in self.categories}
        return {name: kinds[name] for name in self.columns}

    def input_schema(self) -> Json:
        """JSON Schema of one raw row given by name."""
        return row_schema(self.columns, self.numbers, self.dates, self.categories)

    def to_json(self) -> Json:
        """The whole state; JSON keeps floats exactly, so `from_json` encodes bit for bit alike."""
        return asdict(self)

    @classmethod
    def from_json(cls, state: Json) -> Self:
        """Restore a preprocessor saved by `to_json`."""
        parts: dict[str, Any] = {
            "columns": tuple(state["columns"]),
            "numbers": tuple(NumberColumn.from_json(s) for s in state["numbers"]),
            "dates": tuple(DateColumn.from_json(s) for s in state["dates"]),
            "categories": tuple(CategoryColumn.from_json(s) for s in state["categories"]),
        }
        for name in ("classes", "class_counts"):
            parts[name] = None if state[name] is None else tuple(state[name])
        return cls(**{**state, **parts})

    @cached_property
    def _reader(self) -> RowReader:
        return RowReader(
            columns=self.columns,
            numbers=self.numbers,
            dates=self.dates,
            categories=self.categories,
            target_name=self.target_name,
        )

    @cached_property
    def _scaler(self) -> NumberScaler:
        return NumberScaler([*self.numbers, *(date.days for date in self.dates)], self.scaling)

    @cached_property
    def _varying(self) -> NDArray[np.intp]:
        """Positions of the category columns that vary."""
        return np.flatnonzero([not column.is_constant for column in self.categories])

    @cached_property
    def _num_slots(self) -> tuple[int, ...]:
        return tuple(self.categories[k].num_slots for k in self._varying)

    def _cells(self, samples: TableSamples) -> Cells:
        """Stack the columns of a file as `RowReader` stacks the cells of requests."""
        num_rows = len(samples)
        numbers = np.empty((num_rows, len(self.numbers)))
        for j, column in enumerate(self.numbers):
            numbers[:, j] = samples.numbers[column.name]
            _refuse_missing(column, np.isnan(numbers[:, j]), samples)
        dates = np.empty((num_rows, len(self.dates)), dtype="datetime64[ms]")
        for j, date in enumerate(self.dates):
            dates[:, j] = samples.dates[date.name]
            _refuse_missing(date.days, np.isnat(dates[:, j]), samples)
        slots = np.empty((num_rows, len(self.categories)), dtype=np.int64)
        for j, category in enumerate(self.categories):
            known = category.slots()
            slots[:, j] = [known.get(cell, 0) for cell in samples.categories[category.name]]
        return Cells(numbers, dates, slots)

    def _assemble(self, cells: Cells) -> tuple[Tensor, ...]:
        """Turn checked cells into the network's arguments."""
        numbers = cells.numbers
        if self.dates:
            numbers = np.concatenate([numbers, days(cells.dates)], axis=1)
        parts = [self._scaler(numbers)]
        parts += [date.encode(cells.dates[:, j]) for j, date in enumerate(self.dates)]
        slots = cells.slots[:, self._varying] if self.categories else cells.slots
        if self._num_slots and self.encoding == "onehot":
            parts.append(self._onehot(slots))
        elif self._num_slots and self.encoding == "ordinal":
            parts.append(self._ordinal(slots))
        joined = torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))
        return (joined, torch.from_numpy(slots)) if self.category_sizes else (joined,)

    def _onehot(self, slots_BK: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, K) slots -> (B, Σ slots) blocks of zeros with a single one."""
        blocks = np.zeros((len(slots_BK), sum(self._num_slots)), dtype=np.float32)
        starts = self.onehot_starts - self.onehot_starts[0]
        blocks[np.arange(len(slots_BK))[:, None], starts + slots_BK] = 1
        return blocks

    def _ordinal(self, slots_BK: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, K) slots -> (B, K) standardised slots."""
        columns = [self.categories[k] for k in self._varying]
        centers, scales = [c.center for c in columns], [c.scale for c in columns]
        return np.asarray((slots_BK - centers) / np.array(scales), dtype=np.float32)


def _refuse_missing(
    column: NumberColumn, missing: NDArray[np.bool_], samples: TableSamples
) -> None:
    if column.fill is None and missing.any():
        raise DataError(
            f"{samples.ids[int(missing.argmax())]} has no value in column {column.name!r}, and "
            "preprocessing.handle_missing is 'error'; use median, mean or zero."
        )


def _fit_target(target: NDArray[Any], name: str) -> dict[str, Any]:
    """Learn class names and counts from text, or mean and deviation from numbers."""
    if target.dtype.kind == "f":
        mean, scale = float(target.mean()), float(target.std())
        if not varies(float(target.min()), float(target.max())):
            raise DataError(
                f"Column {name!r} is {target[0]:g} in every training row; there is nothing to "
                "learn. Choose another data.tabular.target_column."
            )
        return {"target_mean": mean, "target_scale": scale}
    counts = Counter(target.tolist())
    classes = in_reading_order(list(counts))
    if len(classes) < 2:
        raise DataError(
            f"Column {name!r} is {classes[0]!r} in every training row; a classifier needs at "
            "least two classes. Choose another data.tabular.target_column, or another split."
        )
    return {"classes": classes, "class_counts": tuple(counts[c] for c in classes)}
