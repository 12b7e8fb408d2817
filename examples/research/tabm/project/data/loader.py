"""Batches of a part, in a new order each time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from data.preprocess import Part


def batches(part: Part, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x, y) of at most `size` rows until every row has come once."""
    for rows in torch.randperm(len(part.y), generator=generator).split(size):
        yield part.x[rows], part.y[rows]
