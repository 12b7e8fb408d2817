"""What the fields of a plan mean: where code lies, where data comes from, ranges, comparisons.

Each function takes the text behind `key:` and returns its value, or raises ValueError with what was
given, what is expected and the smallest fix; `plan_reading.py` puts the file and line before it.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from maquette.data.catalogue import CATALOGUE, PREFIX
from maquette.errors import nearest, one_of
from maquette.research.planning.plan import Kind, slug

FOLDERS = ("model", "data", "training", "testing", "utils")
"""Folders of a project that may hold the code of an item."""
GOALS = ("higher", "lower")
_COMPARISON = re.compile(r"(.+?)\s+against\s+(.+)", re.IGNORECASE)


def default_place(kind: Kind, name: str) -> tuple[str, str]:
    """Return the file and the class or function of an item without a `code` field."""
    word = slug(name)
    if kind == "model":
        return f"model/{_free(word)}.py", _free(_class_name(name))
    if kind == "dataset":
        return "data/dataset.py", f"load_{word}"
    return ("training/loss.py" if kind == "loss" else "testing/metrics.py"), _free(word)


def code_place(text: str) -> tuple[str, str]:
    """Parse FILE:NAME, such as "model/tabm.py:TabM"."""
    file, colon, symbol = text.rpartition(":")
    example = "such as model/tabm.py:TabM"
    if not colon or not file.endswith(".py"):
        raise ValueError(
            f"code is {text!r}; expected a file of the project, a colon and a class or function, "
            f"{example}"
        )
    path = PurePosixPath(file)
    if len(path.parts) < 2 or path.parts[0] not in FOLDERS:
        raise ValueError(
            f"code is {text!r}; the file must lie in {', '.join(f'{name}/' for name in FOLDERS)} "
            f"of the project, {example}"
        )
    for part in (*path.parts[:-1], path.stem, symbol):
        if not _is_name(part):
            raise ValueError(
                f"code is {text!r}; {part!r} is not a name in Python. Use letters, digits and _, "
                f"{example}"
            )
    return str(path), symbol


def source_facts(fields: Mapping[str, str], folder: Path) -> tuple[dict[str, str], str]:
    """Check where a data set comes from.

    Args:
        fields: the fields of the item.
        folder: where the plan lies; a local path is relative to it.
    Returns:
        What to add to the fields (the checksum of a catalogue entry), and a warning or "".
    """
    source, given = fields.get("source", ""), fields.get("sha256", "").lower()
    if not source:
        raise ValueError(
            f"the data set has no source.{_spelling('source', fields)} Add a line "
            f"'- source: …' with {PREFIX}NAME, an https:// address or a local path"
        )
    if given and not re.fullmatch(r"[0-9a-f]{64}", given):
        raise ValueError(
            f"sha256 is {given!r}; expected 64 hexadecimal digits, as `sha256sum FILE` prints them"
        )
    known = {"sha256": given} if given else {}
    if source.startswith(PREFIX):
        return _catalogue_facts(source.removeprefix(PREFIX), given), ""
    if scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", source):
        return _address_facts(source, scheme[1].lower(), known), ""
    if not (folder / source).exists():
        return known, f"there is no {source} beside the plan; a run will need it"
    return known, ""


def _catalogue_facts(name: str, given: str) -> dict[str, str]:
    if name not in CATALOGUE:
        raise ValueError(one_of("data set", name, CATALOGUE).removesuffix("."))
    expected = CATALOGUE[name].sha256
    if given and given != expected:
        raise ValueError(
            f"sha256 is {given}, but {PREFIX}{name} has {expected}; leave the line out, the "
            "catalogue knows it"
        )
    return {"sha256": expected}


def _address_facts(source: str, scheme: str, known: dict[str, str]) -> dict[str, str]:
    if scheme not in ("https", "http") or not re.match(r"https?://[^/\s]", source, re.IGNORECASE):
        raise ValueError(
            f"source is {source!r}; expected {PREFIX}NAME, an https:// address or a local path"
        )
    if not known:
        raise ValueError(
            f"{source} needs its checksum, so that every run reads the same bytes. Download it "
            "once and add a line '- sha256: …' with what `sha256sum FILE` prints"
        )
    return known


def metric_range(text: str) -> tuple[float, float]:
    """Parse LOW to HIGH, such as "0 to 1" or "0 to inf"."""
    ends = re.split(r"\s+to\s+", text.strip().lower().replace("−", "-"))
    try:
        low, high = (float(end) for end in ends)
    except ValueError:
        low = high = math.nan
    if not low < high:
        raise ValueError(
            f"range is {text!r}; expected the lower end, 'to' and the higher end, such as 0 to 1 "
            "or 0 to inf"
        )
    return low, high


def metric_goal(fields: Mapping[str, str]) -> str:
    """Return "higher" or "lower": which values of a metric are good."""
    goal = fields.get("goal", "")
    if not goal:
        raise ValueError(
            f"the metric has no goal.{_spelling('goal', fields)} Add '- goal: higher' or "
            "'- goal: lower', whichever is good"
        )
    if goal not in GOALS:
        raise ValueError(f"goal is {goal!r}; expected higher or lower.{nearest(goal, GOALS)}")
    return goal


def comparisons(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Parse "tabm against mlp, trees; mlp against trees" to (("tabm", ("mlp", "trees")), …)."""
    pairs = []
    for part in text.split(";"):
        found = _COMPARISON.fullmatch(part.strip())
        others = tuple(name.strip() for name in found[2].split(",")) if found else ()
        if found is None or not all(others):
            raise ValueError(
                f"compare is {text!r}; expected models of the records, such as tabm against mlp, "
                "trees; separate several comparisons by a semicolon"
            )
        if found[1] in others or len(set(others)) < len(others):
            raise ValueError(f"compare is {text!r}; it names a model twice, remove one")
        pairs.append((found[1], others))
    return tuple(pairs)


def whole_number(key: str, text: str) -> int:
    """Parse a count of at least one, such as epochs or seeds."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise ValueError(f"{key} is {text!r}; expected a whole number of at least 1, such as 5")
    return int(text)


def confidence(text: str) -> float:
    """Parse the coverage of the intervals, such as 0.95."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.5 <= value < 1:
        raise ValueError(
            f"confidence is {text!r}; expected a number of at least 0.5 and below 1, such as 0.95"
        )
    return value


def _class_name(name: str) -> str:
    """Return "BatchEnsemble" for "Batch ensemble"; capitals of the heading stay."""
    words = re.findall(r"[A-Za-z0-9]+", name.strip())
    whole = "".join(word[0].upper() + word[1:] for word in words)
    return whole if _is_name(whole) or keyword.iskeyword(whole) else f"Item{whole}"


def _free(name: str) -> str:
    """Return the name as Python allows it: "lambda" is taken."""
    return f"{name}_" if keyword.iskeyword(name) else name


def _is_name(text: str) -> bool:
    return text.isascii() and text.isidentifier() and not keyword.iskeyword(text)


def _spelling(key: str, fields: Mapping[str, str]) -> str:
    """Return a question about the field that may be a slip for `key`, or ""."""
    near = get_close_matches(key, list(fields), n=1, cutoff=0.7)
    return f" Is its line '- {near[0]}: …' meant?" if near else ""
