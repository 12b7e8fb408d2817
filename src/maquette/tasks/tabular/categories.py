"""What a categorical column learns from the training rows: slots, and the order of its values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class CategoryColumn:
    """State of a categorical column."""

    name: str
    values: tuple[str, ...]
    """Known values in reading order; `values[i]` has slot i + 1."""
    typical: str | None
    """The most frequent value: the example."""
    is_constant: bool
    """Every training row has the same slot: read and checked, but no network input."""
    center: float
    scale: float
    """Ordinal encoding: the input is (slot - center) / scale."""

    @classmethod
    def fit(cls, name: str, values: NDArray[np.object_], max_categories: int) -> Self:
        """Learn from (n,) training values, missing as None; rare ones may get slot 0."""
        counts = Counter(value for value in values.tolist() if value is not None)
        by_frequency = sorted(counts, key=lambda value: (-counts[value], value))
        known = in_reading_order(by_frequency[:max_categories])
        slots = {value: slot for slot, value in enumerate(known, start=1)}
        codes = np.array([slots.get(value, 0) for value in values.tolist()], dtype=np.float64)
        deviation = float(codes.std())
        return cls(
            name=name,
            values=known,
            typical=by_frequency[0] if by_frequency else None,
            is_constant=deviation == 0,
            center=float(codes.mean()),
            scale=deviation or 1.0,
        )

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `dataclasses.asdict` gave."""
        return cls(**{**state, "values": tuple(state["values"])})

    @property
    def num_slots(self) -> int:
        return len(self.values) + 1

    def slots(self) -> dict[Hashable, int]:
        """Look-up from a cell to its slot; cells that are not in it have slot 0.

        Numbers and booleans find the value that reads like them: 94110 finds "94110".
        """
        slots: dict[Hashable, int] = {}
        for slot, value in enumerate(self.values, start=1):
            if (number := as_number(value)) is not None:
                slots.setdefault(number, slot)
            elif value.lower() in ("true", "false"):
                slots.setdefault(value.lower() == "true", slot)
        return slots | {value: slot for slot, value in enumerate(self.values, start=1)}


def as_number(text: str) -> float | None:
    """The finite number that `text` reads as, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    # float() also takes "1_000", "nan" and "infinity", which in a table are slips or words.
    return number if math.isfinite(number) and "_" not in text else None


def in_reading_order(values: Sequence[str]) -> tuple[str, ...]:
    """Sort numerically when every value is a number ("2" before "10"), otherwise alphabetically."""
    numbers = {value: as_number(value) for value in values}
    if all(number is not None for number in numbers.values()):
        return tuple(sorted(values, key=lambda value: (numbers[value], value)))
    return tuple(sorted(values))
