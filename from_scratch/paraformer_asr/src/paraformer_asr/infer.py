"""From recordings to text with a trained model.

In: a WAV file, or a .npy file of log-mel frames, or many of them. Out: a `Transcript` with the
text, and for each token when it was said and how sure the model is (`transcribe`); for many files
also a JSON file and a picture each (`infer_paths`). Start reading at `recognize`.

Letters: T0 frames of 10 ms, M mel bands, T encoder frames, K tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from paraformer_asr.checkpoints import Loaded
from paraformer_asr.data.buckets import length_buckets
from paraformer_asr.decode import Hypothesis, decode_batch, greedy, seconds_of_frame
from paraformer_asr.errors import AsrError
from paraformer_asr.features import FRAME_SECONDS
from paraformer_asr.files import write_atomic
from paraformer_asr.inputs import Sound, find_inputs, output_names, read_sound
from paraformer_asr.models import Paraformer
from paraformer_asr.picture import View, draw

MAX_BATCH = 64
"""Most utterances decoded together, however short they are."""
SHELF_BATCHES = 20
"""Batches' worth of files that are read before they are sorted by length and decoded."""


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What was said in one recording; the three lists have one entry for each token."""

    text: str
    tokens: list[str]
    times: list[tuple[float, float]]
    """Start and end in seconds."""
    confidence: list[float]
    """Probability that the model gives to the token, 0 to 1; not calibrated."""


@dataclass(frozen=True)
class Report:
    """What `infer_paths` did; each message names its file."""

    written: tuple[Path, ...]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 if any input failed, else 0."""
        return int(bool(self.errors))


def transcribe(model: Paraformer, path: str | Path) -> Transcript:
    """Recognise one recording.

    Args:
        model: on any device, in training or evaluation mode; it is left as it was.
        path: WAV file, or .npy file of log-mel frames (T0, num_mels) before stacking.
    Raises:
        AsrError: naming the file, if it cannot be read or does not fit the model.
    """
    sound = read_sound(model, Path(path))
    return recognize(model, [sound])[0]


