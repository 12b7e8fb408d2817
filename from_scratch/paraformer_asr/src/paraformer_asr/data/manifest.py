"""A CSV file of recordings and texts goes in; utterances of one split come out.

Reading goes over the whole file and collects what is wrong, so that one look mends all of it:

    read_manifest(config) -> [Line, ...]      ManifestSpeech(config, lines, split="train")

Letters: T0 frames of 10 ms, M mel channels (features.num_mels).
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from paraformer_asr.config import Config, ManifestConfig
from paraformer_asr.data.recordings import Recordings, Speech
from paraformer_asr.data.utterance import Utterance
from paraformer_asr.errors import AsrError
from paraformer_asr.settings import nearest

SPLITS = ("train", "valid", "test")
SHOWN = 20
"""Problems that a message shows; of the rest it gives the number."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One recording of a manifest."""

    name: str
    """The path as the manifest has it, without detours such as ./ ."""
    path: Path
    """Where the file is."""
    text: str
    speaker: str
    """Empty if the manifest does not say."""
    split: str
    """train, valid or test."""
    line_number: int
    """Of the manifest, counted from 1, the header included."""


@dataclass(frozen=True)
class Manifest:
    """All that reading one gave."""

    lines: list[Line]
    """The good lines with their splits."""
    problems: list[str]
    """What must be mended, each with FILE:LINE."""
    notes: list[str]
    """What is odd but can be used."""


def read_manifest(config: ManifestConfig) -> list[Line]:
    """The lines of a manifest, each in its split.

    Where no line says split=test, `test_fraction` of all lines are held out, then likewise
    `valid_fraction` of the remaining train lines for valid. Which ones depends on their paths and
    `split_seed` alone, not on the order of lines. `hold_out_speaker` makes all lines of the speaker
    the test split; lines of others that say split=test are then used for nothing.

    Raises:
        AsrError: the file cannot be read, or lines are wrong; lists all problems (`listed`).
    """
    manifest = scan_manifest(config)
    if manifest.problems:
        raise AsrError(listed(manifest.problems))
    return manifest.lines


def scan_manifest(config: ManifestConfig) -> Manifest:
    """Like `read_manifest`, but problems of lines are returned beside the lines that are good."""
    file = Path(config.path)
    rows = read_rows(file)
    read = [read_line(file, number, row, config.lowercase) for number, row in rows]
    lines = [each for each in read if isinstance(each, Line)]
    problems = [each for each in read if isinstance(each, str)]
    if not rows:
        problems.append(f"{file}: there is no line below the header; add lines of path,text.")
    if not lines:
        return Manifest([], problems, [])

    lines, notes = hold_out_speaker(config, lines)
    said = {line.split for line in lines}
    for split, fraction in (("test", config.test_fraction), ("valid", config.valid_fraction)):
        if split not in said:
            lines = hold_out(lines, split, fraction, config.split_seed)
    lines = [replace(line, split=line.split or "train") for line in lines]

    problems = problems or [  # a split may be empty only because its lines are not good yet
        f"{file}: no line is left for the {split} split; add recordings, or mark lines in a column "
        "split with train, valid and test."
        for split in SPLITS
        if not any(line.split == split for line in lines)
    ]
    repeated, odd = repeats(file, lines)
    return Manifest(lines, problems + repeated, notes + odd)


def read_rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and values by column name; blank lines are left out.

    A row with too few or too many values has the key "" that says so.
    """
    if not file.is_file():
        raise AsrError(
            f"{file}: there is no such file; data.manifest.path names a CSV file with the columns "
            "path and text."
        )
    try:
        text = file.read_bytes().decode("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        raise AsrError(
            f"{file}: byte {error.start} is not UTF-8; save the file as CSV UTF-8."
        ) from None
    # strict: otherwise an open quote would swallow all lines after it
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    before = 0
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            if row:
                rows.append((before + 1, row))
            before = reader.line_num
    except csv.Error as error:
        raise AsrError(
            f"{file}:{before + 1}: not CSV ({error}); close the quotes, and write a quote inside "
            'of a quoted text as "".'
        ) from None
    header = [name.strip().lower() for name in rows[0][1]] if rows else []
    check_header(file, header)
    return [(number, as_dict(header, row)) for number, row in rows[1:]]


def check_header(file: Path, header: list[str]) -> None:
    for name in ("path", "text"):
        if name not in header:
            raise AsrError(
                f"{file}:1: the header has no column {name}.{nearest(name, header)} Found: "
                f"{', '.join(header) or 'nothing'}. The first line names the columns, such as "
                "path,text,speaker,split."
            )
    for name in ("path", "text", "speaker", "split"):
        if header.count(name) > 1:
            raise AsrError(f"{file}:1: the header has the column {name} twice; rename one.")


def as_dict(header: list[str], row: list[str]) -> dict[str, str]:
    if len(row) != len(header):
        return {"": f"{len(row)} values, but the header names {len(header)} columns"}
    return dict(zip(header, row, strict=True))


def read_line(file: Path, number: int, row: dict[str, str], lowercase: bool) -> Line | str:
    """One row as a Line, or what is wrong with it."""
    place = f"{file}:{number}:"
    if "" in row and len(row) == 1:
        return f"{place} {row['']}; put a text that holds a comma in double quotes."
    if not row["path"].strip():
        return f"{place} the path is empty; name a recording, or delete the line."
    name = os.path.normpath(row["path"].strip())
    path = file.parent / name
    if not path.is_file():
        return f"{place} there is no file {path}; paths start from the manifest's folder."
    text = plain_text(row["text"], lowercase)
    if not text:
        return f"{place} the text of {name} is empty; write what is said, or delete the line."
    split = row.get("split", "").strip().lower()
    if split and split not in SPLITS:
        return (
            f"{place} split is {row['split']!r}; expected train, valid or test, or nothing."
            f"{nearest(split, SPLITS)}"
        )
    speaker = row.get("speaker", "").strip()
    return Line(name=name, path=path, text=text, speaker=speaker, split=split, line_number=number)


def plain_text(text: str, lowercase: bool) -> str:
    """One spelling of what looks the same: composed characters (NFC) and single spaces."""
    text = text.lower() if lowercase else text
    return " ".join(unicodedata.normalize("NFC", text).split())


def hold_out_speaker(config: ManifestConfig, lines: list[Line]) -> tuple[list[Line], list[str]]:
    """Make the speaker's lines the test split and leave out other test lines, with a note."""
    speaker = config.hold_out_speaker
    if speaker is None:
        return lines, []
    known = sorted({line.speaker for line in lines} - {""})
    if speaker not in known:
        found = f"speakers: {', '.join(known)}" if known else "it has no column speaker"
        raise AsrError(
            f"{config.path}: data.manifest.hold_out_speaker={speaker!r} is no speaker of the "
            f"manifest; {found}."
        )
    kept = [
        replace(line, split="test") if line.speaker == speaker else line
        for line in lines
        if line.speaker == speaker or line.split != "test"
    ]
    left_out = len(lines) - len(kept)
    note = (
        f"{config.path}: {left_out} lines with split=test are not used: they are not of {speaker}."
    )
    return kept, [note] if left_out else []


