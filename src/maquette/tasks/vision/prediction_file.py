"""Predict an image, a folder of images or a list of them, into JSON lines.

One line per image, in the order of the names: {"image", "prediction", "probabilities"}, or
{"image", "error"} for a file that is no picture: one bad file never costs the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from maquette.data.images import SUFFIXES, decode_image
from maquette.errors import DataError
from maquette.files import write_atomic
from maquette.tasks.base import Predictions

CHUNK = 64
"""Images decoded and predicted together; bounds memory."""


def predict_images(
    predict: Callable[[Sequence[Any]], Predictions], *, source: Path, output: Path, max_pixels: int
) -> list[str]:
    """Predict every image of `source`, write `output`, and return lines that say what was done.

    Args:
        source: an image file, or a folder that is searched with all its subfolders.
        max_pixels: larger images are refused before they are decoded.
    Raises:
        DataError: no image there, or none of them could be read.
    """
    paths = _find(source)
    base = source if source.is_dir() else source.parent
    num_bad = 0

    def write(part: Path) -> None:
        nonlocal num_bad
        with part.open("w", encoding="utf-8") as file:
            for answer in _answers(predict, paths, base, max_pixels):
                num_bad += "error" in answer
                file.write(json.dumps(answer, ensure_ascii=False) + "\n")
        if num_bad == len(paths):
            raise DataError(
                f"None of the {len(paths)} files of {source} could be read as an image; "
                f"the first: {_reason(paths[0], max_pixels)}"
            )

    write_atomic(output, write)
    num_good = len(paths) - num_bad
    lines = [f"{num_good} prediction{'s' * (num_good != 1)} in {output}"]
    if num_bad:
        lines.append(f"not read: {num_bad} of {len(paths)} files; their lines say why, as `error`")
    return lines


def _find(source: Path) -> list[Path]:
    if source.is_dir():
        paths = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise DataError(
                f"{source} holds no image; looked for {', '.join(sorted(SUFFIXES))} in it and "
                "its subfolders."
            )
        return paths
    if not source.is_file():
        raise DataError(f"There is no file or folder {source}.")
    return [source]


def _answers(
    predict: Callable[[Sequence[Any]], Predictions], paths: list[Path], base: Path, max_pixels: int
) -> Iterator[dict[str, Any]]:
    for start in range(0, len(paths), CHUNK):
        chunk = paths[start : start + CHUNK]
        decoded = [_decode(path, max_pixels) for path in chunk]
        pictures = [picture for picture in decoded if not isinstance(picture, str)]
        predictions = iter(predict(pictures) if pictures else ())
        for path, picture in zip(chunk, decoded, strict=True):
            name = path.relative_to(base).as_posix()
            if isinstance(picture, str):
                yield {"image": name, "error": picture}
            else:
                yield {"image": name, **next(predictions)}


def _decode(path: Path, max_pixels: int) -> Any:
    """The picture, or the reason why there is none."""
    try:
        return decode_image(path, max_pixels=max_pixels)
    except DataError as error:
        return str(error)


def _reason(path: Path, max_pixels: int) -> str:
    return str(_decode(path, max_pixels))
