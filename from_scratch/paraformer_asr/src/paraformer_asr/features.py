"""From a waveform to what the encoder sees.

In: samples in [-1, 1]. Out: log-mel frames, one per 10 ms (`fbank`, compatible with kaldi's), then
frames stacked side by side at a lower rate (`stack_frames`), then shifted and scaled to mean 0 and
variance 1 (`Frontend`, which does all three and is a part of the model, so that a checkpoint knows
its own features). FunASR's features are these with 7 frames stacked at every 6th and Hamming
windows; its dither (random noise, also at inference) is 0 here unless asked for.

Letters: N samples, T0 frames of 10 ms, M mel channels, T stacked frames, m frames in a stack,
n frames from one stack to the next; W samples in a window.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

import torch
from torch import Tensor, nn

from paraformer_asr.cmvn import CmvnSums
from paraformer_asr.config import FeatureConfig
from paraformer_asr.contracts import expect
from paraformer_asr.errors import AsrError
from paraformer_asr.mel import mel_filters

__all__ = ["Frontend", "fbank", "frame_sizes", "mel_filters", "num_frames", "stack_frames"]

FRAME_SECONDS = 0.01
WINDOW_SECONDS = 0.025
PREEMPHASIS = 0.97
FULL_SCALE = 32768.0
"""kaldi computes with 16-bit values; so do all weights trained on its features."""
FLOOR = torch.finfo(torch.float32).eps
"""The least energy, before the logarithm; digital silence becomes ln(1.19e-7) = -15.94."""
LOUDEST = 32.0
"""Beyond 30 dB over full scale, values are not in [-1, 1] but in units of an integer format."""
BLOCK = 512
"""Frames transformed at once, 5 seconds: they fit a cache, and a lecture costs little memory."""


def fbank(
    waveform: Tensor,
    sample_rate: int,
    *,
    num_mels: int = 80,
    dither: float = 0.0,
    warp: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Log energies of mel bands, as kaldi computes them with a Hamming window.

    The order matters: samples * 32768; windows of 25 ms every 10 ms, none of them reaching beyond
    the recording; in each window: dither, subtract the mean, pre-emphasis (the first sample is its
    own predecessor), Hamming; zero-pad to a power of two, power spectrum, triangles in mel,
    logarithm of at least 1.19e-7.

    Args:
        waveform: (N,) float in [-1, 1], mono, at least one window long.
        sample_rate: in Hz.
        num_mels: M.
        dither: standard deviation of noise added to each window, in units of 16-bit steps.
        warp: multiplies the frequencies of the filters, 0.5 to 2 (`mel.warp_hz`).
        generator: for the dither; by default torch's global one.
    Returns:
        (T0, M) float32 on the waveform's device, T0 = 1 + (N - window) // hop.
    Raises:
        AsrError: not mono, not float, NaN or infinite, far out of [-1, 1], shorter than a window.
    """
    _check_waveform(waveform, sample_rate)
    window, hop = frame_sizes(sample_rate)
    fft_size = 1 << (window - 1).bit_length()
    hamming = _hamming(window).to(waveform.device)
    filters_FM = mel_filters(num_mels, sample_rate, fft_size, warp).to(waveform.device)
    windows_TW = (waveform.float() * FULL_SCALE).unfold(0, window, hop)
    blocks = []
    for first in range(0, len(windows_TW), BLOCK):
        frames_TW = windows_TW[first : first + BLOCK]
        if dither > 0:
            noise = torch.randn(frames_TW.shape, generator=generator).to(frames_TW)
            frames_TW = frames_TW + dither * noise
        frames_TW = frames_TW - frames_TW.mean(dim=1, keepdim=True)
        before_TW = torch.cat([frames_TW[:, :1], frames_TW[:, :-1]], dim=1)
        padded = frames_TW.new_zeros(len(frames_TW), fft_size)  # rfft's own padding is slow
        padded[:, :window] = torch.sub(frames_TW, before_TW, alpha=PREEMPHASIS) * hamming
        spectrum_TF = torch.fft.rfft(padded)[:, :-1]  # the last bin has no weight in any filter
        power_TF = spectrum_TF.real.square() + spectrum_TF.imag.square()
        blocks.append((power_TF @ filters_FM).clamp(min=FLOOR).log())
    return torch.cat(blocks)


def frame_sizes(sample_rate: int) -> tuple[int, int]:
    """Samples of a window (25 ms) and from one to the next (10 ms), rounded down."""
    return sample_rate * 25 // 1000, sample_rate * 10 // 1000


def num_frames(num_samples: int, sample_rate: int) -> int:
    """Frames that `fbank` makes of so many samples; 0 if they are fewer than a window."""
    window, hop = frame_sizes(sample_rate)
    return 1 + (num_samples - window) // hop if num_samples >= window else 0


