"""Made-up speech: random texts drawn as log-mel frames, with the difficulties of real speech.

Each character has a spectrum of its own, two or three bumps (as formants are) over a tilt. A text
becomes a row of segments: silence, tokens, sometimes a pause. Neighbours blend into each other,
each token begins with a dip in energy (as syllables do, so that a repeated token is heard twice),
a voice is drawn per utterance and noise is added. Utterance i of a split is the same in every
epoch and process; the spectra depend on the alphabet alone, so all seeds speak one language.

Start with `ToySpeech.load_with_alignment`. `decode_by_templates` shows that text and frames belong
together: knowing the spectra, it reads clean speech without a mistake.

Letters: K characters of the alphabet, T0 frames of 10 ms, M mel channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paraformer_asr.config import ToyConfig
from paraformer_asr.contracts import expect
from paraformer_asr.data.utterance import Utterance
from paraformer_asr.errors import AsrError
from paraformer_asr.seed import stream

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

SPLITS = ("train", "valid", "test")
LANGUAGE = 1901
"""Seed of the spectra; not the run's."""
PURPOSE = 1902
"""Keeps these draws apart from others of the same (seed, epoch, index)."""

LEVEL = 12.0
"""Mean of a token's log-mel values, as in real speech of medium loudness; spectra add -2 to 2."""
SILENCE = -3.5
"""Level of silence relative to that of tokens: the floor of the noise in a room."""
DIP = 2.0
"""How far the energy drops at the start of a token."""
PAUSE_CHANCE = 0.15
"""Probability of a pause between two tokens."""
RIPPLES = 12
"""Cosines along the mel axis that the smooth half of the noise is made of."""


@lru_cache(maxsize=16)
def templates(alphabet: str, num_mels: int) -> Floats:
    """Spectra of the characters, in natural-log units around 0, about -2 to 2.

    Returns:
        (K, M) float32, not to be written to. Each has mean 0 and standard deviation 1 over the
        channels. Other values of `num_mels` show the same language at another resolution.
    Raises:
        AsrError: `num_mels` is too small to tell the characters apart.
    """
    chosen: list[npt.NDArray[np.float64]] = []
    seen = np.empty((0, 40))
    for character in alphabet:
        candidates = _draw_formants(stream(LANGUAGE, ord(character)), 32)
        spectra = _spectrum(candidates, 40)
        distances = _distances(spectra, seen)  # (32, characters so far)
        best = int(distances.min(axis=1, initial=np.inf).argmax())
        chosen.append(candidates[best])
        seen = np.concatenate([seen, spectra[best : best + 1]])
    result = _spectrum(np.stack(chosen), num_mels).astype(np.float32)
    distances = _distances(result, result)
    np.fill_diagonal(distances, np.inf)
    if distances.min() < 0.05:
        raise AsrError(
            f"features.num_mels={num_mels} channels cannot tell {len(alphabet)} toy characters "
            "apart; raise features.num_mels or shorten data.toy.alphabet."
        )
    result.setflags(write=False)
    return result


