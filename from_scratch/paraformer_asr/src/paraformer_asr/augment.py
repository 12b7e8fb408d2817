"""Random changes of training utterances, so that few recordings stand for many voices and rooms.

In: a waveform or stacked features, the settings and a generator (`seed.stream(seed, epoch, index)`,
so that a change depends on the utterance and the epoch alone). Out: the changed copy; the input is
left as it is.

Letters: N samples, T stacked frames, m frames in a stack, M mel channels.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from paraformer_asr.config import AugmentConfig
from paraformer_asr.errors import AsrError
from paraformer_asr.features import frame_sizes
from paraformer_asr.resample import resample

LONGEST_TIME_MASK = 0.25
"""A time mask takes at most this part of an utterance (p in SpecAugment), lest it hide a word of a
short one."""


def augment_waveform(
    samples: Tensor, sample_rate: int, config: AugmentConfig, rng: np.random.Generator
) -> Tensor:
    """Speed, then loudness, then noise, each as configured.

    Args:
        samples: (N,) float in [-1, 1].
        sample_rate: in Hz; a speed that would leave less than one window is not applied.
    Returns:
        (N',) float in [-1, 1].
    """
    speed = config.speeds[rng.integers(len(config.speeds))]
    window, _ = frame_sizes(sample_rate)
    if len(samples) >= speed * window:
        samples = change_speed(samples, speed)
    if config.gain_db > 0:
        samples = gain(samples, rng.uniform(-config.gain_db, config.gain_db))
    if config.noise_db is not None:
        samples = add_noise(samples, rng.uniform(*config.noise_db), rng)
    return samples


def change_speed(samples: Tensor, speed: float) -> Tensor:
    """Play faster (speed > 1) or slower: resampled, so that pitch and formants move too.

    Ko et al., "Audio augmentation for speech recognition", 2015.

    Args:
        samples: (N,) float in [-1, 1].
        speed: above 0; taken as the nearest ratio of whole numbers up to 100.
    Returns:
        (ceil(N / speed),) in [-1, 1].
    """
    if not speed > 0:
        raise AsrError(f"speed={speed:g} must be above 0, such as 0.9 or 1.1.")
    ratio = Fraction(speed).limit_denominator(100)
    return _within_full_scale(resample(samples, ratio.numerator, ratio.denominator))


def gain(samples: Tensor, decibels: float) -> Tensor:
    """Make louder or quieter; no louder than full scale, since clipping would change the sound."""
    return _within_full_scale(samples * 10 ** (decibels / 20))


def add_noise(samples: Tensor, snr_db: float, rng: np.random.Generator) -> Tensor:
    """Add white noise, `snr_db` below the mean power of `samples`; silence stays silent.

    Where the sum exceeds full scale, signal and noise are scaled down together.
    """
    noise = torch.from_numpy(rng.standard_normal(len(samples), dtype=np.float32)).to(samples)
    level = samples.square().mean().sqrt() if len(samples) else 0.0
    return _within_full_scale(samples + noise * level * 10 ** (-snr_db / 20))


def draw_warp(config: AugmentConfig, rng: np.random.Generator) -> float:
    """A factor for `features.fbank` in [1 - x, 1 + x], x = config.warp.

    In steps of 0.01, so that the filterbanks of all factors fit a cache. Jaitly and Hinton, "Vocal
    tract length perturbation improves speech recognition", 2013.
    """
    steps = round(config.warp * 100)
    return 1 + int(rng.integers(-steps, steps + 1)) / 100


def draw_response(num_mels: int, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """A random frequency response to be added to log-mel frames, (M,) float32.

    Four cosines over the mel axis, from a constant to one and a half periods, with random weights;
    the largest of their sum is drawn evenly from 0 to `config.response_db`.
    """
    position_M = (np.arange(num_mels) + 0.5) / num_mels
    cosines = np.cos(np.pi * np.arange(4)[:, None] * position_M)
    curve_M = rng.uniform(-1, 1, 4) @ cosines
    decibels = rng.uniform(0, config.response_db) * curve_M / max(np.abs(curve_M).max(), 1e-6)
    return torch.from_numpy((decibels * np.log(10) / 10).astype(np.float32))


def spec_augment(
    feats: Tensor, num_mels: int, config: AugmentConfig, rng: np.random.Generator
) -> Tensor:
    """Hide bands of mel channels and stretches of time (Park et al., "SpecAugment", 2019).

    Args:
        feats: (T, m * num_mels) float after CMVN, so that 0 is the mean.
        num_mels: M; a band is hidden in all m frames of every stack.
    Returns:
        A tensor like `feats`, with 0 where hidden. Widths and places are drawn evenly; a width may
        be 0, and a time mask takes a quarter of the utterance at most.
    """
    if feats.ndim != 2 or feats.shape[1] % num_mels:
        raise AsrError(f"feats are {list(feats.shape)}; expected (T, m * {num_mels} mel channels).")
    hidden = feats.clone()
    stacks_TmM = hidden.view(len(feats), feats.shape[1] // num_mels, num_mels)
    for _ in range(config.freq_masks):
        begin, end = _draw_span(num_mels, min(config.freq_width, num_mels), rng)
        stacks_TmM[:, :, begin:end] = 0
    for _ in range(config.time_masks):
        longest = min(config.time_width, int(LONGEST_TIME_MASK * len(feats)))
        begin, end = _draw_span(len(feats), longest, rng)
        stacks_TmM[begin:end] = 0
    return hidden


def _draw_span(size: int, longest: int, rng: np.random.Generator) -> tuple[int, int]:
    """Begin and end of a stretch of 0 to `longest` positions out of `size`."""
    length = int(rng.integers(0, longest + 1))
    begin = int(rng.integers(0, size - length + 1))
    return begin, begin + length


def _within_full_scale(samples: Tensor) -> Tensor:
    """Scale down to a peak of 1 where it is above."""
    peak = float(samples.abs().max()) if len(samples) else 0.0
    return samples / peak if peak > 1 else samples