def stack_frames(feats: Tensor, m: int, n: int) -> Tensor:
    """Put m frames side by side at every n-th: a low frame rate without losing what lies between.

    Row i holds frames n * i - (m - 1) // 2 + k for k = 0..m-1; the first and the last frame stand
    for what lies beyond them.

    Args:
        feats: (T0, M).
    Returns:
        (ceil(T0 / n), m * M).
    """
    size = expect(("feats", feats, "T M"))
    if not 1 <= n <= m:
        raise AsrError(f"stacks of m={m} frames at every n={n}: expected 1 <= n <= m.")
    if m == 1 or size["T"] == 0:
        return feats.reshape(size["T"], m * size["M"])
    starts = torch.arange(0, size["T"], n, device=feats.device) - (m - 1) // 2
    rows = starts[:, None] + torch.arange(m, device=feats.device)  # (T, m)
    return feats[rows.clamp(0, size["T"] - 1)].flatten(1)


class Frontend(nn.Module):
    """Features with the mean and variance they were trained with.

    The buffers `shift` (-mean) and `scale` (1 / standard deviation), both (stack * num_mels,)
    float32, are saved with the model. New ones are 0 and 1, until `fit` or `set_cmvn`.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, config: FeatureConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.stack * config.num_mels
        self.frame_seconds = FRAME_SECONDS * config.stride
        self.register_buffer("shift", torch.zeros(self.dim))
        self.register_buffer("scale", torch.ones(self.dim))

    def frames(
        self,
        waveform: Tensor,
        *,
        dither: bool = False,
        warp: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """(N,) samples in [-1, 1] at the configured rate -> (T0, M); `dither` in training only."""
        return fbank(
            waveform,
            self.config.sample_rate,
            num_mels=self.config.num_mels,
            dither=self.config.dither if dither else 0.0,
            warp=warp,
            generator=generator,
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Stack and normalise the frames of one utterance.

        Args:
            frames: (T0, M) float, not padded.
        Returns:
            (T, dim) float32 on the device of `frames`, T = ceil(T0 / stride).
        """
        expect(("frames", frames, f"T {self.config.num_mels}"))
        feats = stack_frames(frames.float(), self.config.stack, self.config.stride)
        return (feats + self.shift.to(feats.device)) * self.scale.to(feats.device)

    def fit(self, frames: Iterable[Tensor]) -> None:
        """Set shift and scale from training utterances, each (T0, M).

        Reads at most `config.cmvn_utterances` of them. Sums are float64.
        """
        sums = CmvnSums(self.dim)
        for each in islice(frames, self.config.cmvn_utterances):
            sums.accumulate(stack_frames(each.float(), self.config.stack, self.config.stride))
        self.set_cmvn(-sums.mean(), 1 / sums.std())

    def set_cmvn(self, shift: Tensor, scale: Tensor) -> None:
        """Take over shift and scale, (dim,) each, for example from `cmvn.read_kaldi_cmvn`."""
        for name, given in (("shift", shift), ("scale", scale)):
            if given.shape != (self.dim,):
                raise AsrError(
                    f"{name} is {list(given.shape)}; expected [{self.dim}] for features.stack="
                    f"{self.config.stack} times features.num_mels={self.config.num_mels}."
                )
        self.shift.copy_(shift)
        self.scale.copy_(scale)


@lru_cache(maxsize=8)
def _hamming(window: int) -> Tensor:
    return torch.hamming_window(window, periodic=False, dtype=torch.float64).float()


def _check_waveform(waveform: Tensor, sample_rate: int) -> None:
    if waveform.ndim != 1:
        raise AsrError(
            f"the waveform is {list(waveform.shape)}; expected one axis, (N,): take one channel or "
            "their mean, such as waveform.mean(dim=0) of (channels, N)."
        )
    if not waveform.is_floating_point():
        raise AsrError(
            f"the waveform is {waveform.dtype}; expected float in [-1, 1]: divide by 32768 if the "
            "samples are 16-bit integers."
        )
    window, hop = frame_sizes(sample_rate)
    if hop < 1:
        raise AsrError(f"sample_rate={sample_rate} is too low: expected at least 100 Hz.")
    if len(waveform) < window:
        raise AsrError(
            f"the waveform has {len(waveform)} samples, fewer than one window of {window} (25 ms "
            f"at {sample_rate} Hz); leave the recording out or join it to another."
        )
    peak = float(waveform.abs().max())
    if not peak < float("inf"):
        count = int((~waveform.isfinite()).sum())
        raise AsrError(
            f"{count} of {len(waveform)} samples of the waveform are NaN or infinite; look at the "
            "recording or at what was done to it."
        )
    if peak > LOUDEST:
        raise AsrError(
            f"the waveform reaches {peak:g}; expected [-1, 1]: divide by 32768 if the samples are "
            "in 16-bit units."
        )
