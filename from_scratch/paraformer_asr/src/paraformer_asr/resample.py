"""Change the sample rate by a rational factor with a windowed sinc.

In: samples at one rate. Out: the same sound at another. The sound between the samples is the sum of
sinc functions standing on them; cut off by a Kaiser window, and made wider when the rate goes down
so that what the new rate cannot hold is filtered out before it would fold back (Smith, "Digital
audio resampling", 1984):

    y(t) = sum_i x_i h(t - i),   h(t) = c sinc(c t) kaiser(c t / ZEROS)

with c = ROLLOFF min(1, up / down), t in source samples and output j at t = j * down / up. There are
only `up` different sets of weights (phases), so all outputs of a group of phases come from one
matrix product over windows of the input.

Letters: N input samples, P phases of a group, W samples of a window, R windows.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer_asr.errors import AsrError

ZEROS = 32
"""Zero crossings of the sinc on each side."""
ROLLOFF = 0.945
"""Where the filter is down to one half, as a part of the lower Nyquist frequency."""
KAISER_BETA = 7.0
"""About 70 dB below the signal in the stop band."""
GROUP = 64
"""Phases computed together; few enough that a group's windows are hardly longer than the filter."""

ROWS = 4096
"""Windows multiplied at once: the product copies them, and they overlap many times."""


def resample(samples: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """Give the sound another sample rate; silence is assumed before and after.

    Args:
        samples: (N,) float.
        source_rate, target_rate: whole numbers; only their ratio counts.
    Returns:
        (ceil(N * target_rate / source_rate),) in the dtype of `samples`, which is returned itself
        if the rates are equal. Frequencies up to 0.87 of the lower Nyquist frequency pass within
        0.1 %; those above 1.03 of it are 70 dB weaker.
    """
    _check(samples, source_rate, target_rate)
    if source_rate == target_rate or len(samples) == 0:
        return samples
    common = gcd(source_rate, target_rate)
    up, down = target_rate // common, source_rate // common
    length = -(-len(samples) * up // down)
    rounds = -(-length // up)  # windows per phase
    out = samples.new_empty(rounds, up)
    reach = _reach(up, down)
    last = (rounds - 1) * down + down + 2 * reach + 2  # the last sample that any window touches
    padded = F.pad(samples, (reach, max(0, last - len(samples))))
    for first, begin, weights_WP in _phases(up, down):
        size, count = weights_WP.shape
        windows_RW = padded[begin:].unfold(0, size, down)[:rounds]
        for row in range(0, rounds, ROWS):
            block = windows_RW[row : row + ROWS] @ weights_WP.to(samples)
            out[row : row + ROWS, first : first + count] = block
    return out.flatten()[:length]


def _reach(up: int, down: int) -> int:
    """Source samples on each side that an output depends on."""
    return int(ZEROS / _cutoff(up, down)) + 1


def _cutoff(up: int, down: int) -> float:
    return ROLLOFF * min(1.0, up / down)


@lru_cache(maxsize=16)
def _phases(up: int, down: int) -> list[tuple[int, int, Tensor]]:
    """For each group: its first phase, where its window begins, and its weights (W, P) float32.

    Window r of a group begins at r * down + begin, counted in the input after `_reach` zeros.
    """
    groups = []
    reach, cutoff = _reach(up, down), _cutoff(up, down)
    for first in range(0, up, GROUP):
        phases = torch.arange(first, min(first + GROUP, up))
        centres = phases.double() * down / up  # in source samples
        begin = first * down // up
        size = int(phases[-1]) * down // up - begin + 2 * reach + 1
        positions = torch.arange(size, dtype=torch.float64)[:, None] + (begin - reach)  # (W, 1)
        offsets = (centres - positions) * cutoff  # (W, P), in zero crossings
        inside = (1 - (offsets / ZEROS).square()).clamp(min=0).sqrt()
        kaiser = torch.where(offsets.abs() < ZEROS, torch.i0(KAISER_BETA * inside), 0.0)
        weights = torch.sinc(offsets) * kaiser
        # Each phase sums to 1: a constant stays constant, without ripple from phase to phase.
        groups.append((first, begin, (weights / weights.sum(dim=0)).float()))
    return groups


def _check(samples: Tensor, source_rate: int, target_rate: int) -> None:
    if samples.ndim != 1 or not samples.is_floating_point():
        raise AsrError(
            f"samples are {list(samples.shape)} of {samples.dtype}; expected (N,) float, mono."
        )
    if source_rate < 1 or target_rate < 1:
        raise AsrError(f"sample rates {source_rate} and {target_rate} must be whole and above 0.")
