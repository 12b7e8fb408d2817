"""Recordings: WAV files to mono waveforms at the rate the model hears.

In: a path. Out: float32 samples in [-1, 1], and notes on what may lower the quality (channels mixed
together, clipping, another rate), each a short sentence that can follow "warning: FILE: ". What
cannot be used is an AsrError that begins with the file's name.

Letters: N samples, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paraformer_asr.config import FeatureConfig
from paraformer_asr.errors import AsrError
from paraformer_asr.features import frame_sizes
from paraformer_asr.files import write_atomic
from paraformer_asr.resample import resample
from paraformer_asr.wav import FLOAT, Layout, format_wav, parse_wav

__all__ = ["Recording", "load_audio", "read_wav", "resample", "write_wav"]

CLIPPED_SHARE = 0.001
CLIPPED_RUN = 3
"""A loud sound may touch full scale with a sample or two; clipping holds it there for longer."""
LOUDEST_FLOAT = 32.0
"""Float samples beyond this are in units of an integer format, not merely too loud."""


@dataclass(frozen=True)
class Recording:
    """What is in a WAV file."""

    samples: NDArray[np.float32]
    """(N,) float32 in [-1, 1], all channels averaged; N >= 1."""
    sample_rate: int
    channels: int
    """Channels of the file."""
    notes: tuple[str, ...]
    """What is unusual but no reason to stop, in short sentences."""


def read_wav(path: Path | str) -> Recording:
    """Read a WAV file: PCM of 8 to 32 bits or float, any number of channels and any rate.

    Float samples beyond [-1, 1] are scaled down together, with a note.

    Raises:
        AsrError: no such file, no WAV file, a codec other than PCM and float, cut off, without
            samples, samples that are NaN or infinite or far out of [-1, 1].
    """
    path = Path(path)
    try:
        values, layout, notes = parse_wav(path.read_bytes())
    except FileNotFoundError:
        raise AsrError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise AsrError(f"{path}: cannot be read ({error.strerror}).") from None
    except AsrError as error:
        raise AsrError(f"{path}: {error}") from None
    _check_values(path, values, layout.sample_rate)
    notes += _clipping_notes(values, layout)
    if layout.channels > 1:
        notes += (f"its {layout.channels} channels were averaged to one",)
    mono = values.mean(axis=1)
    if (mono == mono[0]).all():
        notes += ("all its samples are equal: it is silent",)
    peak = np.abs(mono).max()
    if peak > 1:
        notes += (f"its samples reach {peak:.3g}; scaled down to 1",)
        mono = mono / peak
    return Recording(mono.astype(np.float32), layout.sample_rate, layout.channels, notes)


def write_wav(
    path: Path | str, samples: NDArray[Any] | Tensor, sample_rate: int, *, bits: int = 16
) -> None:
    """Write mono PCM.

    Args:
        path: replaced in one step if it exists; its folder must exist.
        samples: (N,) float in [-1, 1].
        sample_rate: in Hz.
        bits: 8, 16, 24 or 32.
    """
    path = Path(path)
    values = samples.detach().cpu().numpy() if isinstance(samples, Tensor) else samples
    if values.ndim != 1 or values.dtype.kind != "f":
        raise AsrError(f"{path}: samples are {values.shape} {values.dtype}; expected (N,) float.")
    peak = float(np.abs(values).max(initial=0))
    if not peak <= 1:  # NaN too
        raise AsrError(f"{path}: samples reach {peak:g}; scale them to [-1, 1] before writing.")
    try:
        write_atomic(path, format_wav(values, sample_rate, bits))
    except OSError as error:
        raise AsrError(f"{path}: cannot be written ({error.strerror}).") from None


def load_audio(path: Path | str, features: FeatureConfig) -> tuple[Tensor, tuple[str, ...]]:
    """Read a WAV file for the model.

    Returns:
        Samples (N,) float32 in [-1, 1] at features.sample_rate, at least one window; notes.
    Raises:
        AsrError: as `read_wav`; a rate below the model's, unless features.allow_upsampling; fewer
            samples than a window.
    """
    recording = read_wav(path)
    rate, wanted, notes = recording.sample_rate, features.sample_rate, recording.notes
    if rate < wanted and not features.allow_upsampling:
        raise AsrError(
            f"{path}: has {rate} samples per second and the model hears {wanted}; what lies above "
            f"{rate / 2:g} Hz is missing. Record at {wanted} Hz or more, train with "
            f"features.sample_rate={rate}, or accept it with features.allow_upsampling=true."
        )
    samples = torch.from_numpy(recording.samples)
    if rate != wanted:
        notes += (f"resampled from {rate} to {wanted} Hz",)
        samples = resample(samples, rate, wanted).clamp(-1, 1)  # a full-scale step overshoots
    window, _ = frame_sizes(wanted)
    if len(samples) < window:
        raise AsrError(
            f"{path}: has {len(samples)} samples at {wanted} Hz, fewer than one window of {window} "
            "(25 ms); leave it out or record it again."
        )
    return samples, notes


def _check_values(path: Path, values: NDArray[np.float64], sample_rate: int) -> None:
    broken = ~np.isfinite(values).all(axis=1)
    if broken.any():
        first = int(broken.argmax())
        raise AsrError(
            f"{path}: {int(broken.sum())} of {len(values)} samples are NaN or infinite, the first "
            f"at {first} ({first / sample_rate:.3f} s); export it again or cut them out."
        )
    peak = np.abs(values).max()
    if peak > LOUDEST_FLOAT:
        raise AsrError(
            f"{path}: its float samples reach {peak:g}; expected [-1, 1]: divide by 32768 if they "
            "are in 16-bit units."
        )


def _clipping_notes(values: NDArray[np.float64], layout: Layout) -> tuple[str, ...]:
    """A note if a channel is clipped; values (N, C) before channels are mixed."""
    # Files of 24 and more bits are often made from 16 bits: full scale is what 16 bits can reach.
    full = 1 - (2**-7 if layout.codec != FLOAT and layout.bits == 8 else 2**-15)
    if np.abs(values).max() < full:
        return ()
    share = max(_share_in_runs(channel, full) for channel in values.T)
    if share <= CLIPPED_SHARE:
        return ()
    return (f"{100 * share:.1f} % of its samples are clipped; record it at a lower level",)


def _share_in_runs(values: NDArray[np.float64], full: float) -> float:
    """Part of the samples that lie at full scale, CLIPPED_RUN or more in a row on one side."""
    side = np.where((values >= full) & (values <= 1), 1, 0)
    side -= np.where((values <= -full) & (values >= -1), 1, 0)
    edges = np.flatnonzero(np.diff(side)) + 1
    begins, ends = np.append(0, edges), np.append(edges, len(side))
    lengths = ends - begins
    counted = lengths[(side[begins] != 0) & (lengths >= CLIPPED_RUN)]
    return float(counted.sum()) / len(side)
