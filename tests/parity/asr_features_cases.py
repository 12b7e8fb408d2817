"""The signals and sizes that both sides of the speech features parity tests use.

Made from the formula of `vision_numbers.uniform` and sines: the same on every machine to the last
bit of float32 or so. Imports NumPy and torch alone, because it also runs beside the references.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from vision_numbers import uniform

SECONDS = 0.15
FBANKS = [
    (signal, rate, num_mels)
    for signal in ("noise", "sine", "uneven")
    for rate, num_mels in ((16000, 80), (8000, 80), (11025, 40))
]
FILTERS = [(16000, 80, 1.0), (16000, 40, 0.9), (16000, 40, 1.15), (8000, 40, 0.85), (8000, 40, 1.1)]
"""Sample rate, mel channels, and the factor that frequencies are multiplied by."""
LFR = ((7, 6), (5, 4), (5, 5), (3, 2), (3, 1))
LFR_LENGTHS = range(1, 31)
STACK, STRIDE, NUM_MELS = 7, 6, 80


def signals(rate: int, seed: int) -> dict[str, Tensor]:
    """Waveforms (N,) float32 in [-1, 1] of SECONDS at `rate`."""
    size = int(SECONDS * rate)
    noise = 0.1 * uniform("noise", (size,), seed=seed)
    times = np.arange(size) / rate
    sine = torch.from_numpy(0.5 * np.sin(2 * np.pi * (440 + 30 * seed) * times + 0.3)).float()
    uneven = 0.02 + 10 ** (-torch.arange(size) * 2.5 / size) * (sine + noise)  # fades; an offset
    uneven[size // 2 : size // 2 + size // 4] = 0  # a frame and more of digital silence
    return {"noise": noise, "sine": sine, "uneven": uneven}


def cmvn_text(seed: int) -> str:
    """An am.mvn as FunASR's models come with, for STACK * NUM_MELS features."""
    dim = STACK * NUM_MELS
    shift = -12 + 3 * uniform("shift", (dim,), seed=seed)
    scale = 0.2 + 0.1 * uniform("scale", (dim,), seed=seed)
    parts = [f"<Nnet>\n<Splice> {dim} {dim}\n[ 0 ]"]
    for tag, values in (("<AddShift>", shift), ("<Rescale>", scale)):
        listed = " ".join(f"{v:.6f}" for v in values.tolist())
        parts.append(f"{tag} {dim} {dim}\n<LearnRateCoef> 0 [ {listed} ]")
    return "\n".join([*parts, "</Nnet>\n"])
