"""Recordings as waveforms, read once (`Recordings`), and waveforms as frames (`Speech`).

Shared by utterances that are one recording each (`manifest.py`) and joined ones (`join.py`).

Letters: N samples, T0 frames of 10 ms, M mel channels (features.num_mels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from paraformer_asr.audio import load_audio
from paraformer_asr.augment import augment_waveform, draw_response, draw_warp
from paraformer_asr.config import Config, FeatureConfig
from paraformer_asr.data.purposes import Purpose
from paraformer_asr.features import fbank, frame_sizes, num_frames
from paraformer_asr.seed import stream

STORE_BYTES = 4 * 2**30
"""Memory for waveforms and frames: 18 hours at 16 kHz. What no longer fits is read each time."""


class Store:
    """Keeps float32 tensors by name until they fill `limit` bytes; nothing is thrown out."""

    def __init__(self, limit: int = STORE_BYTES) -> None:
        self.limit = limit
        self.used = 0
        self._kept: dict[str, Tensor] = {}

    def get(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of that name; made if it is not there, and kept if there is room."""
        if name in self._kept:
            return self._kept[name]
        tensor = make()
        size = tensor.element_size() * tensor.numel()
        if self.used + size <= self.limit:
            self._kept[name] = tensor
            self.used += size
        return tensor


class Recordings:
    """Waveforms at features.sample_rate by their paths; each file is read when first asked for."""

    def __init__(self, features: FeatureConfig, store: Store | None = None) -> None:
        self.features = features
        self.store = store or Store()
        self._sizes: dict[Path, int] = {}
        self._notes: dict[Path, tuple[str, ...]] = {}

    def waveform(self, path: Path) -> Tensor:
        """(N,) float32 in [-1, 1]. Kept: do not change it in place.

        Raises:
            AsrError: `audio.load_audio` cannot read the file, or its rate is too low.
        """

        def read() -> Tensor:
            samples, notes = load_audio(path, self.features)
            self._sizes[path], self._notes[path] = len(samples), tuple(notes)
            return samples

        return self.store.get(f"waveform {path}", read)

    def num_samples(self, path: Path) -> int:
        """N; reads the file only if it was not read before."""
        if path not in self._sizes:
            self.waveform(path)
        return self._sizes[path]

    def notes(self, path: Path) -> tuple[str, ...]:
        """What is odd about the file (stereo, clipped), as `load_audio` found it."""
        if path not in self._notes:
            self.waveform(path)
        return self._notes[path]


class Speech:
    """Makes frames of waveforms; in training changes them at random first.

    Changes are named by (config.seed, epoch, index), so they do not depend on the order of loading.
    """

    def __init__(self, config: Config, *, train: bool) -> None:
        augment = config.data.augment
        self.config = config
        self.train = train
        changed = (
            tuple(augment.speeds) != (1.0,)
            or augment.gain_db > 0
            or augment.noise_db is not None
            or augment.warp > 0
            or augment.response_db > 0
            or config.features.dither > 0
        )
        self.varies = train and changed
        """Whether the frames of one waveform differ between epochs; if not, they can be kept."""
        self._speeds: dict[tuple[int, int], list[float]] = {}

    def speeds(self, epoch: int, num: int) -> list[float]:
        """The speed of each of `num` utterances; drawn for all at once, as lengths need them."""
        if not self.varies:
            return [1.0] * num
        if (epoch, num) not in self._speeds:
            choices = self.config.data.augment.speeds
            drawn = stream(self.config.seed, epoch, 0, Purpose.SPEED).integers(
                len(choices), size=num
            )
            self._speeds = {(epoch, num): [choices[i] for i in drawn]}
        return self._speeds[epoch, num]

    def num_frames(self, samples: Sequence[int], *, epoch: int) -> list[int]:
        """T0 of waveforms of so many samples, listed by index."""
        rate = self.config.features.sample_rate
        pairs = zip(samples, self.speeds(epoch, len(samples)), strict=True)
        return [num_frames(samples_at_speed(size, speed, rate), rate) for size, speed in pairs]

    def frames(self, waveform: Tensor, *, epoch: int, index: int, num: int) -> Tensor:
        """(N,) -> (T0, M) log-mel values of utterance `index` of `num`."""
        features = self.config.features
        if not self.varies:
            return fbank(waveform, features.sample_rate, num_mels=features.num_mels)
        rng = stream(self.config.seed, epoch, index, Purpose.WAVEFORM)
        augment = replace(self.config.data.augment, speeds=(self.speeds(epoch, num)[index],))
        changed = augment_waveform(waveform, features.sample_rate, augment, rng)
        frames = fbank(
            changed,
            features.sample_rate,
            num_mels=features.num_mels,
            dither=features.dither,
            warp=draw_warp(augment, rng),
            generator=torch.Generator().manual_seed(int(rng.integers(2**63))),
        )
        return frames + draw_response(features.num_mels, augment, rng)


def samples_at_speed(samples: int, speed: float, rate: int) -> int:
    """Length that `augment.augment_waveform` makes of so many samples."""
    if samples / speed < frame_sizes(rate)[0]:
        return samples
    ratio = Fraction(speed).limit_denominator(100)
    return -(-samples * ratio.denominator // ratio.numerator)
