"""Cutting the scores of an attention into pieces that fit a given memory.

Letters: B batch, H heads, T queries, S keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
from torch import Tensor


class Tile(NamedTuple):
    """A piece of (B, H, T): half-open ranges as slices."""

    batch: slice
    heads: slice
    queries: slice

    @property
    def start(self) -> tuple[int, int, int]:
        """The place of its first row."""
        return self.batch.start, self.heads.start, self.queries.start


def tiles(batch: int, heads: int, queries: int, *, most: int) -> Iterator[Tile]:
    """Cut (B, H, T) into tiles of at most `most` rows of scores, at least one.

    Whole heads before parts of them, and whole samples before parts of those, so that every tile
    is one batched matrix product.
    """
    rows = max(1, min(queries, most))
    whole_heads = max(1, min(heads, most // max(rows, 1))) if rows == queries else 1
    samples = max(1, most // (rows * whole_heads)) if whole_heads == heads else 1
    for b in range(0, batch, samples):
        for h in range(0, heads, whole_heads):
            for t in range(0, queries, rows):
                yield Tile(
                    slice(b, min(b + samples, batch)),
                    slice(h, min(h + whole_heads, heads)),
                    slice(t, min(t + rows, queries)),
                )


def part_of_mask(mask: Tensor, tile: Tile, keys: slice = slice(None)) -> Tensor:
    """Return the part of a 4-d mask, broadcastable to (B, H, T, S), that a tile needs: a view."""
    wanted = (*tile, keys)
    return mask[
        tuple(
            part if size > 1 else slice(None) for part, size in zip(wanted, mask.shape, strict=True)
        )
    ]


def later_keys(queries: slice, keys: slice, device: torch.device) -> Tensor:
    """Return (t, s) bool, True where a key comes after its query, which a causal mask hides."""
    query = torch.arange(queries.start, queries.stop, device=device)
    key = torch.arange(keys.start, keys.stop, device=device)
    return key > query[:, None]


class Dropout(NamedTuple):
    """Dropout that gives each piece the same factors whenever it is asked."""

    probability: float
    seed: int

    @classmethod
    def drawn(cls, probability: float) -> Self:
        """Take the seed from torch's generator, so that a replayed random state replays it."""
        return cls(probability, int(torch.randint(2**62, ())) if probability else 0)

    def factors(self, weights: Tensor, *place: int) -> Tensor:
        """Return factors of 0 or 1 / (1 - probability) for the weights of the piece at a place."""
        # hash() of whole numbers is the same in every process.
        seed = hash((self.seed, *place)) % 2**62
        generator = torch.Generator(weights.device).manual_seed(seed)
        keep = 1 - self.probability
        return torch.empty_like(weights).bernoulli_(keep, generator=generator).div_(keep)
