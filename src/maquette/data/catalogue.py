"""Known data sets by name: `catalogue:penguins` in a recipe becomes a verified local file.

`CATALOGUE` is the whole list. A file comes from the mirror named by MAQUETTE_DATA_MIRROR (a folder
or an http(s) address), is checked against its SHA-256, and stays in the cache (MAQUETTE_CACHE,
~/.cache/maquette by default), so a mirror is needed once. The digits need none: scikit-learn ships
them. Whatever lies in the cache under its final name is whole.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from maquette.errors import DataError, UsageError, one_of
from maquette.files import cache_folder, sha256, write_atomic, write_folder_once

if TYPE_CHECKING:
    from zipfile import ZipInfo

PREFIX = "catalogue:"
MIRROR = "MAQUETTE_DATA_MIRROR"
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte from the mirror


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One entry of the catalogue."""

    about: str
    """What it is and what to predict."""
    file: str | None
    """Path below the mirror; None for the digits, which are made from scikit-learn's copy."""
    member: str = ""
    """In a zip: the member that a recipe opens."""
    sha256: str
    """Of the file; of the digits: of the pixels followed by the labels, one byte each."""
    size: int
    """Bytes behind `sha256`."""
    licence: str
    source: str


CATALOGUE: Mapping[str, DataSet] = {
    "adult": DataSet(
        about="32561 people of the 1994 US census; target income, 2 classes",
        file="tabular/adult_train.csv",
        sha256="3b8a6abd697a6623ef2ccbffc3e2802e167e7fdaa853003d3bd557b0ce7f5d2a",
        size=3518606,
        licence="CC BY 4.0",
        source="UCI Machine Learning Repository, Adult (the official training file)",
    ),
    "california_housing": DataSet(
        about="16415 districts of the 1990 US census; target median_house_value in dollars",
        file="tabular/california_housing_train.csv",
        sha256="8b9bb8ef8f1242642383dc8ab1533cf8123079c1d8cf28807dfeea71d81c52f1",
        size=1132227,
        licence="none stated; US census figures",
        source="Pace and Barry 1997, through StatLib and GitHub ageron/data (80 % of the rows)",
    ),
    "digits": DataSet(
        about="1797 scans of handwritten digits, 8 x 8 grey pixels, 10 classes",
        file=None,
        sha256="87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826",
        size=116805,
        licence="CC BY 4.0",
        source="Alpaydin and Kaynak 1998, UCI Optical Recognition of Handwritten Digits",
    ),
    "penguins": DataSet(
        about="283 penguins with missing cells, dates and free text; target Species, 3 classes",
        file="tabular/penguins_train.csv",
        sha256="ed87b5df3647fd28ab269b6558ce05f94216a08dbf8b4cb84ecdeb44870c21c1",
        size=43670,
        licence="CC0",
        source="GitHub allisonhorst/palmerpenguins, penguins_raw.csv (80 % of the rows)",
    ),
    "sign_digits": DataSet(
        about="1650 colour photos of hands signing 0 to 9, 100 x 100 pixels, 10 classes",
        file="sign_digits/sign_digits.zip",
        member="index.csv",
        sha256="d554744e0a7c2209fb0b35b9093df3a5ccefea562e10f32d9c8827c885bbd2d1",
        size=5032811,
        licence="Apache 2.0",
        source="A. Mavi, arXiv:2011.08927, GitHub ardamavi/Sign-Language-Digits-Dataset",
    ),
    "wine_quality": DataSet(
        about="5217 red and white wines; target quality, 3 to 9",
        file="tabular/wine_quality_train.csv",
        sha256="c7ec1b60faf08d357778dedf6479b34bf5ff02e2d0e6cf412dffa4303573bd9c",
        size=308523,
        licence="CC BY 4.0",
        source="UCI Machine Learning Repository, Wine Quality (80 % of the rows)",
    ),
}


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
        The table; the class folder of the digits; the manifest of a zip, whose image paths are
        relative to it.
    """
    # The checksum in the name: other bytes under the same name never meet.
    home = cache_folder("data") / f"{name}-{data_set.sha256[:12]}"
    if data_set.file is None:
        return write_folder_once(home, lambda folder: _write_digits(folder, data_set))
    if data_set.file.endswith(".zip"):
        unpacked = write_folder_once(home, lambda folder: _unpack_into(folder, data_set))
        return unpacked / data_set.member
    local = home / PurePosixPath(data_set.file).name
    if not local.is_file() or sha256(local) != data_set.sha256:
        _fetch(data_set, local)
    return local


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


def _unpack_into(folder: Path, data_set: DataSet) -> None:
    archive = folder / ".archive.zip"
    _fetch(data_set, archive)
    unpack(archive, folder)
    archive.unlink()


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


def _fetch(data_set: DataSet, to: Path) -> None:
    """Copy the data set's file from the mirror; only bytes with the right checksum are kept."""

    def write(temporary: Path) -> None:
        digest, size = hashlib.sha256(), 0
        with temporary.open("wb") as file:
            for chunk in _chunks(data_set):
                digest.update(chunk)
                file.write(chunk)
                size += len(chunk)
                if size > data_set.size:
                    break
        if digest.hexdigest() != data_set.sha256:
            raise DataError(
                f"{_address(data_set)} is not the file the catalogue knows: sha256 "
                f"{digest.hexdigest()} of {'more than ' if size > data_set.size else ''}"
                f"{min(size, data_set.size)} bytes, expected {data_set.sha256} of "
                f"{data_set.size}. Nothing was kept; replace the file in the mirror and run again."
            )

    write_atomic(to, write)


def _chunks(data_set: DataSet) -> Iterator[bytes]:
    """Yield the file's bytes; every failure to read becomes a DataError."""
    address = _address(data_set)
    read = _download if address.startswith(("http://", "https://")) else _read_file
    try:
        yield from read(address)
    except OSError as error:
        raise DataError(
            f"Could not read {address}: {error.strerror or error}. {MIRROR} must name a folder or "
            f"an http(s) address that holds {data_set.file} (sha256 {data_set.sha256})."
        ) from None


def _address(data_set: DataSet) -> str:
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    if not mirror:
        raise DataError(
            f"{MIRROR} is not set, and {data_set.file} is not in the cache yet. Set {MIRROR} to a "
            f"folder or an http(s) address that holds {data_set.file} (sha256 {data_set.sha256}, "
            f"{data_set.size} bytes; {data_set.source}; licence {data_set.licence})."
        )
    return f"{mirror}/{data_set.file}"


def _read_file(path: str) -> Iterator[bytes]:
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _download(address: str) -> Iterator[bytes]:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(address, timeout=_TIMEOUT) as response:
            while chunk := response.read(_CHUNK):
                yield chunk
    except HTTPError as error:
        error.close()
        raise OSError(f"the server answered {error.code} {error.reason}") from None
    except HTTPException as error:
        raise OSError(f"the connection broke: {error!r}") from None
