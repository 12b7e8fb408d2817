"""Turn log-mel features back into sound, so that toy speech can be heard, and recognised from WAV.

    python -m paraformer_asr export-toy --config configs/tiny.yaml --count 3 --out data/toy
    python scripts/speak_toy.py data/toy/*.npy --out data/spoken

A voice without a pitch of its own: every 10 ms one click, coloured by the frame's spectrum. What
`features.fbank` hears of the sound differs from the frame at first; the colours are corrected by
the difference a few times (in the log domain), until both agree.

Letters: T0 frames, M mel bands, F bins of the spectrum, N samples.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer_asr.audio import write_wav
from paraformer_asr.errors import AsrError
from paraformer_asr.features import fbank, frame_sizes
from paraformer_asr.infer import make_folder
from paraformer_asr.inputs import read_array
from paraformer_asr.mel import mel_filters

ROUNDS, STEP = 12, 0.7
"""How often, and by how much of the difference, the colours are corrected."""
UNHEARD = -30.0
"""Log power of the bins that no filter listens to."""


def speak(frames: Tensor, sample_rate: int = 16000) -> Tensor:
    """Samples whose features are about `frames`.

    Args:
        frames: (T0, M) float log-mel values.
    Returns:
        (N,) float32 in [-1, 1]; `fbank` of it has T0 rows.
    """
    num_mels = frames.shape[1]
    window, _ = frame_sizes(sample_rate)
    filters_FM = mel_filters(num_mels, sample_rate, 2 ** (window - 1).bit_length())
    heard_F1 = filters_FM.sum(dim=1, keepdim=True)
    spread_MF = (filters_FM / heard_F1.clamp_min(1e-6)).T
    silent_F = torch.where(heard_F1[:, 0] > 0, 0.0, UNHEARD)  # bins that no filter listens to
    colours_TM = frames - 2 * math.log(32768)
    for _ in range(ROUNDS):
        samples = clicks(colours_TM @ spread_MF + silent_F, sample_rate)
        colours_TM = colours_TM + STEP * (frames - fbank(samples, sample_rate, num_mels=num_mels))
    return samples


def clicks(log_power_TF: Tensor, sample_rate: int) -> Tensor:
    """One click in the middle of each frame with this spectrum, all added up."""
    window, hop = frame_sizes(sample_rate)
    amplitude = (F.pad(log_power_TF, (0, 1), value=UNHEARD) / 2).exp()
    pulses = torch.fft.irfft(amplitude).roll(window // 2, dims=1)[:, :window]
    samples = pulses.new_zeros(window + hop * (len(pulses) - 1))
    for start, pulse in zip(range(0, len(samples), hop), pulses, strict=False):
        samples[start : start + window] += pulse
    return samples.clamp(-1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("features", nargs="+", type=Path, help=".npy files of frames (T0, M)")
    parser.add_argument("--out", type=Path, default=Path("spoken"), help="folder (spoken)")
    options = parser.parse_args()
    for path in options.features:
        frames = read_array(path)
        if frames.ndim != 2:
            shape = list(frames.shape)
            raise AsrError(f"{path}: the shape is {shape}; expected (frames, bands).")
        samples = speak(torch.from_numpy(frames.astype(np.float32)))
        make_folder(options.out)
        target = options.out / f"{path.stem}.wav"
        write_wav(target, samples.numpy(), 16000)
        print(target)


if __name__ == "__main__":
    try:
        main()
    except AsrError as error:
        raise SystemExit(f"error: {error}") from None