def recognize(
    model: Paraformer, sounds: Sequence[Sound], *, batch_frames: int | None = None
) -> list[Transcript]:
    """Recognise utterances, those of similar length together.

    Args:
        sounds: at least one, as `inputs.read_sound` makes and checks them.
        batch_frames: frames of a batch with its padding, after stacking; None has no limit.
    Returns:
        A transcript for each, in order. Batches do not change the result beyond rounding.
    """
    device = next(model.parameters()).device
    lengths = [-(-len(sound.frames) // model.frontend.config.stride) for sound in sounds]
    batches = length_buckets(
        lengths,
        batch_frames=batch_frames or max(lengths) * len(lengths),
        max_batch=MAX_BATCH,
        seed=0,
        epoch=0,
        shuffle=False,
        bucketing=True,
    )
    found: dict[int, Transcript] = {}
    with evaluating(model):
        for batch in batches:
            feats = [model.frontend(sounds[i].frames.to(device)) for i in batch]
            hypotheses = decode_batch(
                model,
                pad_sequence(feats, batch_first=True),
                torch.tensor([len(each) for each in feats], device=device),
                durations=[sounds[i].seconds for i in batch],
            )
            found.update(zip(batch, map(as_transcript, hypotheses), strict=True))
    return [found[i] for i in range(len(sounds))]


def as_transcript(hypothesis: Hypothesis) -> Transcript:
    """The public part of a hypothesis."""
    return Transcript(
        text=hypothesis.text,
        tokens=list(hypothesis.tokens),
        times=list(hypothesis.times),
        confidence=list(hypothesis.confidence),
    )


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every layer is in the mode it was in before.

    `no_grad`, not `inference_mode`: tables that layers keep, such as filters and positions, may be
    made here and used by training later, which inference tensors would not allow.
    """
    training = [layer for layer in model.modules() if layer.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for layer in training:
            layer.training = True


def look(model: Paraformer, frames: Tensor, *, title: str, reference: str | None = None) -> View:
    """What the model makes of one utterance, for `picture.draw`.

    Args:
        frames: (T0, M) float32, any device.
        reference: what was really said, if known.
    """
    device = next(model.parameters()).device
    step = seconds_of_frame(model)
    with evaluating(model):
        feats = model.frontend(frames.to(device))
        lens = torch.tensor([len(feats)], device=device)
        prediction = model.predict(feats[None], lens, attention=True)
    seconds = len(frames) * FRAME_SECONDS
    (hypothesis,) = greedy(prediction, model.tokenizer, step, durations=[seconds])
    num_frames, count = int(prediction.hidden_lens[0]), int(prediction.counts[0])
    alphas = prediction.alphas[0, :num_frames].float().cpu()
    said = prediction.logits[0, :count].argmax(dim=1) > model.tokenizer.end  # not special
    assert prediction.attention is not None  # asked for above
    attention = prediction.attention[0, :, said, :num_frames].float().mean(dim=0).cpu()
    return View(
        title=title,
        frames=frames.cpu().numpy(),
        frame_seconds=FRAME_SECONDS,
        alphas=alphas.numpy(),
        step_seconds=step,
        tokens=hypothesis.tokens,
        times=hypothesis.times,
        tail=model.config.model.tail,
        attention=attention.numpy(),
        text=hypothesis.text,
        reference=reference,
    )


def infer_paths(
    loaded: Loaded,
    inputs: Iterable[str | Path],
    out: Path,
    *,
    batch_frames: int | None = None,
    picture: bool = False,
    timestamps: bool = False,
    say: Callable[[str], None] = print,
) -> Report:
    """Recognise files, folders and globs; write `out/NAME.json` for each file.

    A file that fails is reported and the others go on. NAME is the file's name with its suffix,
    below its folder where inputs come from several, so that `a/x.wav` and `b/x.wav` keep apart.

    Args:
        batch_frames: as in the configuration that the model was trained with, if None.
        picture: also draw `out/NAME.png`.
        timestamps: also say when each token was spoken and its probability.
        say: gets `name<TAB>text` for each file, in order.
    Raises:
        AsrError: `out` cannot be made or written to.
    """
    make_folder(out)
    paths, errors = find_inputs(inputs)
    names = output_names(paths) if paths else []
    work = Work(loaded, out, batch_frames or loaded.config.data.batch_frames, picture)
    for shelf in work.shelves(zip(paths, names, strict=True)):
        for item, transcript in work.recognized(shelf):
            say(f"{item.name}\t{transcript.text}")
            if timestamps:
                say(timestamp_lines(transcript))
    return Report(tuple(work.written), tuple(errors + work.errors), tuple(work.warnings))


@dataclass(frozen=True)
class Item:
    """A file that was read: its name among the results, and its sound."""

    path: Path
    name: Path
    sound: Sound


class Work:
    """One call of `infer_paths`: where results go, and what has happened so far."""

    def __init__(self, loaded: Loaded, out: Path, batch_frames: int, picture: bool) -> None:
        self.model = loaded.model
        self.out = out
        self.batch_frames = batch_frames
        self.picture = picture
        self.written: list[Path] = []
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def shelves(self, files: Iterable[tuple[Path, Path]]) -> Iterator[list[Item]]:
        """Read the files, a limited number of frames at a time; note those that fail."""
        shelf: list[Item] = []
        frames = 0
        for path, name in files:
            try:
                sound = read_sound(self.model, path)
            except AsrError as error:
                self.errors.append(str(error))
                continue
            self.warnings += [f"{path}: {note}" for note in sound.notes]
            shelf.append(Item(path, name, sound))
            frames += -(-len(sound.frames) // self.model.frontend.config.stride)
            if frames >= SHELF_BATCHES * self.batch_frames:
                yield shelf
                shelf, frames = [], 0
        if shelf:
            yield shelf

    def recognized(self, shelf: list[Item]) -> Iterator[tuple[Item, Transcript]]:
        """Recognise what was read, write the results, and give them in order."""
        sounds = [item.sound for item in shelf]
        transcripts = recognize(self.model, sounds, batch_frames=self.batch_frames)
        for item, transcript in zip(shelf, transcripts, strict=True):
            try:
                self.write(item, transcript)
            except OSError as error:
                reason = error.strerror or error
                self.errors.append(f"{item.path}: its result cannot be written ({reason}).")
                continue
            yield item, transcript

    def write(self, item: Item, transcript: Transcript) -> None:
        """The JSON file and, if asked for, the picture of one file."""
        target = self.out / item.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path = target.with_name(f"{target.name}.json")
        write_atomic(path, as_json({"input": str(item.path), **result(item.sound, transcript)}))
        self.written.append(path)
        if self.picture:
            path = target.with_name(f"{target.name}.png")
            draw([look(self.model, item.sound.frames, title=str(item.name))], path)
            self.written.append(path)


def result(sound: Sound, transcript: Transcript) -> dict[str, Any]:
    """What the JSON file and the service say about one recording; times have milliseconds."""
    plain = asdict(transcript)
    plain["times"] = [[round(start, 3), round(end, 3)] for start, end in transcript.times]
    plain["confidence"] = [round(value, 4) for value in transcript.confidence]
    return {**plain, "duration": round(sound.seconds, 3), "notes": list(sound.notes)}


def as_json(values: dict[str, Any]) -> str:
    """JSON text with readable characters; never NaN, which is no JSON."""
    return json.dumps(values, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def timestamp_lines(transcript: Transcript) -> str:
    """One indented line for each token, such as `    0.12 -  0.31 s  a   98 %`."""
    if not transcript.tokens:
        return "    (no token)"
    rows = zip(transcript.tokens, transcript.times, transcript.confidence, strict=True)
    return "\n".join(
        f"    {start:6.2f} - {end:6.2f} s  {token}  {100 * confidence:3.0f} %"
        for token, (start, end), confidence in rows
    )


def make_folder(folder: Path) -> None:
    """Make a folder for results, with those above it; AsrError if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AsrError(f"{folder}: no folder can be made there ({error.strerror}).") from None
