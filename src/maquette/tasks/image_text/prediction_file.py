"""Predict a manifest of pairs, or images with a model that has classes, into JSON lines.

One line per pair or image, in the order of the rows or names: {"image", "text", "similarity"},
{"image", "prediction", "probabilities"}, or "error" in place of the answer: one bad file or row
never costs the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maquette.data.images import SUFFIXES, decode_image
from maquette.errors import DataError
from maquette.files import write_atomic
from maquette.recipe.splitting import SplitRule
from maquette.tasks.base import Predictions
from maquette.tasks.image_folders import some
from maquette.tasks.image_text.checking import list_pairs
from maquette.tasks.image_text.image_store import ImageFile
from maquette.tasks.image_text.preprocess import ImageTextPreprocessor

if TYPE_CHECKING:
    from maquette.recipe.image_text import ImageTextData

CHUNK = 64
"""Inputs decoded and predicted together; bounds memory."""


@dataclass(frozen=True)
class _Item:
    """One line to be."""

    head: dict[str, str]
    """What the line begins with: the image, and the text of a pair."""
    image: ImageFile | None
    text: str | None = None
    error: str | None = None


def predict_pairs(
    predict: Callable[[Sequence[Any]], Predictions],
    preprocessor: ImageTextPreprocessor,
    *,
    data: ImageTextData,
    source: Path,
    output: Path,
) -> list[str]:
    """Predict everything in `source`, write `output`, and return lines that say what was done.

    Args:
        data: names the columns of a manifest, as in training.
        source: a manifest or shard of pairs; or, for a model with classes, an image or a folder
            that is searched with all its subfolders.
    Raises:
        DataError: nothing to predict there, or none of it could be read.
    """
    items = _images(source, preprocessor) or _pairs(source, data)
    num_bad = 0

    def write(part: Path) -> None:
        nonlocal num_bad
        with part.open("w", encoding="utf-8") as file:
            for answer in _answers(predict, items, preprocessor.max_pixels):
                num_bad += "error" in answer
                last = answer
                file.write(json.dumps(answer, ensure_ascii=False) + "\n")
        if num_bad == len(items):
            raise DataError(
                f"None of the {len(items)} inputs of {source} could be predicted; the last: "
                f"{last['error']}"
            )

    write_atomic(output, write)
    num_good = len(items) - num_bad
    lines = [f"{num_good} prediction{'s' * (num_good != 1)} in {output}"]
    if num_bad:
        lines.append(f"not read: {num_bad} of {len(items)} inputs; their lines say why, as `error`")
    return lines


def _images(source: Path, preprocessor: ImageTextPreprocessor) -> list[_Item]:
    """List an image or a folder of them; nothing when `source` is neither."""
    if source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
        base = source
    elif source.is_file() and source.suffix.lower() in SUFFIXES:
        paths, base = [source], source.parent
    else:
        return []
    if preprocessor.classes is None:
        raise DataError(
            f"{source} holds images without texts, and this model compares images with texts; "
            "give a manifest with both."
        )
    if not paths:
        raise DataError(
            f"{source} holds no image; looked for {', '.join(sorted(SUFFIXES))} in it and its "
            "subfolders."
        )
    names = [path.relative_to(base).as_posix() for path in paths]
    return [
        _Item({"image": name}, ImageFile(name, path))
        for name, path in zip(names, paths, strict=True)
    ]


def _pairs(source: Path, data: ImageTextData) -> list[_Item]:
    """List the rows of a manifest or shard, those that cannot be used too."""
    if not data.text_columns:
        data = data.model_copy(update={"text_columns": ("text",)})
    asked = {"path": str(source), "split": SplitRule(), "label_column": None, "where": {}}
    listing = list_pairs(data.model_copy(update=asked), prompts=())
    items = [
        _Item({"image": pair.image.name, "text": text}, pair.image, text)
        for pair in listing.pairs
        for text in pair.texts
    ]
    bad = [_Item({"place": one["place"]}, None, error=one["reason"]) for one in listing.bad]
    if not items:
        reasons = [f"{one['place']} {one['reason']}" for one in listing.bad]
        raise DataError(f"{source} holds no pair that could be used: {some(reasons) or 'no rows'}.")
    return [*items, *bad]


def _answers(
    predict: Callable[[Sequence[Any]], Predictions], items: Sequence[_Item], max_pixels: int
) -> Iterator[dict[str, Any]]:
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]
        raw = [_raw(item, max_pixels) for item in chunk]
        good = [one for one in raw if not isinstance(one, str)]
        predictions = iter(predict(good) if good else ())
        for item, one in zip(chunk, raw, strict=True):
            if isinstance(one, str):
                yield {**item.head, "error": one}
            elif item.text is None:
                yield {**item.head, **next(predictions)}
            else:
                yield {**item.head, "similarity": next(predictions)["prediction"]}


def _raw(item: _Item, max_pixels: int) -> Any:
    """What `encode` takes, or the reason why there is nothing."""
    if item.image is None:
        return item.error or ""
    try:
        pixels = decode_image(item.image.read(), max_pixels=max_pixels)
    except DataError as error:
        return str(error)
    return pixels if item.text is None else {"image": pixels, "text": item.text}
