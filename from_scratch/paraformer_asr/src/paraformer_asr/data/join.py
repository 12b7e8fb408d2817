"""Short recordings of one speaker become longer utterances, joined with pauses.

In: the lines of a manifest. Out: utterances whose text is the pieces' texts in a row. Training
joins anew in each epoch; valid and test are the same in every run on the manifest: they depend on
`data.manifest.split_seed` and the join settings, and on nothing that training is tried with.

Pieces are dealt like cards: a speaker's recordings are shuffled and used up before any is used
again, and each utterance goes to the speaker who is most behind. So in an epoch all recordings of
a speaker are used equally often, give or take one.

Letters: N samples, T0 frames of 10 ms.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from paraformer_asr.config import Config, JoinConfig
from paraformer_asr.data.manifest import Line, lines_of
from paraformer_asr.data.purposes import Purpose
from paraformer_asr.data.recordings import Recordings, Speech
from paraformer_asr.data.utterance import Utterance
from paraformer_asr.errors import AsrError
from paraformer_asr.seed import stream

SPLIT_NUMBER = {"train": 0, "valid": 1, "test": 2}
BLOCK_SECONDS = 0.01
"""Stretches whose loudness is compared to find a recording's quietest part."""
QUIET_SHARE = 0.05
"""The quietest part is this share of the stretches."""
LEAST_NOISE = 0.5 / 32768
"""Half a 16-bit step: recordings are never quieter, and digital zero is a spectrum of its own."""


@dataclass(frozen=True)
class Joint:
    """The plan of one utterance: P pieces and the pauses around them."""

    pieces: tuple[int, ...]
    """P numbers of lines."""
    pauses: tuple[int, ...]
    """P + 1 lengths in samples: before the first piece, between pieces, after the last."""


class JoinedSpeech:
    """Utterances of one split, joined from recordings of one speaker each. Implements `Dataset`.

    Args:
        config: with data.manifest.join.
        lines: of `read_manifest`; those of other splits are passed over.
        recordings: shared with other splits, so that files are read once.
    Raises:
        AsrError: no lines in the split, or lines without a speaker.
    """

    def __init__(
        self,
        config: Config,
        lines: Sequence[Line],
        *,
        split: str,
        recordings: Recordings | None = None,
    ) -> None:
        manifest = config.data.manifest
        if manifest is None or manifest.join is None:
            raise AsrError("joining recordings needs data.manifest.join, such as {count: [1, 6]}.")
        self.split = split
        self.config = config
        self.join = manifest.join
        self.lines = lines_of(lines, split)
        for line in self.lines:
            if not line.speaker:
                raise AsrError(
                    f"{manifest.path}:{line.line_number}: {line.name} has no speaker, and only "
                    "recordings of one speaker are joined. Fill a column speaker; one word for all "
                    "lines if there is one speaker."
                )
        self.recordings = recordings or Recordings(config.features)
        self.speech = Speech(config, train=split == "train")
        self.seed = config.seed if split == "train" else manifest.split_seed
        self.names = [f"{split}-{index:05d}" for index in range(len(self))]
        self._plans: dict[int, list[Joint]] = {}

    def __len__(self) -> int:
        sizes = {"train": self.join.num_train, "valid": self.join.num_valid}
        return sizes.get(self.split, self.join.num_test)

    def load(self, index: int, *, epoch: int = 0) -> Utterance:
        """See `Dataset.load`. Frames of valid and test are kept in memory."""
        if not 0 <= index < len(self):
            raise IndexError(f"utterance {index} of {len(self)}")
        text = self.join.separator.join(
            self.lines[piece].text for piece in self.plan(epoch)[index].pieces
        )

        def make() -> Tensor:
            waveform = self.waveform(index, epoch=epoch)
            return self.speech.frames(waveform, epoch=epoch, index=index, num=len(self))

        fixed = self.split != "train"
        name = f"frames {self.names[index]}"
        frames = self.recordings.store.get(name, make) if fixed else make()
        return Utterance(self.names[index], text, frames)

    def waveform(self, index: int, *, epoch: int = 0) -> Tensor:
        """(N,) float32: the joined recordings before any change that training makes.

        A pause is white noise as loud as the quietest part of the quieter one of its neighbours.
        """
        joint = self.plan(epoch)[index]
        pieces = [self.recordings.waveform(self.lines[piece].path) for piece in joint.pieces]
        levels = [quiet_level(piece, self.config.features.sample_rate) for piece in pieces]
        rng = stream(self.seed, self._turn(epoch), index, Purpose.PAUSE)
        beside = zip([levels[0], *levels], [*levels, levels[-1]], strict=True)
        pauses = [
            torch.from_numpy((min(pair) * rng.standard_normal(size)).astype(np.float32))
            for size, pair in zip(joint.pauses, beside, strict=True)
        ]
        parts = [pauses[0]]
        for piece, pause in zip(pieces, pauses[1:], strict=True):
            parts += [piece, pause]
        return torch.cat(parts)

    def plan(self, epoch: int) -> list[Joint]:
        """What is joined in an epoch, by index; the one asked for last is kept."""
        turn = self._turn(epoch)
        if turn not in self._plans:
            rng = stream(self.seed, turn, 0, Purpose.JOIN)
            speakers = [line.speaker for line in self.lines]
            rate = self.config.features.sample_rate
            self._plans = {turn: deal(speakers, len(self), self.join, rate, rng)}
        return self._plans[turn]

    def lengths(self, epoch: int) -> list[int]:
        """T0 of each utterance, exact."""
        samples = [
            sum(self.recordings.num_samples(self.lines[piece].path) for piece in joint.pieces)
            + sum(joint.pauses)
            for joint in self.plan(epoch)
        ]
        return self.speech.num_frames(samples, epoch=epoch)

    def texts(self) -> Iterator[str]:
        """Texts of the recordings, and the separator if texts are joined by one."""
        yield from (line.text for line in self.lines)
        if self.join.count[1] > 1:
            yield self.join.separator

    def _turn(self, epoch: int) -> int:
        """What stands for the epoch in streams: splits differ, and only train moves on."""
        return 3 * (epoch if self.split == "train" else 0) + SPLIT_NUMBER[self.split]