def hold_out(lines: list[Line], split: str, fraction: float, seed: int) -> list[Line]:
    """Move a part of the lines that are not in another split to `split`; at least one if any."""
    names = {line.name for line in lines if line.split in ("", "train")}
    ranked = sorted(names, key=lambda n: hashlib.sha256(f"{seed} {n}".encode()).digest())
    chosen = set(ranked[: max(1, round(fraction * len(names)))])
    free = ("", "train")
    return [
        replace(line, split=split) if line.name in chosen and line.split in free else line
        for line in lines
    ]


def repeats(file: Path, lines: list[Line]) -> tuple[list[str], list[str]]:
    """Problems and notes about recordings that are listed more than once."""
    first: dict[str, Line] = {}
    problems, notes = [], []
    for line in lines:
        other = first.setdefault(line.name, line)
        if other is line:
            continue
        place = f"{file}:{line.line_number}: {line.name} stands in line {other.line_number} too"
        if other.split != line.split:
            problems.append(
                f"{place}, there in {other.split} and here in {line.split}: what is tested must "
                "not be trained on. Delete one."
            )
        elif other.text != line.text:
            problems.append(f"{place} with another text, {other.text!r}; delete the wrong one.")
        else:
            notes.append(f"{place}; it counts twice.")
    return problems, notes


def listed(problems: Sequence[str]) -> str:
    """Problems below each other: the first SHOWN of them and the number of the rest."""
    if len(problems) == 1:
        return problems[0]
    rest = len(problems) - SHOWN
    more = [f"... and {rest} more"] if rest > 0 else []
    return "\n  ".join([f"{len(problems)} problems:", *problems[:SHOWN], *more])


class ManifestSpeech:
    """The recordings of one split, each an utterance. Implements `Dataset`.

    In training each load is changed at random (speed, gain, noise, warp, dither as configured) by
    a stream named (seed, epoch, index); valid and test never are.

    Args:
        lines: of `read_manifest`; those of other splits are passed over.
        recordings: shared with other splits, so that files are read once.
    Raises:
        AsrError: there are no lines of the split.
    """

    def __init__(
        self,
        config: Config,
        lines: Sequence[Line],
        *,
        split: str,
        recordings: Recordings | None = None,
    ) -> None:
        self.split = split
        self.lines = lines_of(lines, split)
        self.recordings = recordings or Recordings(config.features)
        self.speech = Speech(config, train=split == "train")
        self.names = unique_names(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def load(self, index: int, *, epoch: int = 0) -> Utterance:
        """See `Dataset.load`."""
        if not 0 <= index < len(self):
            raise IndexError(f"utterance {index} of {len(self)}")
        line = self.lines[index]

        def make() -> Tensor:
            waveform = self.recordings.waveform(line.path)
            return self.speech.frames(waveform, epoch=epoch, index=index, num=len(self))

        key = f"frames {line.path}"
        frames = make() if self.speech.varies else self.recordings.store.get(key, make)
        return Utterance(self.names[index], line.text, frames)

    def lengths(self, epoch: int) -> list[int]:
        """T0 of each utterance, exact."""
        samples = [self.recordings.num_samples(line.path) for line in self.lines]
        return self.speech.num_frames(samples, epoch=epoch)

    def texts(self) -> Iterator[str]:
        """See `Dataset.texts`."""
        return (line.text for line in self.lines)


def lines_of(lines: Sequence[Line], split: str) -> list[Line]:
    """The lines of a split; AsrError if there are none."""
    found = [line for line in lines if line.split == split]
    if not found:
        raise AsrError(f"there are no lines of the {split} split among {len(lines)} lines.")
    return found


def unique_names(lines: Sequence[Line]) -> list[str]:
    """Names of lines; a recording that is listed again has its line number added."""
    seen: set[str] = set()
    names = []
    for line in lines:
        names.append(f"{line.name}#{line.line_number}" if line.name in seen else line.name)
        seen.add(line.name)
    return names
