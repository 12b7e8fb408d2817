"""Randomness without state: every draw is a pure function of (seed, epoch, purpose, key, column).

No generator is advanced, so a sample gets the same numbers whatever batch it falls in, in whatever
order, on however many workers, and after a resume. The key is a row number or `key_of(sample id)`.

The numbers are the outputs of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014, figure 17): the n-th output of a stream with state s is
mix(s + n·gamma), which can be computed for any n directly. Here the stream of (seed, epoch,
purpose) hands each key a state, and that state's stream hands out the columns.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAMMA = np.uint64(0x9E3779B97F4A7C15)


def uniforms(
    keys: NDArray[np.integer[Any]], count: int, *, seed: int, epoch: int, purpose: str
) -> NDArray[np.float64]:
    """Draw `count` uniform numbers for each key.

    Args:
        keys: (B,) integers of any width, one per sample; equal keys get equal numbers.
        purpose: what the numbers are for ("augment", "dropout"); other purposes, other numbers.
    Returns:
        (B, count) float64 in [0, 1), multiples of 2^-53. Column j does not depend on `count`.
    """
    states = _outputs(_stream(seed, epoch, purpose), keys)  # (B,)
    with np.errstate(over="ignore"):
        bits = _mix(states[:, None] + np.arange(1, count + 1, dtype=np.uint64) * GAMMA)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(n: int, *, seed: int, epoch: int, purpose: str = "order") -> NDArray[np.int64]:
    """Shuffle 0..n-1; returns (n,) int64.

    Every number draws 64 bits and the draws are sorted. Draws of one stream never tie, because
    SplitMix64 is a bijection of its counter, so the order does not depend on the sort's method.
    """
    draws = _outputs(_stream(seed, epoch, purpose), np.arange(n, dtype=np.uint64))
    return np.argsort(draws).astype(np.int64, copy=False)


def key_of(sample_id: str) -> np.uint64:
    """Hash a sample's name to its key (BLAKE2b, 64 bits): the same on every machine and run."""
    return np.uint64(_hash(sample_id))


def _stream(seed: int, epoch: int, purpose: str) -> np.uint64:
    return np.uint64(_hash(f"{seed}/{epoch}/{purpose}"))


def _hash(text: str) -> int:
    # File names that are not UTF-8 reach Python as surrogate escapes; they have a hash too.
    content = text.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _outputs(state: np.uint64, positions: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Outputs of the SplitMix64 stream `state` at `positions` (counted from zero)."""
    with np.errstate(over="ignore"):
        first = state + GAMMA
        return _mix(first + positions.astype(np.uint64) * GAMMA)


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64: a bijection in which every input bit flips half."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
