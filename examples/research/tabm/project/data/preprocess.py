"""From a table to one split of it, in the forms that networks and trees read.

Everything that is fitted here is fitted to the training rows alone.
"""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, QuantileTransformer
from torch import Tensor

from data.dataset import Table


@dataclass(frozen=True)
class Part:
    """Some rows of a table."""

    x: Tensor  # (rows, features) float32, for networks: normal numbers, a column per category
    raw: np.ndarray  # (rows, columns), for trees: numbers, codes of categories (NaN: unknown)
    y: Tensor  # (rows,) int64


@dataclass(frozen=True)
class Split:
    """The rows of one seed to train on, to choose on and to test on."""

    train: Part
    valid: Part
    test: Part
    classes: int
    numbers: int  # how many columns of `raw` are numbers; they come first


def split_rows(groups: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return the row numbers for training, validation and test: 60, 20, 20 % of the groups."""
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    cuts = [round(0.6 * len(order)), round(0.8 * len(order))]
    return [np.flatnonzero(np.isin(groups, chosen)) for chosen in np.split(order, cuts)]


def prepare(table: Table, seed: int) -> Split:
    """Split a table and encode it."""
    splits = split_rows(table.groups, seed)
    numbers, categories = table.numbers[splits[0]], table.categories[splits[0]]
    num_quantiles = max(min(len(numbers) // 30, 1000), 10)
    to_normal = QuantileTransformer(n_quantiles=num_quantiles, output_distribution="normal")
    # Without the noise, a value as frequent as a capital gain of 0 would land at the very edge.
    to_normal.fit(numbers + np.random.default_rng(seed).normal(scale=1e-5, size=numbers.shape))
    to_columns = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(categories)
    to_codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    to_codes.fit(categories)

    def part(rows: np.ndarray) -> Part:
        numbers, categories = table.numbers[rows], table.categories[rows]
        x = np.hstack([to_normal.transform(numbers), to_columns.transform(categories)])
        raw = np.hstack([numbers, to_codes.transform(categories)])
        return Part(torch.tensor(x, dtype=torch.float32), raw, torch.tensor(table.y[rows]))

    classes = int(table.y.max()) + 1
    return Split(*(part(rows) for rows in splits), classes=classes, numbers=numbers.shape[1])
