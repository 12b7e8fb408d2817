"""`infer --stream`: the text of recordings while they go on, from files or from stdin.

Files are fed in pieces as a microphone would give them; `-` reads 16-bit mono samples (little
endian, at the model's rate) from stdin, such as `arecord -t raw -f S16_LE -r 8000 | ...`. After the
last piece the transcript is written as `infer` writes it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from paraformer_asr.checkpoints import Loaded
from paraformer_asr.errors import AsrError
from paraformer_asr.files import write_atomic
from paraformer_asr.infer import Report, as_json, make_folder, result, timestamp_lines
from paraformer_asr.inputs import FRAME_SECONDS, Sound, find_inputs, output_names, read_sound
from paraformer_asr.stream import Stream

PIECE_SECONDS = 0.1


def stream_paths(
    loaded: Loaded,
    inputs: Iterable[str | Path],
    out: Path,
    *,
    timestamps: bool = False,
    say: Callable[[str], None] = print,
    stdin: BinaryIO | None = None,
) -> Report:
    """Recognise one input after the other, saying each new text as `SECONDS s<TAB>TEXT`.

    Args:
        inputs: files, folders and globs as `infer` takes them, or `-` for stdin.
        out: folder for `NAME.json`, made if needed; stdin's is `stdin.json`.
        timestamps: say when each token was spoken too, at the end.
        stdin: read for `-`; sys.stdin's bytes if None.
    Raises:
        AsrError: the model was not trained with `model.stream`, or `out` cannot be made.
    """
    Stream(loaded.model)  # refuses the model before anything is read
    make_folder(out)
    given = [str(each) for each in inputs]
    paths, errors = find_inputs(each for each in given if each != "-")
    names = output_names(paths) if paths else []
    written: list[Path] = []
    warnings: list[str] = []

    def finish(name: Path, stream: Stream, sound: Sound, source: str) -> None:
        transcript = stream.finish(sound.seconds)
        say(f"{name}\t{transcript.text}")
        if timestamps:
            say(timestamp_lines(transcript))
        target = out / f"{name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, as_json({"input": source, **result(sound, transcript)}))
        written.append(target)

    def follow_file(path: Path, name: Path) -> None:
        sound = read_sound(loaded.model, path)
        stream = Stream(loaded.model)
        follow_frames(stream, sound.frames, say)
        finish(name, stream, sound, str(path))
        warnings.extend(f"{path}: {note}" for note in sound.notes)

    def follow_stdin() -> None:
        stream = Stream(loaded.model)
        rate = loaded.model.frontend.config.sample_rate
        for piece in read_samples(stdin or sys.stdin.buffer, int(rate * PIECE_SECONDS)):
            if stream.feed(piece):
                say_text(stream, stream.seconds, say)
        finish(Path("stdin"), stream, Sound(torch.zeros(0, 0), stream.seconds), "-")

    def attempt(work: Callable[[], None], source: str) -> None:
        """One input that fails is reported, and the next one goes on."""
        try:
            work()
        except AsrError as error:
            errors.append(f"stdin: {error}" if source == "-" else str(error))
        except OSError as error:
            errors.append(f"{source}: {error.strerror or error}.")

    for path, name in zip(paths, names, strict=True):
        attempt(partial(follow_file, path, name), str(path))
    if "-" in given:
        attempt(follow_stdin, "-")
    return Report(tuple(written), tuple(errors), tuple(warnings))


def follow_frames(stream: Stream, frames: Tensor, say: Callable[[str], None]) -> None:
    """Feed the frames (T0, M) of a file piece by piece, saying the text when it has grown."""
    pushed = 0
    for piece in torch.split(frames, max(1, round(PIECE_SECONDS / FRAME_SECONDS))):
        pushed += len(piece)
        if stream.push_frames(piece):
            say_text(stream, pushed * FRAME_SECONDS, say)


def say_text(stream: Stream, seconds: float, say: Callable[[str], None]) -> None:
    say(f"{seconds:.2f} s\t{stream.text()}")


def read_samples(source: BinaryIO, size: int) -> Iterator[Tensor]:
    """16-bit little-endian samples as float32 in [-1, 1), up to `size` at once, as they come."""
    left = b""
    read = getattr(source, "read1", source.read)  # read1 does not wait for more than there is
    while data := read(2 * size):
        data = left + data
        whole = len(data) - len(data) % 2
        left = data[whole:]
        values = np.frombuffer(data[:whole], dtype="<i2").astype(np.float32) / 32768
        yield torch.from_numpy(values)
