"""How a split is cut into batches: one rule for every task."""

from __future__ import annotations

from itertools import pairwise


def batch_slices(num_rows: int, batch_size: int) -> list[slice]:
    """Cut 0..num_rows into slices of `batch_size`; the last one may be shorter, or one longer.

    A last batch of a single row joins the batch before it: batch normalisation has no variance to
    divide by there, and one row would move the weights as far as a whole batch does. With
    `batch_size` 1 single rows are what was asked for.
    """
    stops = list(range(batch_size, num_rows, batch_size))
    if batch_size > 1 and stops and num_rows - stops[-1] == 1:
        stops.pop()
    edges = [0, *stops, num_rows] if num_rows else [0]
    return [slice(start, stop) for start, stop in pairwise(edges)]
