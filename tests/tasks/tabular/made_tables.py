"""Small tables for the tests of this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maquette.tasks.tabular.samples import TableSamples


def make_samples(
    *,
    numbers: Mapping[str, Sequence[float]] | None = None,
    dates: Mapping[str, Sequence[str]] | None = None,
    categories: Mapping[str, Sequence[str | None]] | None = None,
    target: Sequence[Any],
    columns: Sequence[str] | None = None,
) -> TableSamples:
    """A table from lists; missing is NaN, "NaT" or None; the target is text or floats."""
    numbers, dates, categories = numbers or {}, dates or {}, categories or {}
    is_number = not isinstance(target[0], str)
    return TableSamples(
        numbers={name: np.array(cells, dtype=np.float64) for name, cells in numbers.items()},
        dates={name: np.array(cells, dtype="datetime64[ms]") for name, cells in dates.items()},
        categories={name: np.array(cells, dtype=object) for name, cells in categories.items()},
        columns=tuple(columns or (*numbers, *dates, *categories)),
        target=np.array(target, dtype=np.float64 if is_number else object),
        target_name="outcome",
        lines=np.arange(2, len(target) + 2),
    )


def mixed_samples(num_rows: int = 60, *, seed: int = 0) -> TableSamples:
    """Two numbers (one with gaps), a date with gaps and two categories (one with gaps)."""
    random = np.random.default_rng(seed)
    gaps = random.random(num_rows) < 0.2
    days = np.datetime64("2020-01-01") + random.integers(0, 900, num_rows)
    colours = random.choice(["red", "green", "blue"], num_rows).astype(object)
    return make_samples(
        numbers={
            "age": random.normal(40, 12, num_rows),
            "income": np.where(gaps, np.nan, random.lognormal(10, 1, num_rows)),
        },
        dates={"since": np.where(random.random(num_rows) < 0.1, np.datetime64("NaT"), days)},
        categories={
            "colour": np.where(random.random(num_rows) < 0.1, None, colours),
            "postcode": random.choice(["10115", "80331", "20095", "50667"], num_rows),
        },
        columns=("colour", "age", "since", "postcode", "income"),
        target=random.choice(["no", "yes"], num_rows).tolist(),
    )
