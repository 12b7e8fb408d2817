"""One split of a table as networks and trees read it; only training rows are fitted to."""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, QuantileTransformer
from torch import Tensor

from data.dataset import Table


class Part(NamedTuple):
    """Some rows of a table."""

    x: Tensor  # (rows, features) float32, for networks: normal numbers, a column per category
    raw: np.ndarray  # (rows, columns), for trees: numbers, codes of categories (NaN: unknown)
    y: Tensor  # (rows,) int64


class Split(NamedTuple):
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
    count = max(min(len(numbers) // 30, 1000), 10)
    to_normal = QuantileTransformer(n_quantiles=count, output_distribution="normal", subsample=None)
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

    return Split(*(part(rows) for rows in splits), int(table.y.max()) + 1, numbers.shape[1])
