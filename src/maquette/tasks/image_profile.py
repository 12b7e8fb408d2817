"""What images look like, in numbers whose distribution monitoring compares with live inputs.

Letters: n images, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from maquette.data.images import Pixels
from maquette.tasks.base import Json

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""

NUM_BINS = 10
"""Bins for the population stability index, of about equal counts in this split."""

NUM_QUANTILES = 100
"""Steps of the quantile function kept for Kolmogorov-Smirnov tests."""


def image_numbers(pixels: Iterable[Pixels]) -> dict[str, NDArray[np.float64]]:
    """Describe each resized image by five numbers in [0, 1], (n,) each.

    brightness and contrast are the mean and deviation of its grey values; red, green and blue the
    mean of each channel.
    """
    rows = []
    for image in pixels:
        values = image.reshape(-1, 3) / 255
        grey = values @ np.array(LUMA)
        rows.append([grey.mean(), grey.std(), *values.mean(axis=0)])
    columns = np.array(rows).reshape(-1, 5).T
    return dict(zip(("brightness", "contrast", "red", "green", "blue"), columns, strict=True))


def number_profiles(numbers: Mapping[str, NDArray[np.float64]]) -> Json:
    """Moments, quantiles and bins of each number.

    `edges` are the inner edges, ascending and distinct; bin i holds edges[i-1] < x <= edges[i],
    the first and last are open. `counts` has one more entry than `edges`.
    """
    profiles = {}
    for name, values in numbers.items():
        edges = np.unique(np.quantile(values, np.linspace(0, 1, NUM_BINS + 1)[1:-1]))
        counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
        profiles[name] = {
            "count": len(values),
            "missing": 0,
            "mean": float(values.mean()),
            "std": float(values.std()),
            "quantiles": np.quantile(values, np.linspace(0, 1, NUM_QUANTILES + 1)).tolist(),
            "edges": edges.tolist(),
            "counts": counts.tolist(),
        }
    return profiles
