"""Triangular filters on the mel scale: from a power spectrum to the energies of num_mels bands.

In: the number of filters, the sample rate and a warp factor. Out: a matrix that the power spectrum
is multiplied with. As kaldi computes them: mel(f) = 1127 ln(1 + f / 700), corners evenly spaced in
mel from 20 Hz to half the sample rate, sides straight in mel, no normalisation by area; a bin that
lies exactly on a corner gets 0.

Letters: F bins of the Fourier transform below half the sample rate, M filters.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from paraformer_asr.errors import AsrError

LOW_HZ = 20.0
"""The left corner of the first filter; the last one ends at half the sample rate."""


def hz_to_mel(hz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hz / 700.0)


def mel_to_hz(mel: Tensor) -> Tensor:
    return 700.0 * torch.expm1(mel / 1127.0)


@lru_cache(maxsize=64)
def mel_filters(num_mels: int, sample_rate: int, fft_size: int, warp: float = 1.0) -> Tensor:
    """Weights of each bin in each filter.

    Args:
        num_mels: M.
        sample_rate: in Hz.
        fft_size: samples of a zero-padded frame; F = fft_size // 2.
        warp: the corners' frequencies are multiplied by it, see `warp_hz`.
    Returns:
        (F, M) float32 in [0, 1], on the CPU, shared between calls: do not write to it. Columns
        overlap by halves; the bin at half the sample rate has weight 0 and is not in it.
    Raises:
        AsrError: so many filters that one contains no bin. Of warped filters, one that falls
            between two bins takes the bin nearest to its centre instead.
    """
    weights_FM = _triangles(num_mels, sample_rate, fft_size, warp)
    empty = (weights_FM == 0).all(dim=0)
    if empty.any():
        if warp == 1:
            raise AsrError(_too_many(num_mels, sample_rate, fft_size))
        centres = _corners(num_mels, sample_rate, warp)[1:-1]
        nearest = (_bins(sample_rate, fft_size) - centres).abs().argmin(dim=0)  # (M,)
        weights_FM[nearest[empty], empty] = 1
    return weights_FM.float()


def warp_hz(hz: Tensor, sample_rate: int, warp: float) -> Tensor:
    """Multiply frequencies by `warp`, bent near both ends so that the range stays what it is.

    A shorter vocal tract has its resonances at higher frequencies, in proportion; filters moved up
    by `warp` see a voice as if its tract were longer by `warp`. The line through 0 ends where a
    frequency or its image reaches 100 Hz below or half the sample rate less 500 Hz above (less a
    quarter below 4000 Hz sample rate); straight lines lead on to 20 Hz and to half the sample
    rate. This is kaldi's function of VTLN with the inverse factor.

    Args:
        hz: any shape, in [20, sample_rate / 2].
        warp: 0.5 to 2.
    """
    top = sample_rate / 2
    low = max(100.0, 100.0 / warp)
    high = max(top - 500.0, 0.75 * top) * min(1.0, 1.0 / warp)
    below = LOW_HZ + (warp * low - LOW_HZ) / (low - LOW_HZ) * (hz - LOW_HZ)
    above = top + (top - warp * high) / (top - high) * (hz - top)
    return torch.where(hz < low, below, torch.where(hz < high, warp * hz, above))


def _triangles(num_mels: int, sample_rate: int, fft_size: int, warp: float = 1.0) -> Tensor:
    """(F, M) float64: the height of each triangle at each bin."""
    corners = _corners(num_mels, sample_rate, warp)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    bins = _bins(sample_rate, fft_size)
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)


def _bins(sample_rate: int, fft_size: int) -> Tensor:
    """(F, 1) float64: where the bins lie, in mel."""
    hz = torch.arange(fft_size // 2, dtype=torch.float64) * (sample_rate / fft_size)
    return hz_to_mel(hz)[:, None]


def _corners(num_mels: int, sample_rate: int, warp: float) -> Tensor:
    """(M + 2,) corners in mel: filter i goes from corner i over i + 1 to i + 2."""
    if not 1 <= num_mels <= 1024:
        raise AsrError(f"num_mels={num_mels} must be from 1 to 1024; 80 is usual.")
    if not 0.5 <= warp <= 2:
        raise AsrError(
            f"warp={warp:g} must be from 0.5 to 2; 1 leaves the frequencies as they are."
        )
    ends = hz_to_mel(torch.tensor([LOW_HZ, sample_rate / 2], dtype=torch.float64))
    steps = torch.arange(num_mels + 2, dtype=torch.float64) / (num_mels + 1)
    even = ends[0] + steps * (ends[1] - ends[0])
    return even if warp == 1 else hz_to_mel(warp_hz(mel_to_hz(even), sample_rate, warp))


def _too_many(num_mels: int, sample_rate: int, fft_size: int) -> str:
    """What to say of filters without bins, with the largest number below that has none."""
    fewer = num_mels - 1
    while (_triangles(fewer, sample_rate, fft_size) == 0).all(dim=0).any():
        fewer -= 1
    return (
        f"num_mels={num_mels} is too fine for {fft_size} samples at {sample_rate} Hz: a filter "
        f"contains no bin of the spectrum; take features.num_mels={fewer}."
    )