def deal(
    speakers: Sequence[str], num: int, join: JoinConfig, rate: int, rng: np.random.Generator
) -> list[Joint]:
    """Plan `num` utterances.

    Args:
        speakers: of each recording, by its number.
        rate: samples per second, for the pauses.
    Returns:
        Plans in which the numbers of uses of two recordings of a speaker differ by at most one, and
        the mean uses of two speakers by at most join.count[1] / (recordings of the smaller one).
    """
    members: dict[str, list[int]] = defaultdict(list)
    for number, speaker in enumerate(speakers):
        members[speaker].append(number)
    decks: dict[str, list[int]] = defaultdict(list)
    queue = [(0.0, speaker) for speaker in sorted(members)]  # uses per recording; a heap
    counts = rng.integers(join.count[0], join.count[1] + 1, size=num)
    shortest, longest = (round(seconds * rate) for seconds in join.pause)
    plans = []
    for count in counts.tolist():
        used, speaker = heapq.heappop(queue)
        while len(decks[speaker]) < count:
            decks[speaker] += rng.permutation(members[speaker]).tolist()
        pieces, decks[speaker] = decks[speaker][:count], decks[speaker][count:]
        heapq.heappush(queue, (used + count / len(members[speaker]), speaker))
        pauses = rng.integers(shortest, longest + 1, size=count + 1)
        plans.append(Joint(tuple(pieces), tuple(pauses.tolist())))
    return plans


def quiet_level(waveform: Tensor, rate: int) -> float:
    """Root mean square of a recording's quietest stretches, at least LEAST_NOISE.

    Each stretch is measured around its own mean: an offset of the sound card is no noise.
    """
    block = max(1, round(BLOCK_SECONDS * rate))
    blocks = waveform[: len(waveform) // block * block].reshape(-1, block)
    if len(blocks) == 0:
        return LEAST_NOISE
    power = blocks.var(dim=1, correction=0).sort().values
    quietest = float(power[: max(1, int(QUIET_SHARE * len(power)))].mean())
    return max(math.sqrt(quietest), LEAST_NOISE)
