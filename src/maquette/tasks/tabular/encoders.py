"""What number and date columns learn from the training rows, and how they become network inputs.

    NumberColumn     fill for missing, centre, scale, quantiles
    DateColumn       days since 1970 as a number, and the cycles it runs through
    NumberScaler     all number columns at once, as arrays: what runs on every request

Letters: B rows, F number columns (days of dates included).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from maquette.errors import DataError
from maquette.recipe.schema import TabularPreprocessing

Floats = NDArray[np.float64]
Dates = NDArray[np.datetime64]

if TYPE_CHECKING:
    from maquette.data.dates import DateOrder

LIMIT = {"none": 1e15, "standard": 1e6, "robust": 1e6, "quantile": 1e15}
"""Values are cut off here before they enter the network, by scaling. A standardised training value
cannot get this far (|z| is below √n); an absurd live value does, and must not become infinite."""

SMOOTH_CLIP = 3.0
"""Robust scaling bends x to x/√(1 + (x/3)²), which stays within ±3 (RealMLP, Holzmüller 2024)."""

NORMAL_LIMIT = 5.199337582605575
"""Quantile scaling ends here: the normal quantile of 1 - 1e-7, as in scikit-learn."""


@dataclass(frozen=True, kw_only=True)
class NumberColumn:
    """State of a numeric column, in the user's unit."""

    name: str
    low: float
    high: float
    """The training range; values outside are accepted."""
    typical: float
    """The training median: the example, and the default fill."""
    fill: float | None
    """Stands in for a missing value; None refuses missing values."""
    is_constant: bool
    """One value (or none) in the training rows: read and checked, but no network input."""
    has_indicator: bool
    """Adds a 0/1 input that says "missing"."""
    center: float = 0.0
    scale: float = 1.0
    """The input is (value - center) / scale, before any bending."""
    quantiles: tuple[float, ...] = ()
    """Quantile scaling: training values at equally spaced ranks from 0 to 1."""

    @classmethod
    def fit(cls, name: str, values: Floats, settings: TabularPreprocessing) -> Self:
        """Learn from (n,) training values, missing as NaN.

        Raises:
            DataError: missing values under `handle_missing: error`, or a spread beyond float64.
        """
        observed = values[~np.isnan(values)]
        num_missing = len(values) - len(observed)
        if num_missing and settings.handle_missing == "error":
            raise DataError(
                f"Column {name!r} has {num_missing} missing values in the training rows, and "
                "preprocessing.handle_missing is 'error'; use median, mean or zero."
            )
        low, median, high = (
            np.quantile(observed, (0, 0.5, 1)).tolist() if len(observed) else (0.0, 0.0, 0.0)
        )
        does_vary = varies(low, high)
        learned = _scaling(name, observed, settings) if does_vary else {}
        return cls(
            name=name,
            low=low,
            high=high,
            typical=median,
            fill=_fill(settings.handle_missing, observed, median),
            is_constant=not does_vary,
            has_indicator=settings.missing_indicator and 0 < num_missing < len(values),
            **learned,
        )

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `dataclasses.asdict` gave."""
        return cls(**{**state, "quantiles": tuple(state["quantiles"])})


def varies(low: float, high: float) -> bool:
    """Whether a range is wider than rounding noise, and its square than the smallest float64."""
    return high - low > max(10 * sys.float_info.epsilon * max(abs(low), abs(high)), 1e-150)


def _fill(method: str, observed: Floats, median: float) -> float | None:
    """What stands in for a missing value; 0 when nothing was observed."""
    if method == "error":
        return None
    if method == "zero" or not len(observed):
        return 0.0
    return median if method == "median" else float(observed.mean())


def _scaling(name: str, observed: Floats, settings: TabularPreprocessing) -> dict[str, Any]:
    """Learn centre and scale, or quantiles, from the observed values of a column that varies."""
    if not settings.normalize:
        return {}
    if settings.scaling == "quantile":
        # As many knots as TabM uses (Gorishniy 2025): about 30 rows each, 10 to 1000 of them.
        num_knots = min(max(len(observed) // 30, 10), 1000, len(observed))
        return {"quantiles": tuple(np.quantile(observed, np.linspace(0, 1, num_knots)).tolist())}
    if settings.scaling == "robust":
        lower, center, upper = (float(q) for q in np.quantile(observed, (0.25, 0.5, 0.75)))
        scale = upper - lower or (float(observed.max()) - float(observed.min())) / 2
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            center, scale = float(observed.mean()), float(observed.std())
    if not (math.isfinite(center) and math.isfinite(scale)):
        raise DataError(
            f"Column {name!r} has values up to {np.abs(observed).max():.3g}, too large to "
            "standardise; divide it by a power of ten, or list it in data.tabular.ignore_columns."
        )
    return {"center": center, "scale": scale}


class NumberScaler:
    """All number columns at once; holds their states as arrays."""

    def __init__(self, columns: Sequence[NumberColumn], scaling: str) -> None:
        """`scaling` is none, standard, robust or quantile."""
        kept = [j for j, column in enumerate(columns) if not column.is_constant]
        self._scaling = scaling
        self._kept = None if len(kept) == len(columns) else np.array(kept, dtype=np.intp)
        self._flagged = np.flatnonzero([column.has_indicator for column in columns])
        self._fill = np.array([0.0 if c.fill is None else c.fill for c in columns])
        self._center = np.array([columns[j].center for j in kept])
        self._scale = np.array([columns[j].scale for j in kept])
        self._quantiles = [np.array(columns[j].quantiles) for j in kept]

    def __call__(self, values_BF: Floats) -> NDArray[np.float32]:
        """Scale (B, F) values, missing as NaN -> (B, varying columns + indicators)."""
        is_missing = np.isnan(values_BF)
        if is_missing.any():
            values_BF = np.where(is_missing, self._fill, values_BF)
        scaled = self._scaled(values_BF if self._kept is None else values_BF[:, self._kept])
        if not len(self._flagged):
            return scaled
        return np.concatenate([scaled, is_missing[:, self._flagged].astype(np.float32)], axis=1)

    def _scaled(self, values: Floats) -> NDArray[np.float32]:
        limit = LIMIT[self._scaling]
        with np.errstate(over="ignore"):  # ±inf is cut off in the next line
            values = (values - self._center) / self._scale
        values = np.minimum(np.maximum(values, -limit), limit)
        if self._scaling == "robust":
            values = values / np.sqrt(1 + np.square(values / SMOOTH_CLIP))
        elif self._scaling == "quantile" and len(self._quantiles):
            columns = [to_normal(values[:, j], knots) for j, knots in enumerate(self._quantiles)]
            values = np.stack(columns, axis=1)
        return values.astype(np.float32)


def to_normal(values: Floats, knots: Floats) -> Floats:
    """Map values to their rank among the training values, and ranks to a standard normal.

    Args:
        values: (B,), no NaN.
        knots: (Q,) training values at ranks 0, 1/(Q-1), …, 1, ascending; repeats allowed.
    Returns:
        (B,) in ±NORMAL_LIMIT. Repeated knots get the middle of their ranks: the interpolation is
        done from both sides and averaged, as in scikit-learn, which however sends every value
        equal to the smallest or largest knot to the limit, be it a quarter of all rows.
    """
    ranks = np.linspace(0, 1, len(knots))
    from_below = np.interp(values, knots, ranks)
    from_above = -np.interp(-values, -knots[::-1], -ranks[::-1])
    rank = torch.from_numpy((from_below + from_above) / 2)
    normal: Floats = torch.special.ndtri(rank).clamp_(-NORMAL_LIMIT, NORMAL_LIMIT).numpy()
    return normal


def days(dates: Dates) -> Floats:
    """Days since 1970-01-01 with their fraction; NaT becomes NaN."""
    return np.asarray((dates - np.datetime64(0, "ms")) / np.timedelta64(1, "D"))


CYCLES = ("year", "week", "day")
"""Periods a date is placed in: day of the year, day of the week, time of the day."""


def phase(dates: Dates, cycle: str) -> Floats:
    """Where in its year, week (from Monday) or day each date falls, in [0, 1); NaN for NaT."""
    if cycle == "year":
        years = dates.astype("datetime64[Y]")
        start, end = years.astype("datetime64[ms]"), (years + 1).astype("datetime64[ms]")
        return np.asarray((dates - start) / (end - start))
    # 1970-01-01 was a Thursday, three days after Monday.
    return (days(dates) + 3) / 7 % 1 if cycle == "week" else days(dates) % 1


@dataclass(frozen=True, kw_only=True)
class DateColumn:
    """State of a date column."""

    name: str
    days: NumberColumn
    """The date as a number, treated as every number."""
    order: DateOrder
    """How dates are written, where not as ISO 8601: ymd, dmy or mdy."""
    cycles: tuple[str, ...]
    """Those of `CYCLES` in which the training dates differ; each adds a sine and a cosine."""

    @classmethod
    def fit(
        cls, name: str, dates: Dates, settings: TabularPreprocessing, *, order: DateOrder = "ymd"
    ) -> Self:
        """Learn from (n,) training dates, missing as NaT."""
        observed = dates[~np.isnat(dates)]
        return cls(
            name=name,
            days=NumberColumn.fit(name, days(dates), settings),
            order=order,
            cycles=tuple(c for c in CYCLES if len(np.unique(phase(observed, c))) > 1),
        )

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `dataclasses.asdict` gave."""
        return cls(
            name=state["name"],
            days=NumberColumn.from_json(state["days"]),
            order=state["order"],
            cycles=tuple(state["cycles"]),
        )

    def encode(self, dates: Dates) -> NDArray[np.float32]:
        """(B,) -> (B, 2 · cycles): sine and cosine of each; a missing date is the centre (0, 0)."""
        angles = [2 * np.pi * phase(dates, cycle) for cycle in self.cycles]
        waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
        columns = np.stack(waves, axis=1) if waves else np.zeros((len(dates), 0))
        return np.asarray(np.nan_to_num(columns, nan=0.0), dtype=np.float32)
