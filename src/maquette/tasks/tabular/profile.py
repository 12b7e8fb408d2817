"""The distribution of a split, as JSON: what monitoring compares live inputs with."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.tasks.base import Json
from maquette.tasks.tabular.encoders import Floats, days
from maquette.tasks.tabular.samples import TableSamples

NUM_BINS = 10
"""Bins for the population stability index, of about equal counts in this split."""

NUM_QUANTILES = 100
"""Steps of the quantile function kept for Kolmogorov-Smirnov tests."""

MAX_CATEGORIES = 1000
"""Most frequent values listed; the rest is counted together."""


def table_profile(samples: TableSamples) -> Json:
    """Describe every input column and the target; dates as days since 1970-01-01."""
    numbers = samples.numbers | {name: days(dates) for name, dates in samples.dates.items()}
    is_number = samples.target.dtype.kind == "f"
    return {
        "num_rows": len(samples),
        "numbers": {name: _number_profile(values) for name, values in numbers.items()},
        "dates": list(samples.dates),
        "categories": {
            name: _category_profile(values) for name, values in samples.categories.items()
        },
        "target": _number_profile(samples.target)
        if is_number
        else _category_profile(samples.target),
    }


def _number_profile(values: Floats) -> Json:
    """Count, moments, quantiles and bins of a column; missing values are counted apart.

    `edges` are the inner edges: values of the column, ascending, distinct. Bin i holds
    edges[i-1] < x <= edges[i]; the first and last are open. `counts` has one more entry.
    """
    observed = values[~np.isnan(values)]
    profile: Json = {"count": len(observed), "missing": len(values) - len(observed)}
    if not len(observed):
        return profile
    inner = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
    edges = np.unique(np.quantile(observed, inner, method="inverted_cdf"))
    counts = np.bincount(np.searchsorted(edges, observed), minlength=len(edges) + 1)
    quantiles = np.quantile(observed, np.linspace(0, 1, NUM_QUANTILES + 1))
    return profile | {
        "mean": float(observed.mean()),
        "std": float(observed.std()),
        "quantiles": quantiles.tolist(),
        "edges": edges.tolist(),
        "counts": counts.tolist(),
    }


def _category_profile(values: NDArray[Any]) -> Json:
    """Count of each value, most frequent first; `other` holds those beyond `MAX_CATEGORIES`."""
    counts = Counter(value for value in values.tolist() if value is not None)
    total = sum(counts.values())
    listed = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_CATEGORIES])
    return {
        "count": total,
        "missing": len(values) - total,
        "values": listed,
        "other": total - sum(listed.values()),
    }
