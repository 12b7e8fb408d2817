"""Class folders, `path/<class>/<image>`, become pairs of image and prompt. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maquette.errors import DataError
from maquette.tasks.image_folders import list_folders
from maquette.tasks.image_text.image_store import ImageFile
from maquette.tasks.image_text.manifest import FoundPair, PairListing, prompts_of

if TYPE_CHECKING:
    from maquette.recipe.image_text import ImageTextData


def list_class_folders(root: Path, data: ImageTextData, prompts: Sequence[str]) -> PairListing:
    """List the images of every class folder; their texts are the prompts with the class's name.

    Raises:
        DataError: no class folders with images, an empty one, or settings that need columns.
    """
    _refuse_columns(root, data)
    found = list_folders(root, key="data.image_text.path")
    if found.empty_classes:
        names = "/, ".join(found.empty_classes)
        raise DataError(
            f"{root} cannot be used as it is: {names}/ is a class folder without images; put some "
            "in, or remove it."
        )
    pairs = [
        FoundPair(
            id=image.id,
            place=image.id,
            image=ImageFile(image.id, image.path),
            texts=prompts_of(image.label, prompts),
            label=image.label,
        )
        for image in found.images
    ]
    return PairListing(pairs=pairs, bad=found.bad, warnings=found.warnings, is_prompted=True)


def _refuse_columns(root: Path, data: ImageTextData) -> None:
    shards = sorted(root.glob("*.tar"))
    if shards and not any(entry.is_dir() for entry in root.iterdir()):
        raise DataError(
            f"{root} is a folder of tar shards ({shards[0].name}, …); give data.image_text.path "
            f"their names: {root}/*.tar"
        )
    asked = {
        "split.column": data.split.method in ("grouped", "time", "column"),
        "where": bool(data.where),
    }
    for key, is_asked in asked.items():
        if is_asked:
            raise DataError(
                f"data.image_text.{key} names columns, but {root} is a folder, which has none. "
                "Give data.image_text.path a manifest with them, or leave the key out."
            )
