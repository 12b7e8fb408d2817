"""The raw samples of a table: columns by kind, as read from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.data.dates import DateOrder


@dataclass(frozen=True, kw_only=True)
class TableSamples:
    """Checked rows of one split, column by column; n rows."""

    numbers: dict[str, NDArray[np.float64]]
    """(n,) each, finite; missing as NaN."""
    dates: dict[str, NDArray[np.datetime64]]
    """(n,) datetime64[ms] each, in UTC where the cell names a zone; missing as NaT."""
    categories: dict[str, NDArray[np.object_]]
    """(n,) each, text without surrounding spaces, or None when missing."""
    columns: tuple[str, ...]
    """All input columns in file order."""
    target: NDArray[Any]
    """(n,) text objects for classes, or finite float64."""
    target_name: str
    lines: NDArray[np.int64]
    """(n,) row in the file; the header of a CSV is row 1."""
    date_orders: dict[str, DateOrder] = field(default_factory=dict)
    """How the file writes each date column: year, day or month first."""

    @property
    def ids(self) -> Sequence[str]:
        """ "row 17": what an editor and a spreadsheet show beside the row."""
        return [f"row {line}" for line in self.lines.tolist()]

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: NDArray[np.int64]) -> TableSamples:
        """Return the rows at these positions, in their order."""
        return replace(
            self,
            numbers={name: values[rows] for name, values in self.numbers.items()},
            dates={name: values[rows] for name, values in self.dates.items()},
            categories={name: values[rows] for name, values in self.categories.items()},
            target=self.target[rows],
            lines=self.lines[rows],
        )
