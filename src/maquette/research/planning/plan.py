"""What a research plan consists of. `plan_reading.py` makes it from Markdown.

Every item is a heading of the third level in one of the four sections, and names one piece of code
in the project, which one test file tests:

| section | kind | code, unless `- code:` says otherwise | example |
| --- | --- | --- | --- |
| Dataset Plan | dataset | function `load_NAME` in data/dataset.py | `### Adult` -> load_adult |
| Model Plan | model | class in model/NAME.py | `### Batch ensemble` -> BatchEnsemble |
| Training Plan | loss | function in training/loss.py | `### Mean loss` -> mean_loss |
| Testing Plan | metric | function in testing/metrics.py | `### Accuracy` -> accuracy |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["dataset", "model", "loss", "metric"]

SECTIONS: Mapping[str, Kind] = {
    "Dataset Plan": "dataset",
    "Model Plan": "model",
    "Training Plan": "loss",
    "Testing Plan": "metric",
}
"""Heading of the second level -> the kind of the items below it. All four are needed, each with at
least one item."""


@dataclass(frozen=True)
class Formula:
    """A formula between `$$` marks, in LaTeX."""

    text: str
    line: int
    symbols: tuple[str, ...] = ()
    """What it names, in order: `L`, `y_i`, `p_{ik}`; empty where it could not be parsed."""
    warning: str | None = None
    """Why it could not be parsed; the text is kept as it is."""


@dataclass(frozen=True)
class Item:
    """One thing the plan promises."""

    kind: Kind
    name: str
    """The heading, as written."""
    line: int
    """Line of the heading in the plan, from 1."""
    file: str
    """The file of the project that holds it, such as "model/tabm.py"."""
    symbol: str
    """The class or function in that file."""
    text: str
    """The definition: everything below the heading that is neither a field nor a formula."""
    fields: Mapping[str, str]
    """`- key: value` lines, keys in lower case: source, sha256, goal, range, …"""
    formulas: tuple[Formula, ...] = ()

    @property
    def slug(self) -> str:
        """The name in a Python identifier: lower case, other characters as `_`."""
        return slug(self.name)

    @property
    def test_file(self) -> str:
        """The file of the project that tests it."""
        return f"tests/test_{self.slug}.py"


@dataclass(frozen=True)
class Plan:
    """A whole plan."""

    path: str
    title: str
    question: str
    """The text between the title and the first section: what is to be found out."""
    items: tuple[Item, ...]
    training: Mapping[str, str]
    """Fields of the Training Plan outside an item: optimizer, learning_rate, epochs, seeds, …"""
    testing: Mapping[str, str]
    """Fields of the Testing Plan outside an item: compare, confidence, …"""
    warnings: tuple[str, ...] = ()
    """path:line and what is odd, such as a formula that was kept as text."""

    def of_kind(self, kind: Kind) -> tuple[Item, ...]:
        """The items of one section, in the plan's order."""
        return tuple(item for item in self.items if item.kind == kind)


def slug(name: str) -> str:
    """Return `name` as a Python identifier in lower case: "Wine quality" -> "wine_quality"."""
    letters = "".join(c if c.isascii() and c.isalnum() else "_" for c in name.strip().lower())
    short = "_".join(part for part in letters.split("_") if part)
    return f"item_{short}" if not short or short[0].isdigit() else short
