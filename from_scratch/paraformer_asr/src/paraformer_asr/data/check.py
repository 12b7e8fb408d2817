"""Everything that can be wrong with the data is found before training starts, and listed at once.

In: a configuration. Out: a `Report` of errors (training would fail or be wrong) and warnings (it
would work, but look at it), each beginning with FILE:LINE of the manifest.

Letters: N samples, T frames as the encoder puts them out, K tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from paraformer_asr.config import Config, ManifestConfig, ToyConfig
from paraformer_asr.data.manifest import SPLITS, Line, listed, scan_manifest
from paraformer_asr.data.recordings import Recordings, samples_at_speed
from paraformer_asr.errors import AsrError
from paraformer_asr.features import num_frames

SHOWN_ALIKE = 3
"""Recordings with word for word the same note (stereo, resampled) that are listed one by one."""


@dataclass(frozen=True)
class Share:
    """How much there is of a split."""

    split: str
    recordings: int
    seconds: float
    speakers: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `check` found; str() is the text for people."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    shares: tuple[Share, ...] = ()
    """Of each split, counting what could be read; empty for toy data."""

    def __str__(self) -> str:
        parts = [
            f"{share.split}: {share.recordings} recordings, {share.seconds / 60:.1f} minutes, "
            f"{share.speakers} speakers"
            for share in self.shares
        ]
        for kind, found in (("errors", self.errors), ("warnings", self.warnings)):
            parts.append(f"{kind}: {listed(found) if found else 'none'}")
        return "\n".join(parts)

    def raise_errors(self) -> None:
        """Raise AsrError that lists all errors, if there are any."""
        if self.errors:
            raise AsrError(listed(self.errors))


def check(config: Config, recordings: Recordings | None = None) -> Report:
    """Look at every line and open every recording.

    Args:
        recordings: keeps what is read for the datasets that are made next.
    Raises:
        AsrError: the manifest itself cannot be read, so that there are no lines to look at.
    """
    if config.data.kind == "toy":
        return check_toy(config, config.data.toy)
    assert config.data.manifest is not None  # DataConfig refuses kind=manifest without it
    return check_manifest(config, config.data.manifest, recordings or Recordings(config.features))


def check_manifest(config: Config, manifest: ManifestConfig, recordings: Recordings) -> Report:
    """`check` for recordings."""
    scan = scan_manifest(manifest)
    errors, warnings = list(scan.problems), list(scan.notes)
    known = known_characters(config, scan.lines)
    if config.data.characters and manifest.join and not known.issuperset(manifest.join.separator):
        errors.append(
            f"data.manifest.join.separator={manifest.join.separator!r} is not in data.characters; "
            "add it there."
        )
    read: list[tuple[Line, float]] = []
    notes: dict[str, list[str]] = {}
    first: dict[bytes, Line] = {}
    for line in scan.lines:
        place = f"{manifest.path}:{line.line_number}:"
        try:
            waveform = recordings.waveform(line.path)
        except AsrError as error:
            errors.append(f"{place} {error}")
            continue
        read.append((line, len(waveform) / config.features.sample_rate))
        for note in recordings.notes(line.path):
            notes.setdefault(note, []).append(f"{place} {line.name}: {note}.")
        strange = unknown_characters(config, manifest, line, known)
        wrong = check_sizes(config, line, len(waveform))
        odd = check_twins(line, waveform, first) + check_long(config, line, len(waveform))
        (wrong if config.data.characters else odd).extend(strange)
        errors += [f"{place} {line.name} {text}" for text in wrong]
        warnings += [f"{place} {line.name}: {text}" for text in odd]
    for same in notes.values():
        warnings += (
            same if len(same) <= SHOWN_ALIKE else [f"{same[0]} So are {len(same) - 1} more."]
        )
    shares = tuple(share_of(split, read) for split in SPLITS)
    return Report(errors=tuple(errors), warnings=tuple(warnings), shares=shares)


def share_of(split: str, read: Sequence[tuple[Line, float]]) -> Share:
    here = [(line, seconds) for line, seconds in read if line.split == split]
    speakers = {line.speaker for line, _ in here} - {""}
    return Share(split, len(here), sum(seconds for _, seconds in here), len(speakers))


def known_characters(config: Config, lines: Sequence[Line]) -> set[str]:
    """data.characters, or those of the training texts."""
    if config.data.characters:
        return set(config.data.characters)
    return set().union(*(line.text for line in lines if line.split == "train"))


def unknown_characters(
    config: Config, manifest: ManifestConfig, line: Line, known: set[str]
) -> list[str]:
    """An error with data.characters; without, what valid and test have more than train."""
    missing = [character for character in dict.fromkeys(line.text) if character not in known]
    if not missing:
        return []
    listing = " ".join(map(repr, missing))
    if not config.data.characters:
        return [f"has {listing} in its text, which no training text has; it becomes <unk>."]
    lowered = manifest.lowercase and any(character.upper() in known for character in missing)
    fix = "set data.manifest.lowercase=false" if lowered else "add them there or change the text"
    return [f"has {listing} in its text, not in data.characters; {fix}."]


def check_sizes(config: Config, line: Line, num_samples: int) -> list[str]:
    """What is too short for its text, in training also when played at the highest speed."""
    rate = config.features.sample_rate
    fastest = max(config.data.augment.speeds) if line.split == "train" else 1.0
    size = samples_at_speed(num_samples, fastest, rate)
    hurried = f" at speed {fastest:g}" if fastest > 1 else ""
    length = f"{size} samples ({1000 * size / rate:.0f} ms){hurried}"
    frames = encoder_frames(num_frames(size, rate), config)
    tokens = len(line.text) + config.model.end_token
    if tokens <= frames:
        return []
    end = ", the end token included," if config.model.end_token else ""
    coarse = config.features.stride > 1 or config.model.subsampling == "conv2d"
    fix = "; or lower features.stride or subsampling" if coarse else ""
    return [
        f"has {tokens} tokens{end} but only {frames} encoder frames in {length}; is the text that "
        f"of this recording? Mend it or delete the line{fix}."
    ]


def encoder_frames(frames: int, config: Config) -> int:
    """T that the encoder makes of so many 10 ms frames; 0 if there are too few."""
    stacked = -(-frames // config.features.stride)
    if config.model.subsampling == "none":
        return stacked
    return max(0, ((stacked - 1) // 2 - 1) // 2)  # two convolutions, width 3, step 2, no padding


def check_twins(line: Line, waveform: Tensor, first: dict[bytes, Line]) -> list[str]:
    """Recordings that stand in two splits under different names; `first` is added to."""
    content = hashlib.sha256(waveform.numpy().tobytes()).digest()
    twin = first.setdefault(content, line)
    if twin.split == line.split or twin.name == line.name:
        return []
    return [
        f"holds the same samples as {twin.name} in line {twin.line_number}, which is in "
        f"{twin.split} while this is in {line.split}; what is tested should not be trained on."
    ]


def check_long(config: Config, line: Line, num_samples: int) -> list[str]:
    """What is longer than a batch, or too fast for CTC."""
    frames = num_frames(num_samples, config.features.sample_rate)
    stacked = -(-frames // config.features.stride)
    odd = []
    if stacked > config.data.batch_frames:
        odd.append(
            f"has {stacked} frames, more than data.batch_frames={config.data.batch_frames}; it is "
            "a batch of its own and needs memory for them all."
        )
    # CTC must put a blank between two equal tokens
    needed = len(line.text) + sum(a == b for a, b in pairwise(line.text))
    here = encoder_frames(frames, config)
    if config.loss.ctc > 0 and line.split == "train" and len(line.text) <= here < needed:
        odd.append(f"has {here} encoder frames, and CTC needs {needed} for its text; CTC skips it.")
    return odd


def check_toy(config: Config, toy: ToyConfig) -> Report:
    """`check` for made-up speech, which can only contradict other settings."""
    errors, warnings = [], []
    missing = [
        c for c in toy.alphabet if config.data.characters and c not in config.data.characters
    ]
    if missing:
        errors.append(
            f"data.characters lacks {' '.join(map(repr, missing))} of data.toy.alphabet; add them, "
            "or leave data.characters out."
        )
    mean = sum(toy.duration) / 2
    for tokens in toy.tokens:
        needed = tokens + config.model.end_token
        usual = encoder_frames(int(tokens * mean + sum(toy.silence)), config)
        least = encoder_frames(tokens * toy.duration[0] + 2 * toy.silence[0], config)
        text = f"of {tokens} tokens, as data.toy.tokens allows, can have {{}} encoder frames only; "
        text += "raise data.toy.duration or lower features.stride or subsampling."
        if usual < needed:
            errors.append(f"Usual utterances {text.format(usual)}")
        elif least < needed:
            warnings.append(f"The shortest utterances {text.format(least)}")
    return Report(errors=tuple(errors), warnings=tuple(warnings))
