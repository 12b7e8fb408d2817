"""The two tables: where they come from, what their columns mean, what is predicted."""

import csv
import hashlib
import os
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import numpy as np


class Table(NamedTuple):
    """All n rows of a data set, before anything is fitted, and the checksum of the file."""

    numbers: np.ndarray  # (n, numeric columns)
    categories: np.ndarray  # (n, categorical columns), text
    y: np.ndarray  # (n,), the class from 0
    groups: np.ndarray  # (n,), an integer; the same for rows that are equal in every column
    sha256: str


def load_adult() -> Table:
    """Read Adult: does a person earn more than 50 000 dollars a year?"""
    file = fetch(
        "tabular/adult_train.csv",
        "3b8a6abd697a6623ef2ccbffc3e2802e167e7fdaa853003d3bd557b0ce7f5d2a",
        made="adult-train.csv of github.com/jbrownlee/Datasets: a header, no spaces after commas",
    )
    names = "workclass education marital_status occupation relationship race sex native_country"
    return read(file, "income", {"<=50K": 0, ">50K": 1}, categories=names, left_out="fnlwgt")


def load_wine_quality() -> Table:
    """Read wine quality: which mark did the tasters give? Rare marks join their neighbour."""
    file = fetch(
        "tabular/wine_quality_train.csv",
        "c7ec1b60faf08d357778dedf6479b34bf5ff02e2d0e6cf412dffa4303573bd9c",
        made="winequality-*.csv of github.com/jbrownlee/Datasets: with color, 80 % of the rows",
    )
    class_of = {"3": 0, "4": 0, "5": 1, "6": 2, "7": 3, "8": 4, "9": 4}
    return read(file, "quality", class_of, categories="color")


def read(file: Path, target: str, class_of: dict, categories: str, left_out: str = "") -> Table:
    """Read a CSV file; a column that is not named here is numeric."""
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    numeric = [name for name in rows[0] if name not in {target, left_out, *categories.split()}]
    group_of: dict[tuple[str, ...], int] = {}
    return Table(
        numbers=np.array([[float(row[name]) for name in numeric] for row in rows]),
        categories=np.array([[row[name] for name in categories.split()] for row in rows]),
        y=np.array([class_of[row[target]] for row in rows]),
        groups=np.array([group_of.setdefault(tuple(row.values()), len(group_of)) for row in rows]),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )


def fetch(name: str, sha256: str, *, made: str) -> Path:
    """Return a data file with the right bytes: from the cache, else copied from the mirror.

    RESEARCH_DATA names the cache (else data/cache), RESEARCH_MIRROR or MAQUETTE_DATA_MIRROR a
    folder or an http(s) address. The program ends when the file cannot be had.
    """
    file = Path(os.environ.get("RESEARCH_DATA") or Path(__file__).parent / "cache", name)
    if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256:
        return file
    mirror = os.environ.get("RESEARCH_MIRROR") or os.environ.get("MAQUETTE_DATA_MIRROR")
    if not mirror:
        made = f"It is not on the open internet; it was made from {made}."
        raise SystemExit(f"{file} is not here: set RESEARCH_MIRROR to what holds {name}. {made}")
    is_address = mirror.startswith(("http://", "https://"))
    address = f"{mirror.rstrip('/') if is_address else Path(mirror).resolve().as_uri()}/{name}"
    try:
        with urlopen(address, timeout=60) as source:
            content = source.read()
    except OSError as error:
        raise SystemExit(f"Could not read {address}: {error}.") from error
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise SystemExit(f"{address} has sha256 {found}, expected {sha256}: another file.")
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    part.write_bytes(content)
    return part.replace(file)
