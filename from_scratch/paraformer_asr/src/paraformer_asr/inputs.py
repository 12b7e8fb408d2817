"""What is given to a trained model: files, folders and globs become log-mel frames, or a message.

In: names on a command line, WAV files, .npy files of features, arrays. Out: `Sound`, the frames
(T0, M) of one of them; whatever cannot be one is an AsrError that names the file, what it holds,
and what to do. Letters: T0 frames of 10 ms, M mel bands.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paraformer_asr.audio import load_audio
from paraformer_asr.errors import AsrError
from paraformer_asr.features import FRAME_SECONDS
from paraformer_asr.models import Paraformer

__all__ = ["FRAME_SECONDS", "Sound", "find_inputs", "output_names", "read_sound"]

SUFFIXES = (".wav", ".npy")
MOST_ATTENTION_BYTES = 8_000_000_000
"""A recording whose attention weights would need more is refused rather than left to be killed."""


@dataclass(frozen=True)
class Sound:
    """One thing to recognise, read and checked."""

    frames: Tensor
    """(T0, M) float32 on the CPU, finite, long enough for the encoder."""
    seconds: float
    """Duration of the recording; of features, T0 times 10 ms."""
    notes: tuple[str, ...] = ()
    """What was done to it or looks wrong, such as a change of rate or clipping."""


def find_inputs(inputs: Iterable[str | Path]) -> tuple[list[Path], list[str]]:
    """Expand files, folders (with all below them) and globs, in order, each file once.

    Hidden files are left out of folders: copies from a Mac bring a `._x.wav` for each `x.wav`.

    Returns:
        The files, and a message for each input that gave none.
    """
    found: dict[str, Path] = {}  # by absolute path, in order of appearance
    errors = []
    for given in inputs:
        paths, problem = expand(Path(given))
        errors += problem
        for path in paths:
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 (keeps links apart)
    return list(found.values()), errors


def expand(given: Path) -> tuple[list[Path], list[str]]:
    """The files that one input stands for, or why there are none."""
    if given.is_file():
        return [given], []
    if given.is_dir():
        inside = sorted(p for p in given.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        visible = [p for p in inside if not p.name.startswith(".")]
        if not visible:
            return [], [f"{given}: the folder holds no {' or '.join(SUFFIXES)} file."]
        return visible, []
    if glob.has_magic(str(given)):
        matches = sorted(Path(match) for match in glob.glob(str(given), recursive=True))  # noqa: PTH207
        files = [match for match in matches if match.is_file()]
        if not files:
            return [], [f"{given}: no file matches this pattern."]
        return files, []
    return [], [f"{given}: there is no such file or folder."]


def output_names(paths: Sequence[Path]) -> list[Path]:
    """A relative name for the results of each file: no two files share one.

    It is the file's path below the folder that all of them have in common, with its suffix, so
    `a/x.wav`, `b/x.wav` and `b/x.npy` keep apart.
    """
    whole = [os.path.abspath(path) for path in paths]  # noqa: PTH100 (keeps links apart)
    common = os.path.commonpath([os.path.dirname(path) for path in whole])  # noqa: PTH120
    return [Path(os.path.relpath(path, common)) for path in whole]


def read_sound(model: Paraformer, path: Path) -> Sound:
    """Read a WAV file, or frames (T0, M) from a .npy file, as the model wants them.

    Raises:
        AsrError: naming the file, for anything that is not such a file or too short or long.
    """
    if path.suffix.lower() == ".npy":
        frames = frames_from(read_array(path), model.frontend.config.num_mels, where=str(path))
        sound = Sound(frames, len(frames) * FRAME_SECONDS)
    elif path.suffix.lower() == ".wav":
        sound = sound_from_wav(model, path)
    else:
        raise AsrError(
            f"{path}: expected a .wav file, or a .npy file of features; convert recordings with: "
            f"ffmpeg -i {path.name} {path.stem}.wav"
        )
    check_length(model, len(sound.frames), where=str(path))
    return sound


def sound_from_wav(model: Paraformer, path: Path) -> Sound:
    """Read and analyse one WAV file."""
    waveform, notes = load_audio(path, model.frontend.config)
    frames = model.frontend.frames(waveform)
    return Sound(frames, len(waveform) / model.frontend.config.sample_rate, notes)


def read_array(path: Path) -> NDArray[Any]:
    """Load a .npy file that holds plain numbers; AsrError otherwise."""
    if not path.is_file():
        raise AsrError(f"{path}: there is no such file.")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise AsrError(f"{path}: not a readable .npy file of numbers ({error}).") from None
    if not isinstance(array, np.ndarray):  # a .npz archive by another name
        raise AsrError(f"{path}: holds several arrays; save one with numpy.save(path, frames).")
    return array


def frames_from(array: NDArray[Any], num_mels: int, *, where: str) -> Tensor:
    """Check an array of log-mel frames and make it a tensor.

    Args:
        array: (T0, num_mels) of a float type, finite, T0 >= 1.
        where: begins each message.
    """
    shape = list(array.shape)
    if array.ndim != 2:
        raise AsrError(f"{where}: the shape is {shape}; expected (frames, {num_mels}).")
    if not len(array):
        raise AsrError(f"{where}: there are no frames; the shape is {shape}.")
    if shape[1] != num_mels:
        hint = f"give frames of {num_mels} log-mel values each, before stacking"
        if shape[0] == num_mels:
            hint = "it seems transposed: give array.T"
        raise AsrError(f"{where}: the shape is {shape}; expected (frames, {num_mels}): {hint}.")
    if not np.issubdtype(array.dtype, np.floating):
        raise AsrError(
            f"{where}: the values are {array.dtype}; expected log-mel values as float32."
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, caught below
        values = array.astype(np.float32)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise AsrError(
            f"{where}: {len(bad)} values are NaN or infinite, the first in frame {bad[0][0]}, "
            f"band {bad[0][1]}; look at what made them."
        )
    return torch.from_numpy(values)


def check_length(model: Paraformer, num_frames: int, *, where: str) -> None:
    """Raise AsrError if the encoder makes no frame of `num_frames`, or more than memory holds."""
    stacked = -(-num_frames // model.frontend.config.stride)
    encoded = encoded_length(model, stacked)
    if encoded < 1:
        least = next(n for n in range(stacked + 1, 100) if encoded_length(model, n) >= 1)
        needed = (least - 1) * model.frontend.config.stride + 1
        raise AsrError(
            f"{where}: {num_frames} frames of 10 ms are too short for this encoder, which needs "
            f"{needed}; give a longer recording."
        )
    config = model.config.model
    needed = 3 * 4 * config.heads * encoded * encoded  # scores, weights and a copy in float32
    if config.stream is None and needed > MOST_ATTENTION_BYTES:
        most = int((MOST_ATTENTION_BYTES / (12 * config.heads)) ** 0.5)
        seconds = num_frames * FRAME_SECONDS
        raise AsrError(
            f"{where}: {seconds:.0f} s are {encoded} encoder frames, whose attention needs about "
            f"{needed / 1e9:.0f} GB; cut the recording into pieces below "
            f"{seconds * most / encoded:.0f} s, or train with model.stream."
        )


def encoded_length(model: Paraformer, num_feats: int) -> int:
    """Encoder frames made of `num_feats` stacked frames."""
    lengths = cast("Callable[[Tensor], Tensor]", model.encoder.output_lengths)
    return int(lengths(torch.tensor([num_feats]))[0])
