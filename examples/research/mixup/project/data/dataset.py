"""The sign digits: 1650 photos of hands, brought here once, their sha256 checked at every run."""

import csv
import hashlib
import io
import os
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data.preprocess import to_pixels

FILE = "sign_digits/sign_digits.zip"
CLASSES = 10
SHA256 = "d554744e0a7c2209fb0b35b9093df3a5ccefea562e10f32d9c8827c885bbd2d1"
HOW_TO_GET_IT = (
    f"Let RESEARCH_MIRROR name a folder that holds {FILE} (sha256 {SHA256}). It is not on the "
    "open internet. It was made of https://github.com/ardamavi/Sign-Language-Digits-Dataset "
    "(Apache 2.0), commit 4b09433ef9d5c60602e8805bb54b8aa2428527f8, folder Dataset: images/*.jpg, "
    "encoded anew as JPEG of quality 90 without metadata, and index.csv (image, label, split)."
)


@dataclass(frozen=True)
class SignDigits:
    """All N photos, in the order of the camera's numbers."""

    pixels: Tensor  # (N, 3, S, S) uint8
    labels: Tensor  # (N,) int64, 0 to 9
    persons: Tensor  # (N,) int64; the same number, the same person's hand


def load_sign_digits(side: int = 32) -> SignDigits:
    """Bring the file here when it is not yet, and decode its photos at `side` × `side` pixels.

    Raises FileNotFoundError when neither cache nor mirror has it, ValueError for other bytes.
    """
    with zipfile.ZipFile(fetch(FILE, SHA256)) as file:
        rows = list(csv.DictReader(io.TextIOWrapper(file.open("index.csv"), "utf-8")))
        rows.sort(key=lambda row: int(re.findall(r"IMG_(\d+)", row["image"])[0]))
        pixels = torch.stack([to_pixels(file.read(row["image"]), side) for row in rows])
    labels = torch.tensor([int(row["label"]) for row in rows])
    return SignDigits(pixels, labels, person_of_each(labels))


def person_of_each(labels: Tensor) -> Tensor:
    """Number the persons: each shows rising digits, so a digit that does not rise is a new one."""
    is_new = torch.ones_like(labels)
    is_new[1:] = labels[1:] <= labels[:-1]
    return is_new.cumsum(dim=0) - 1


def fetch(file: str, sha256: str) -> Path:
    """Return the cached `file`, copied from a mirror when it is not there, with the right bytes.

    RESEARCH_DATA names the cache, data/cache by default; RESEARCH_MIRROR, or else
    MAQUETTE_DATA_MIRROR, a folder that holds `file`.
    """
    cache = os.environ.get("RESEARCH_DATA") or Path(__file__).resolve().parent / "cache"
    cached = Path(cache, file)
    if not cached.is_file():
        mirror = os.environ.get("RESEARCH_MIRROR") or os.environ.get("MAQUETTE_DATA_MIRROR")
        if not mirror or not Path(mirror, file).is_file():
            raise FileNotFoundError(f"There is no {cached}; mirror: {mirror}. {HOW_TO_GET_IT}")
        cached.parent.mkdir(parents=True, exist_ok=True)
        part = cached.with_name(f".{cached.name}.{os.getpid()}")
        shutil.copyfile(Path(mirror, file), part)
        part.replace(cached)  # the name is there only when the file is whole
    found = hashlib.sha256(cached.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{cached} has sha256 {found}; remove it. {HOW_TO_GET_IT}")
    return cached