def _draw_formants(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """(count, 4, 3): place on the mel axis from 0 to 1, height and width of three bumps; a tilt."""
    place = rng.uniform([0.05, 0.33, 0.65], [0.3, 0.62, 0.95], (count, 3))
    height = rng.uniform(1.5, 3.0, (count, 3))
    height[:, 2] *= rng.random(count) < 0.6  # the others have two bumps
    width = rng.uniform(0.04, 0.08, (count, 3))
    tilt = np.zeros((count, 1, 3))
    tilt[:, 0, 0] = rng.uniform(0.5, 2.5, count)
    return np.concatenate([np.stack([place, height, width], axis=2), tilt], axis=1)


def _spectrum(formants: npt.NDArray[np.float64], num_mels: int) -> npt.NDArray[np.float64]:
    """Draw (N, 4, 3) formants on `num_mels` channels: (N, M) with mean 0 and deviation 1."""
    axis = np.linspace(0, 1, num_mels)
    place, height, width = np.moveaxis(formants[:, :3, :, None], 2, 0)  # each (N, 3, 1)
    spectrum: npt.NDArray[np.float64] = (height * np.exp(-(((axis - place) / width) ** 2) / 2)).sum(
        axis=1
    )
    spectrum -= formants[:, 3, :1] * axis
    spectrum -= spectrum.mean(axis=1, keepdims=True)
    spectrum /= np.maximum(spectrum.std(axis=1, keepdims=True), 1e-6)
    return spectrum


@dataclass(frozen=True)
class Layout:
    """What is said when: segments in order, silence and tokens in turn, some silences empty."""

    ids: Ints
    """(2·tokens + 1,) index of the character, or K for silence."""
    durations: Ints
    """(2·tokens + 1,) frames of each segment."""

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First frame of each token and the one after its last."""
        ends = self.durations.cumsum()
        starts = ends - self.durations
        return list(zip(starts[1::2].tolist(), ends[1::2].tolist(), strict=True))


class ToySpeech:
    """A split of toy utterances; a `Dataset`. Frames are made anew each time, which is fast."""

    def __init__(self, config: ToyConfig, num_mels: int, *, split: str, seed: int) -> None:
        """Prepare the split; nothing is drawn yet.

        Raises:
            AsrError: an unknown split, or too few mel channels for the alphabet.
        """
        if split not in SPLITS:
            raise AsrError(f"split={split!r} is none of: {', '.join(SPLITS)}.")
        self.config = config
        self.split = split
        self.num_mels = num_mels
        self._path = (PURPOSE, seed, SPLITS.index(split))
        self._count = {
            "train": config.num_train,
            "valid": config.num_valid,
            "test": config.num_test,
        }[split]
        self._shapes = _shapes(config.alphabet, num_mels)
        waves = np.cos(np.pi * np.outer(np.arange(1, RIPPLES + 1), _channels(num_mels)))
        self._ripples = (waves / np.sqrt(RIPPLES / 2)).astype(np.float32)  # sum: deviation near 1

    def __len__(self) -> int:
        return self._count

    @cached_property
    def names(self) -> list[str]:
        return [f"toy-{self.split}-{i:05d}" for i in range(len(self))]

    def load(self, index: int, *, epoch: int = 0) -> Utterance:  # noqa: ARG002 - Dataset has it
        """Utterance `index`; the same in every epoch.

        Returns:
            Frames (T0, M) float32, silence near 8.5, tokens about 10 to 14.
        Raises:
            IndexError: an index outside of the split.
        """
        return self.load_with_alignment(index)[0]

    def load_with_alignment(self, index: int) -> tuple[Utterance, list[tuple[int, int]]]:
        """The utterance and, for each token, its first frame and the one after its last."""
        rng = self._stream(index)
        layout = draw_layout(self.config, rng)
        frames = self._frames(layout, rng)
        utterance = Utterance(self.names[index], self._text(layout), torch.from_numpy(frames))
        return utterance, layout.spans

    def lengths(self, epoch: int) -> list[int]:  # noqa: ARG002
        """T0 of all utterances, exact."""
        return [int(layout.durations.sum()) for layout in self._layouts]

    def texts(self) -> Sequence[str]:
        """What is said, by index."""
        return [self._text(layout) for layout in self._layouts]

    @cached_property
    def _layouts(self) -> list[Layout]:
        return [draw_layout(self.config, self._stream(i)) for i in range(len(self))]

    def _stream(self, index: int) -> np.random.Generator:
        if not 0 <= index < len(self):
            raise IndexError(f"utterance {index} of {len(self)} in the {self.split} split")
        return stream(*self._path, index)

    def _text(self, layout: Layout) -> str:
        return "".join(self.config.alphabet[i] for i in layout.ids[1::2])

    def _frames(self, layout: Layout, rng: np.random.Generator) -> Floats:
        """Draw the layout by one voice, in noise: (T0, M).

        The same draws are made whatever the strengths, so that a knob changes nothing but itself.
        """
        shapes = _voice(self._shapes, self.config.speakers, rng)
        frames = _blend(layout, len(shapes), self.config.coarticulation) @ shapes
        starts = layout.durations.cumsum()[0:-1:2]
        frames[(starts[:, None] + np.arange(onset(self.config))).ravel()] -= DIP
        # What is left of hum, wind and other voices is smooth along the mel axis; half the
        # variance is of this kind and half is independent for each value.
        grains = rng.standard_normal(frames.shape, dtype=np.float32)
        grains += rng.standard_normal((len(frames), RIPPLES), dtype=np.float32) @ self._ripples
        frames += np.float32(self.config.noise * np.sqrt(0.5)) * grains
        return frames


def onset(config: ToyConfig) -> int:
    """Frames of the dip at the start of a token."""
    return min(2, config.duration[0] // 2)


def draw_layout(config: ToyConfig, rng: np.random.Generator) -> Layout:
    """Draw the text, how long each token lasts and where there is silence."""
    low, high = config.silence
    count = int(rng.integers(config.tokens[0], config.tokens[1], endpoint=True))
    ids = np.full(2 * count + 1, len(config.alphabet))
    ids[1::2] = rng.integers(len(config.alphabet), size=count)
    durations = np.zeros(2 * count + 1, dtype=np.int64)
    durations[1::2] = rng.integers(*config.duration, size=count, endpoint=True)
    durations[[0, -1]] = rng.integers(low, high, size=2, endpoint=True)
    pauses = rng.integers(1, max(high // 2, 1), size=count - 1, endpoint=True)
    durations[2:-1:2] = pauses * (rng.random(count - 1) < PAUSE_CHANCE) * (high >= 2)
    return Layout(ids, durations)


def _channels(num_mels: int) -> npt.NDArray[np.float64]:
    """Middle of each channel on an axis from 0 to 1."""
    return (np.arange(num_mels) + 0.5) / num_mels


def _shapes(alphabet: str, num_mels: int) -> Floats:
    """(K + 1, M): the log-mel values of each character, and of silence in the last row."""
    silence = SILENCE - 0.5 * np.linspace(-1, 1, num_mels, dtype=np.float32)
    return np.concatenate([templates(alphabet, num_mels), silence[None]]) + np.float32(LEVEL)


def _voice(shapes: Floats, strength: float, rng: np.random.Generator) -> Floats:
    """How one speaker says all characters: louder, brighter, with a longer or shorter throat."""
    loudness, tilt, shift, stretch = strength * rng.uniform(-1, 1, 4)
    num_mels = shapes.shape[1]
    axis = np.linspace(0, 1, num_mels)
    source = np.clip(axis * (1 + 0.08 * stretch) + 0.06 * shift, 0, 1) * (num_mels - 1)
    left = np.minimum(source.astype(np.int64), max(num_mels - 2, 0))
    right = np.minimum(left + 1, num_mels - 1)
    part = (source - left).astype(np.float32)
    warped: Floats = shapes[:, left] * (1 - part) + shapes[:, right] * part
    warped += (1.5 * loudness + 1.5 * tilt * (2 * axis - 1)).astype(np.float32)
    return warped


def _blend(layout: Layout, num_shapes: int, width: int) -> Floats:
    """(T0, num_shapes) part of each shape in each frame; rows sum to 1.

    Averaging over width + 1 frames makes borders linear cross-fades of `width` frames, also where
    segments are shorter than that.
    """
    ids = np.repeat(layout.ids, layout.durations)
    parts = np.zeros((len(ids), num_shapes), dtype=np.float32)
    rows = np.arange(len(ids))
    for offset in range(width + 1):
        neighbours = np.clip(rows + offset - (width + 1) // 2, 0, len(ids) - 1)
        parts[rows, ids[neighbours]] += 1 / (width + 1)
    return parts


def decode_by_templates(frames: Tensor, config: ToyConfig) -> str:
    """Read toy speech by comparing it with the true spectra (of the average voice).

    Finds the row of tokens and silences with the least squared distance to the frames, by dynamic
    programming over segments: a token lasts as long as `config.duration` allows and starts with
    its dip; silence may last any number of frames.

    Args:
        frames: (T0, M) float32, as `ToySpeech` makes them with the same alphabet.
    Returns:
        The text; empty if nothing but silence fits.
    """
    expect(("frames", frames, "T M"))
    shapes = _shapes(config.alphabet, frames.shape[1])
    plain = _distances(frames.numpy(), shapes)
    silent = plain[:, -1].tolist()
    # Sums up to each frame make the cost of any stretch a difference of two rows.
    body = _sums_before(plain[:, :-1])
    start = _sums_before(_distances(frames.numpy(), shapes[:-1] - np.float32(DIP)))
    dip = onset(config)
    shortest, longest = config.duration

    best = [0.0]
    came_by: list[tuple[int, int]] = [(0, 0)]  # (frames, character) of the segment that ends here
    reached = np.full(len(frames) + 1, np.inf)
    reached[0] = 0.0
    for end in range(1, len(frames) + 1):
        cost, segment = best[-1] + silent[end - 1], (1, -1)
        begins = np.arange(max(end - longest, 0), end - shortest + 1)
        if len(begins):
            onsets = start[begins + dip] - start[begins]
            bodies = body[end] - body[begins + dip]
            costs = reached[begins, None] + onsets + bodies  # (begins, K)
            row, character = divmod(int(costs.argmin()), costs.shape[1])
            if costs[row, character] < cost:
                cost, segment = float(costs[row, character]), (end - int(begins[row]), character)
        best.append(cost)
        reached[end] = cost
        came_by.append(segment)

    text = ""
    end = len(frames)
    while end:
        duration, character = came_by[end]
        text = (config.alphabet[character] if character >= 0 else "") + text
        end -= duration
    return text


def _distances(frames: npt.NDArray[Any], shapes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(T0, N) mean squared difference of each row of (T0, M) and each row of (N, M)."""
    x, y = frames.astype(np.float64), shapes.astype(np.float64)
    squares = (x**2).mean(1)[:, None] + (y**2).mean(1)
    result: npt.NDArray[np.float64] = squares - 2 * x @ y.T / x.shape[1]
    return result


def _sums_before(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(T0 + 1, N): row t sums the first t rows of `values`."""
    result: npt.NDArray[np.float64] = np.pad(values.cumsum(axis=0), ((1, 0), (0, 0)))
    return result
