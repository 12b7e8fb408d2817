"""Known data sets by name: `catalogue:penguins` in a recipe becomes a verified local file.

`catalogue.yaml` is the whole list. A file comes from the mirror named by MAQUETTE_DATA_MIRROR (a
folder or an http(s) address), or from its own address on the open internet where it has one, is
checked against its SHA-256, and stays in the cache (MAQUETTE_CACHE, ~/.cache/maquette by default),
so a mirror is needed once. The digits need none: scikit-learn ships them. Whatever lies in the
cache under its final name is whole.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from maquette.data.catalogue_file import DataSet, read_catalogue
from maquette.data.download import ProgressLine, SourceError, download
from maquette.errors import DataError, RunError, UsageError, one_of
from maquette.files import CACHE, cache_folder, held, sha256, write_folder_once

if TYPE_CHECKING:
    from zipfile import ZipInfo

PREFIX = "catalogue:"
MIRROR = "MAQUETTE_DATA_MIRROR"
_PATIENCE = 3600.0  # seconds that a download of another process may take


class _Catalogue(Mapping[str, DataSet]):
    """The shipped catalogue, read when it is first asked."""

    @cached_property
    def _entries(self) -> dict[str, DataSet]:
        return read_catalogue()

    def __getitem__(self, name: str) -> DataSet:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


CATALOGUE: Mapping[str, DataSet] = _Catalogue()


def resolve(path: str) -> Path:
    """Return the local path a recipe's `path` means; `catalogue:NAME` is fetched when needed.

    Raises:
        UsageError: no data set has that name.
        DataError: the mirror is not named, does not answer, or holds other bytes.
        RunError: the cache cannot be written.
    """
    if not path.startswith(PREFIX):
        return Path(path)
    name = path.removeprefix(PREFIX)
    if name not in CATALOGUE:
        raise UsageError(one_of("data set", name, CATALOGUE))
    return materialise(name, CATALOGUE[name])


def materialise(name: str, data_set: DataSet) -> Path:
    """Bring a data set into the cache, unless it is there, and return what a recipe opens.

    Returns:
        The table or other file; the class folder of the digits; the manifest of a zip, whose image
        paths are relative to it.
    """
    if data_set.file is None:
        home = home_of(name, data_set)
        return write_folder_once(home, lambda folder: _write_digits(folder, data_set))
    if not is_here(name, data_set):
        with _alone(home_of(name, data_set)):
            if not is_here(name, data_set):  # another process may have brought it meanwhile
                _bring(name, data_set)
    return cached_path(name, data_set)


def home_of(name: str, data_set: DataSet) -> Path:
    """Return the folder of a data set in the cache, there or not.

    The checksum is in its name: other bytes under the same name never meet.
    """
    return cache_folder("data") / f"{name}-{data_set.sha256[:12]}"


def cached_path(name: str, data_set: DataSet) -> Path:
    """Return what a recipe opens of a data set that is in the cache."""
    home = home_of(name, data_set)
    if data_set.file is None:
        return home
    return home / (data_set.member or PurePosixPath(data_set.file).name)


def is_here(name: str, data_set: DataSet) -> bool:
    """Return whether a data set is in the cache; a single file must still have its bytes."""
    if data_set.file is None or data_set.member:
        return home_of(name, data_set).is_dir()
    goal = cached_path(name, data_set)
    return goal.is_file() and sha256(goal) == data_set.sha256


def _write_digits(folder: Path, data_set: DataSet) -> None:
    """Write each scan as <label>/<index>.png; the grey levels 0 to 16 become 0 to 255."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    scans, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    found = hashlib.sha256(scans.tobytes() + labels.tobytes()).hexdigest()
    if found != data_set.sha256:
        raise DataError(
            f"The digits of the installed scikit-learn have sha256 {found}, expected "
            f"{data_set.sha256}; reinstall scikit-learn."
        )
    for label in sorted(set(labels.tolist())):
        (folder / str(label)).mkdir()
    pixels = np.round(scans * (255 / 16)).astype(np.uint8)
    for index, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        Image.fromarray(image).save(folder / str(label) / f"{index:04d}.png")


def _bring(name: str, data_set: DataSet) -> None:
    """Fetch a data set's file, continuing what an interrupted attempt left, and put it in place."""
    home = home_of(name, data_set)
    part = home.with_name(f".{home.name}.part")
    progress = ProgressLine(name)
    try:
        download(
            _address(data_set),
            part,
            digest=data_set.sha256,
            size=data_set.size,
            report=progress,
        )
    except SourceError as error:
        raise DataError(_unreadable(data_set, error, part)) from None
    finally:
        progress.close()
    try:
        if data_set.member:
            write_folder_once(home, lambda folder: unpack(part, folder))
        else:
            _move(part, cached_path(name, data_set))
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the lock of one data set."""
    lock = cache_folder("locks") / f"{home.name}.lock"
    with ExitStack() as stack:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(lock, patience=_PATIENCE))
        except TimeoutError:
            raise RunError(
                f"Another process has been fetching {home.name} for {_PATIENCE / 60:.0f} minutes; "
                "wait for it to end and run again."
            ) from None
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunError(
                f"Could not write {lock}: {reason}. Choose another cache folder with "
                f"{CACHE}=FOLDER."
            ) from None
        yield


def _move(file: Path, goal: Path) -> None:
    """Give a whole file its final name, durably."""
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
        file.replace(goal)
    except OSError as error:
        raise RunError(
            f"Could not write {goal}: {error.strerror or error}. Choose another cache folder with "
            f"{CACHE}=FOLDER."
        ) from None


def _address(data_set: DataSet) -> str:
    """Return where the file is fetched from: the mirror, or its own address without one."""
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    if mirror:
        return f"{mirror}/{data_set.file}"
    if data_set.url:
        return data_set.url
    made = f" It is not on the open internet; it was made so: {data_set.prepared}"
    raise DataError(
        f"{MIRROR} is not set, and {data_set.file} is not in the cache yet. Set {MIRROR} to a "
        f"folder or an http(s) address that holds {data_set.file} (sha256 {data_set.sha256}, "
        f"{data_set.size} bytes; {data_set.source}; licence {data_set.licence})."
        f"{made if data_set.prepared else ''}"
    )


def _unreadable(data_set: DataSet, error: SourceError, part: Path) -> str:
    """Say why nothing more came, what is here already, and what the mirror must hold."""
    kept = part.stat().st_size if part.exists() else 0
    rest = f" {kept} of {data_set.size} bytes are here; run again for the rest." if kept else ""
    return (
        f"Could not read {_address(data_set)}: {error}. {MIRROR} must name a folder or an http(s) "
        f"address that holds {data_set.file} (sha256 {data_set.sha256}).{rest}"
    )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip below `folder`.

    Raises:
        DataError: not a zip, a damaged one, or a member that is a link or would land outside.
    """
    import zipfile

    try:
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                _refuse_escape(member, archive)
            file.extractall(folder)
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive} is not a whole zip file: {error}.") from None


def _refuse_escape(member: ZipInfo, archive: Path) -> None:
    parts = PurePosixPath(member.filename.replace("\\", "/"))
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    if is_link or parts.is_absolute() or ".." in parts.parts or ":" in member.filename:
        raise DataError(
            f"{archive} holds the member {member.filename!r}, which points outside the folder it "
            "is unpacked into; nothing was unpacked."
        )
