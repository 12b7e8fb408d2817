"""Find the images a recipe means: class folders (`path/<class>/<image>`) or a manifest's rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maquette.errors import DataError, nearest
from maquette.tasks.image_folders import FoundImage, Listing, list_folders


def list_images(
    path: Path, *, image_column: str, label_column: str, split_column: str | None
) -> Listing:
    """List the images of a folder or manifest.

    Args:
        image_column, label_column, split_column: columns of a manifest.
    Raises:
        DataError: nothing at `path`, no class folders, no such column, a folder that stays shut.
    """
    if path.is_dir():
        if split_column is not None:
            raise DataError(
                f"data.image.split.column is {split_column!r}, but {path} is a folder, which has "
                "no columns. Give data.image.path a CSV with the columns "
                f"{image_column}, {label_column} and {split_column}, or choose another split."
            )
        return list_folders(path, key="data.image.path")
    if path.is_file():
        return _list_manifest(path, image_column, label_column, split_column)
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(
        f"There is no folder or manifest {path}.{nearest(path.name, siblings)} data.image.path "
        "takes a folder with one folder per class, or a CSV of image paths and labels."
    )


def _list_manifest(
    path: Path, image_column: str, label_column: str, split_column: str | None
) -> Listing:
    from maquette.data.tables import read_table

    table = read_table(path, allow_ragged=True)
    columns = {"image_column": image_column, "label_column": label_column}
    if split_column is not None:
        columns["split.column"] = split_column
    for key, name in columns.items():
        if name not in table.cells:
            raise DataError(
                f"{path} has no column {name!r} (data.image.{key}).{nearest(name, table.columns)} "
                f"Its columns: {', '.join(table.columns)}."
            )
    cells = [table.cells[name].to_pylist() for name in columns.values()]
    listing = Listing(bad=[{"place": path.name, "reason": str(row)} for row in table.ragged])
    first_rows: dict[str, int] = {}
    for row, *values in zip(table.lines.tolist(), *cells, strict=True):
        place = f"{path.name} row {row}"
        reason = _refusal(values, list(columns.values()), first_rows, path.parent)
        if reason is not None:
            listing.bad.append({"place": place, "reason": reason})
            continue
        image, label, *rest = values
        first_rows[image] = row
        listing.images.append(
            FoundImage(
                id=image,
                path=path.parent / image,
                label=label,
                split_value=rest[0] if rest else None,
            )
        )
    return listing


def _refusal(
    values: Sequence[str | None], columns: Sequence[str], first_rows: dict[str, int], folder: Path
) -> str | None:
    """Why a manifest row cannot be used, or None."""
    for value, column in zip(values, columns, strict=True):
        if value is None:
            return f"has no value in the column {column!r}"
    image = str(values[0])
    if image in first_rows:
        return f"names {image}, which row {first_rows[image]} already has"
    if (folder / image).is_dir():
        return f"names {image}, which is a folder"
    if not (folder / image).exists():
        return f"names {image}, but there is no such file in {folder}"
    return None
