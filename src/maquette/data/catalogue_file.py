"""The catalogue as a file: what an entry says, and reading the YAML with errors that name lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maquette.errors import DataError, nearest

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node

SHIPPED = Path(__file__).with_name("catalogue.yaml")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Where a data set was taken from."""

    address: str
    commit: str = ""
    """40 hexadecimal digits; empty where it is not known."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One entry of the catalogue."""

    about: str
    """What it is and what to predict."""
    task: str = ""
    """What it is for, in a word or two."""
    homepage: str = ""
    citation: str = ""
    licence: str
    source: str
    """Where it was taken from, in a line."""
    repositories: tuple[Repository, ...] = ()
    file: str | None = None
    """Path below the mirror; None for the digits, which are made from scikit-learn's copy."""
    member: str = ""
    """In a zip: the member that a recipe opens."""
    sha256: str
    """Of the file; of the digits: of the pixels followed by the labels, one byte each."""
    size: int
    """Bytes behind `sha256`."""
    url: str = ""
    """Where this very file lies on the open internet; empty where it does not."""
    prepared: str = ""
    """How the file was made from its source; empty where it was not changed."""


_ALWAYS = ("about", "task", "homepage", "citation", "licence", "source", "sha256", "size")
_PATTERNS = {
    "sha256": (r"[0-9a-f]{64}", "64 hexadecimal digits in lower case"),
    "commit": (r"[0-9a-f]{40}", "40 hexadecimal digits in lower case"),
    "homepage": (r"https?://\S+", "an http(s) address"),
    "address": (r"https?://\S+", "an http(s) address"),
    "url": (r"https?://\S+", "an http(s) address"),
    "file": (r"(?!/)(?!.*\.\.)[^\\:]+", "a relative path below the mirror"),
    "member": (r"(?!/)(?!.*\.\.)[^\\:]+", "a relative path inside the zip"),
}


def read_catalogue(path: Path = SHIPPED) -> dict[str, DataSet]:
    """Read a catalogue, names in the order of the file.

    Raises:
        DataError: the file is no YAML of this form; the text names line, entry and key.
    """
    import yaml

    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"The catalogue {path} cannot be read: {error}") from None
    entries: dict[str, DataSet] = {}
    for name, (line, node) in _mapping(root, path, "the catalogue").items():
        place = f"{path}:{line}"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise DataError(
                f"{place}: the name {name!r} must be lower-case letters, digits and underscores, a "
                "letter first."
            )
        entries[name] = _entry(name, node, path)
    return entries


def _entry(name: str, node: Node, path: Path) -> DataSet:
    """Check one entry against the fields of DataSet."""
    values = _fields(node, path, name, DataSet)
    place = f"{path}:{node.start_mark.line + 1}"
    missing = [key for key in _ALWAYS if key not in values]
    if missing:
        raise DataError(f"{place}: {name} lacks {', '.join(missing)}.")
    if ("url" in values) == ("prepared" in values):
        raise DataError(
            f"{place}: {name} needs either `url`, where the file lies on the open internet, or "
            "`prepared`, how it was made from its source."
        )
    if str(values.get("file", "")).endswith(".zip") != ("member" in values):
        raise DataError(
            f"{place}: {name}.member must say what a recipe opens when `file` is a zip, and only "
            "then."
        )
    return DataSet(**values)


def _fields(node: Node, path: Path, where: str, kind: type) -> dict[str, Any]:
    """Return the values of a mapping whose keys are fields of `kind`, each checked."""
    known = {field.name: field for field in fields(kind)}
    values: dict[str, Any] = {}
    for key, (line, value) in _mapping(node, path, where).items():
        if key not in known:
            raise DataError(
                f"{path}:{line}: {where} has the unknown key {key!r}.{nearest(key, known)} "
                f"Known: {', '.join(known)}."
            )
        if key == "repositories":
            values[key] = _repositories(value, path, f"{where}.{key}")
        else:
            values[key] = _scalar(key, value, path, f"{where}.{key}")
    lacking = [
        name
        for name, field in known.items()
        if field.default is MISSING and name not in values and kind is not DataSet
    ]
    if lacking:
        raise DataError(f"{path}:{node.start_mark.line + 1}: {where} lacks {', '.join(lacking)}.")
    return values


def _repositories(node: Node, path: Path, where: str) -> tuple[Repository, ...]:
    from yaml.nodes import SequenceNode

    if not isinstance(node, SequenceNode):
        raise DataError(f"{path}:{node.start_mark.line + 1}: {where} must be a list.")
    return tuple(
        Repository(**_fields(item, path, f"{where}[{index}]", Repository))
        for index, item in enumerate(node.value)
    )


def _scalar(key: str, node: Node, path: Path, where: str) -> str | int:
    from yaml.nodes import ScalarNode

    place = f"{path}:{node.start_mark.line + 1}"
    if not isinstance(node, ScalarNode) or not node.value.strip():
        raise DataError(f"{place}: {where} must be a text, not empty.")
    text: str = node.value.strip()
    if key == "size":
        if not re.fullmatch(r"[1-9][0-9]*", text):
            raise DataError(f"{place}: {where} is {text!r}, expected a number of bytes.")
        return int(text)
    pattern, expected = _PATTERNS.get(key, ("", ""))
    if pattern and not re.fullmatch(pattern, text):
        raise DataError(f"{place}: {where} is {text!r}, expected {expected}.")
    return text


def _mapping(node: Node | None, path: Path, where: str) -> Mapping[str, tuple[int, Node]]:
    """Return key -> (line of the key, value); a key may not come twice."""
    from yaml.nodes import MappingNode as Mapping_

    if not isinstance(node, Mapping_):
        line = 1 if node is None else node.start_mark.line + 1
        raise DataError(f"{path}:{line}: {where} must be a mapping of names to values.")
    found: dict[str, tuple[int, Node]] = {}
    pairs: MappingNode = node
    for key, value in pairs.value:
        line = key.start_mark.line + 1
        if str(key.value) in found:
            raise DataError(f"{path}:{line}: {where} has {key.value!r} twice.")
        found[str(key.value)] = (line, value)
    return found
