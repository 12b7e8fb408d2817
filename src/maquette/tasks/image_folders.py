"""Find images in class folders, `path/<class>/<image>`; shared by the tasks that read images.

Nothing is decoded here. What cannot be an image at all is told apart from what should be one: the
first is noted as a warning, the second goes to `bad` with its place and reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maquette.data.images import FORMATS, SUFFIXES, format_of
from maquette.errors import DataError

CLUTTER = {"thumbs.db", "desktop.ini"}
"""What systems leave in folders, beside names that begin with a dot; passed over in silence."""

SHOWN = 5
"""Names quoted in a warning."""


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """An image that is named, and not opened yet."""

    id: str
    """The path as a user knows it: below the folder, or as the manifest writes it."""
    path: Path
    label: str
    split_value: str | None = None
    """The manifest's cell in the split, group or time column."""


@dataclass(kw_only=True)
class Listing:
    """What was found, in a fixed order."""

    images: list[FoundImage] = field(default_factory=list)
    bad: list[dict[str, str]] = field(default_factory=list)
    """`place` and `reason` of each image that is named and cannot be there."""
    warnings: list[str] = field(default_factory=list)
    empty_classes: list[str] = field(default_factory=list)


def list_folders(root: Path, *, key: str) -> Listing:
    """List the images of every class folder below `root`, by name.

    Args:
        key: the recipe key that takes the folder, for messages: "data.image.path".
    Raises:
        DataError: no class folders with images, or a folder that stays shut.
    """
    listing = Listing()
    entries = _entries(root)
    folders = [entry for entry in entries if entry.is_dir()]
    loose = [entry.name for entry in entries if not entry.is_dir()]
    for folder in folders:
        _list_class(folder, listing)
    if not listing.images and not listing.bad:
        raise DataError(_no_images(root, folders, loose, key))
    if loose:
        listing.warnings.append(
            f"{count(loose, 'file')} beside the class folders {_is(loose)} not read: {some(loose)}"
        )
    return listing


def _list_class(folder: Path, listing: Listing) -> None:
    """Add the images that lie directly in one class folder."""
    label = folder.name
    ignored, num_found = [], len(listing.images) + len(listing.bad)
    for entry in _entries(folder):
        name = f"{label}/{entry.name}"
        if entry.is_dir():
            listing.warnings.append(
                f"{name} is a folder inside a class folder; what is in it is not read"
            )
        elif not entry.exists():
            listing.bad.append({"place": name, "reason": "is a link to a file that is not there"})
        elif _should_be_image(entry):
            listing.images.append(FoundImage(id=name, path=entry, label=label))
        else:
            ignored.append(name)
    if ignored:
        listing.warnings.append(
            f"{count(ignored, 'file')} {_is(ignored)} no image by name or content and "
            f"{_is(ignored)} not read: {some(ignored)}"
        )
    if len(listing.images) + len(listing.bad) == num_found:
        listing.empty_classes.append(label)


def _should_be_image(path: Path) -> bool:
    """Whether the name claims an image, or the first bytes are one's."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return format_of(file.read(16)) is not None
    except OSError:
        return True  # decoding will meet the same error, and report it


def _entries(folder: Path) -> list[Path]:
    """A folder's entries by name, less the clutter of operating systems."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be read: {error.strerror or error}. "
            f"Give yourself access (chmod u+rx {folder}), or move it elsewhere."
        ) from None
    return [e for e in entries if not e.name.startswith(".") and e.name.lower() not in CLUTTER]


def _no_images(root: Path, folders: Sequence[Path], loose: Sequence[str], key: str) -> str:
    """Say what a folder without images has instead, and what to point at."""
    expected = f"Expected {root}/<class>/<image>, in any of {', '.join(FORMATS)}."
    if folders:
        deeper = next((f for f in folders if any(e.is_dir() for e in _entries(f))), None)
        hint = f" The classes may lie one folder deeper: try {key}={deeper}." * (deeper is not None)
        names = some([folder.name for folder in folders])
        return (
            f"{root} has {count(folders, 'folder')} ({names}), none with images. {expected}{hint}"
        )
    if loose:
        return f"{root} has {count(loose, 'file')} ({some(loose)}) but no class folders. {expected}"
    return f"{root} is an empty folder. {expected}"


def some(names: Sequence[str]) -> str:
    """Quote the first few of many names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def count(things: Sequence[object], noun: str) -> str:
    """Say how many: "1 file", "3 files"."""
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def _is(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"
