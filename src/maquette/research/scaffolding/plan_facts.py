"""What the fields of a plan mean for the code: where data files lie, how training is set."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from maquette.data.catalogue import CATALOGUE, PREFIX
from maquette.errors import DataError, RunError
from maquette.files import sha256
from maquette.research.planning.plan import Item, Plan

OPTIMIZERS = (
    "Adadelta",
    "Adagrad",
    "Adam",
    "Adamax",
    "AdamW",
    "NAdam",
    "RAdam",
    "RMSprop",
    "SGD",
)
"""Optimizers of torch that need nothing but parameters and a learning rate."""

LEAST = {"numpy": "2.0.0", "pytest": "8.3.0", "scikit-learn": "1.6.0", "torch": "2.6.0"}
"""What a project may need -> the version it is pinned to where none is installed here."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the file of a data set comes from."""

    file: str
    """Path below the mirror; empty for what scikit-learn ships."""
    sha256: str
    url: str = ""
    path: str = ""
    """Where it lies on this machine, relative to the project."""
    member: str = ""
    """In a zip: what to open."""

    @property
    def fetch(self) -> str:
        """The function of the project's utils/download.py that brings it here, "" for none."""
        if not self.file:
            return ""
        return "fetch_unpacked" if self.file.endswith(".zip") else "fetch"


def source_of(item: Item, plan: Plan, project: Path) -> Source:
    """Return where the file of a data set comes from.

    Args:
        project: where the project will be; a local path is written relative to it.
    Raises:
        DataError: a local file is missing, a folder, or has another checksum than the plan says.
    """
    source, digest = item.fields["source"], item.fields.get("sha256", "").lower()
    if source.startswith(PREFIX):
        known = CATALOGUE[source.removeprefix(PREFIX)]
        return Source(
            file=known.file or "", sha256=known.sha256, url=known.url, member=known.member
        )
    path = local_path(item, plan)
    if path is None:
        return Source(file=_mirrored(item, source, digest), sha256=digest, url=source)
    return _local(path, f"{plan.path}:{item.line}: {item.name}: {path}", project, digest)


def local_path(item: Item, plan: Plan) -> Path | None:
    """Return where the file of a data set lies on this machine, None where it is fetched."""
    source = item.fields["source"]
    if source.lower().startswith((PREFIX, "https://", "http://")):
        return None
    return (Path(plan.path).parent / Path(source).expanduser()).resolve()


def _mirrored(item: Item, url: str, digest: str) -> str:
    """Return the path of a downloaded file below the mirror: the catalogue's, where it knows it."""
    for known in CATALOGUE.values():
        if known.file and known.sha256 == digest:
            return known.file
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", PurePosixPath(unquote(urlsplit(url).path)).name)
    return f"{item.slug}/{name.strip('.') or 'data'}"


def _local(path: Path, place: str, project: Path, digest: str) -> Source:
    if path.is_dir():
        raise DataError(
            f"{place} is a folder, which has no checksum; pack it into one zip file and name that."
        )
    if not path.is_file():
        raise DataError(
            f"{place} is not there. Put the file there, or name catalogue:NAME or an https:// "
            "address; a local path is relative to the plan."
        )
    try:
        found = sha256(path)
    except OSError as error:
        raise RunError(f"{place} cannot be read: {error.strerror or error}.") from error
    if digest and found != digest:
        raise DataError(
            f"{place} has sha256 {found}, the plan says {digest}. Replace the file, or correct the "
            "line '- sha256: …'."
        )
    return Source(file=path.name, sha256=found, path=relative_to(path, project))


def relative_to(path: Path, folder: Path) -> str:
    """Return `path` as seen from `folder`; whole where they are on different drives."""
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:
        return path.as_posix()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How training is set: what the plan says, and what it does not say."""

    epochs: int = 10
    seeds: int = 3
    """How many: 0, 1, 2, …"""
    batch_size: int = 128
    learning_rate: float = 1e-3
    optimizer: str = ""
    """A class of torch.optim; empty when the plan names none of `OPTIMIZERS`."""
    weight_decay: float | None = None
    momentum: float | None = None
    by_hand: tuple[str, ...] = ()
    """Fields that no default of the project stands for: "schedule: cosine"."""

    @property
    def optimizer_options(self) -> list[tuple[str, float]]:
        """What the optimizer is given besides parameters and the learning rate."""
        options = {"weight_decay": self.weight_decay, "momentum": self.momentum}
        return [(name, value) for name, value in options.items() if value is not None]


def settings_of(training: Mapping[str, str]) -> Settings:
    """Read the fields of the Training Plan; what is no single number is left to a person."""
    found: dict[str, object] = {}
    by_hand: list[str] = []
    for key, value in training.items():
        name = re.sub(r"[ -]+", "_", key.strip().lower())
        meaning = _meaning({"lr": "learning_rate"}.get(name, name), value.strip())
        if meaning is None:
            by_hand.append(f"{key}: {value}")
        else:
            found |= meaning
    if not set(found) & {"optimizer"}:
        taken = [key for key in ("weight_decay", "momentum") if key in found]
        by_hand += [f"{key}: {found.pop(key)}" for key in taken]
    elif "momentum" in found and found["optimizer"] not in ("SGD", "RMSprop"):
        by_hand.append(f"momentum: {found.pop('momentum')}")
    return Settings(**found, by_hand=tuple(by_hand))  # type: ignore[arg-type]


def _meaning(key: str, value: str) -> dict[str, object] | None:
    """Return the setting that a field is, None where it is none that the project knows."""
    if key == "optimizer":
        near = {name.lower(): name for name in OPTIMIZERS}.get(value.lower())
        return {"optimizer": near} if near else None
    if key in ("epochs", "seeds", "batch_size"):
        if not re.fullmatch(r"0*[1-9][0-9]{0,8}", value):
            return None
        return {key: int(value)}
    if key in ("learning_rate", "weight_decay", "momentum"):
        try:
            number = float(value)
        except ValueError:
            return None
        return {key: number} if math.isfinite(number) and number >= 0 else None
    return None


def requirements(sources: Mapping[str, Source]) -> list[str]:
    """Return the pinned requirements of a new project, in the versions installed here."""
    names = {"numpy", "pytest", "torch"}
    if any(not source.file for source in sources.values()):
        names.add("scikit-learn")
    return [f"{name}=={_installed(name)}" for name in sorted(names)]


def _installed(name: str) -> str:
    """Return the version without its local part: 2.13.0 of 2.13.0+cpu is on every index."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return LEAST[name]
