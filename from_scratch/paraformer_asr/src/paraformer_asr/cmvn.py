"""Global mean and variance of features (CMVN): summed over training data, or read from a file.

In: stacked frames of utterances, or FunASR's `am.mvn`. Out: per feature a mean and a standard
deviation, or the shift (-mean) and scale (1 / standard deviation) that are applied.

Letters: T stacked frames, D features of each.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from paraformer_asr.contracts import expect, expect_finite
from paraformer_asr.errors import AsrError

LEAST_SHARE = 0.01
"""A feature's standard deviation counts as at least this part of the typical one: a feature that
hardly moved in training must not be blown up when it moves later."""
LEAST_STD = 1e-5


class CmvnSums:
    """Sums of D features and of their squares, in float64, over as many frames as are given."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.total = torch.zeros(dim, dtype=torch.float64)
        self.squares = torch.zeros(dim, dtype=torch.float64)

    def accumulate(self, feats: Tensor) -> None:
        """Add the frames of an utterance, (T, D) float, without padding."""
        expect(("feats", feats, f"T {len(self.total)}"))
        expect_finite("feats", feats)
        wide = feats.detach().cpu().double()
        self.count += len(wide)
        self.total += wide.sum(dim=0)
        self.squares += wide.square().sum(dim=0)

    def mean(self) -> Tensor:
        """(D,) float64."""
        if not self.count:
            raise AsrError("there is no frame to take mean and variance of; is the data empty?")
        return self.total / self.count

    def std(self) -> Tensor:
        """(D,) float64, of the population; bounded below, see `LEAST_SHARE` and `LEAST_STD`."""
        variance = (self.squares / self.count - self.mean().square()).clamp(min=0)
        typical = float(variance.mean().sqrt())
        return variance.sqrt().clamp(min=max(LEAST_SHARE * typical, LEAST_STD))


def read_kaldi_cmvn(path: Path | str) -> tuple[Tensor, Tensor]:
    """Read the mean and variance beside a FunASR model, `am.mvn`: a kaldi network in text form.

        <AddShift> 560 560
        <LearnRateCoef> 0 [ -8.3 -8.6 ... ]
        <Rescale> 560 560
        <LearnRateCoef> 0 [ 0.15 0.15 ... ]

    Returns:
        shift and scale, (D,) float32 each: features become (x + shift) * scale.
    Raises:
        AsrError: no such file, a part missing or cut off, sizes that differ, values that are no
            finite numbers, scales that are not above 0.
    """
    path = Path(path)
    try:
        words = path.read_bytes().decode("utf-8").split()
    except FileNotFoundError:
        raise AsrError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise AsrError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise AsrError(f"{path}: is no text; expected a kaldi network in text form.") from None
    shift, scale = (_vector(path, words, tag) for tag in ("<AddShift>", "<Rescale>"))
    if len(shift) != len(scale):
        raise AsrError(
            f"{path}: <AddShift> has {len(shift)} values and <Rescale> {len(scale)}; expected the "
            "same number. Get the file again from where the model came from."
        )
    if min(scale) <= 0:
        where = scale.index(min(scale))
        raise AsrError(f"{path}: <Rescale> value {where} is {scale[where]:g}; expected above 0.")
    return torch.tensor(shift), torch.tensor(scale)


def _vector(path: Path, words: list[str], tag: str) -> list[float]:
    """The numbers in the brackets after `tag`, as many as its header says."""
    if tag not in words:
        raise AsrError(
            f"{path}: has no {tag}; expected a kaldi network with <AddShift> and <Rescale>, such "
            "as the am.mvn beside a FunASR model."
        )
    after = words[words.index(tag) + 1 :]
    if "[" not in after or "]" not in after or not after[0].isdigit():
        raise AsrError(f"{path}: {tag} is cut off; get the file again.")
    listed = after[after.index("[") + 1 : after.index("]")]
    if len(listed) != int(after[0]) or not listed:
        raise AsrError(
            f"{path}: {tag} announces {after[0]} values and lists {len(listed)}; get the file "
            "again from where the model came from."
        )
    return [_number(path, tag, i, word) for i, word in enumerate(listed)]


def _number(path: Path, tag: str, position: int, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise AsrError(f"{path}: {tag} value {position} is {word!r}; expected a finite number.")
    return value
