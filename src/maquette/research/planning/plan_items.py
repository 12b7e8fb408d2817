"""One part of a plan -> one item: its fields are checked, its code gets a place.

Nothing here stops at the first mistake: `Notes` collects them with their lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import ParamSpec, TypeVar

from maquette.research.planning import plan_values as values
from maquette.research.planning.plan import Item, Kind
from maquette.research.planning.plan_outline import Field, Part

P = ParamSpec("P")
T = TypeVar("T")

_MEANT: Mapping[str, tuple[str, ...]] = {
    "dataset": ("source", "sha256", "code"),
    "model": ("code",),
    "loss": ("code",),
    "metric": ("goal", "range", "baseline", "code"),
    "Training Plan": ("epochs", "seeds"),
    "Testing Plan": ("compare", "confidence"),
}
"""Keys that commands look for; a near spelling of one is warned about. All others are free."""
_MOST = 50  # notes that are told at once


@dataclass
class Notes:
    """What is wrong and what is odd in one file."""

    path: str
    problems: list[tuple[int, str]] = field(default_factory=list)
    warnings: list[tuple[int, str]] = field(default_factory=list)

    def problem(self, line: int, text: str) -> None:
        """Note what makes the plan unusable."""
        self.problems.append((line, text))

    def warn(self, line: int, text: str) -> None:
        """Note what is odd."""
        self.warnings.append((line, text))

    def attempt(
        self, line: int, parse: Callable[P, T], *given: P.args, **named: P.kwargs
    ) -> T | None:
        """Return `parse(…)`; or note its ValueError and return None."""
        try:
            return parse(*given, **named)
        except ValueError as error:
            self.problem(line, str(error))
            return None

    def told(self, notes: Sequence[tuple[int, str]]) -> tuple[str, ...]:
        """Return "path:line: sentence" in the order of the file; of very many, the first."""
        ordered = sorted(set(notes))
        more = len(ordered) - _MOST
        if more > 0:
            last = (ordered[_MOST][0], f"{more} more from here on; mend the first ones first")
            ordered = [*ordered[:_MOST], last]
        return tuple(
            f"{self.path}:{line}: {text if text.endswith(('.', '?')) else f'{text}.'}"
            for line, text in ordered
        )


def read_item(part: Part, kind: Kind, notes: Notes) -> Item:
    """Make an item of the part below its heading; mistakes go to `notes`."""
    fields, lines = read_fields(part, kind, notes)
    file, symbol = values.default_place(kind, part.heading)
    if "code" in fields:
        place = notes.attempt(lines["code"], values.code_place, fields["code"])
        file, symbol = place or (file, symbol)
    item = Item(
        kind=kind,
        name=part.heading,
        line=part.line,
        file=file,
        symbol=symbol,
        text=part.text,
        fields=fields,
        formulas=tuple(part.formulas),
    )
    if kind == "dataset":
        return _dataset(item, lines, notes)
    if kind == "metric":
        _metric(item, lines, notes)
    elif kind == "model" and not (item.text or item.formulas):
        notes.warn(part.line, f"{part.heading} has no definition; say below it what it computes")
    return item


def read_fields(part: Part, meant: str, notes: Notes) -> tuple[dict[str, str], dict[str, int]]:
    """Return the fields of a part, and the line of each.

    Args:
        meant: whose keys these may be: a kind of item, or the heading of a section.
    """
    found: dict[str, Field] = {}
    for given in part.fields:
        if given.key in found:
            notes.problem(
                given.line,
                f"'- {given.key}:' is given a second time; line {found[given.key].line} has the "
                "first. Keep one",
            )
        elif not given.value:
            notes.problem(
                given.line, f"'- {given.key}:' has no value; write one behind it or remove the line"
            )
        found.setdefault(given.key, given)
    for key in found.keys() - set(_MEANT[meant]):
        near = get_close_matches(key, _MEANT[meant], n=1, cutoff=0.8)
        if near and near[0] not in found:
            notes.warn(
                found[key].line, f"no command reads '- {key}:' here. Did you mean '- {near[0]}:'?"
            )
    return {k: f.value for k, f in found.items()}, {k: f.line for k, f in found.items()}


def _dataset(item: Item, lines: Mapping[str, int], notes: Notes) -> Item:
    line = next((lines[key] for key in ("source", "sha256") if key in lines), item.line)
    facts = notes.attempt(line, values.source_facts, item.fields, Path(notes.path).parent)
    if facts is None:
        return item
    more, warning = facts
    if warning:
        notes.warn(line, warning)
    return replace(item, fields={**item.fields, **more})


def _metric(item: Item, lines: Mapping[str, int], notes: Notes) -> None:
    notes.attempt(lines.get("goal", item.line), values.metric_goal, item.fields)
    if "range" in item.fields:
        notes.attempt(lines["range"], values.metric_range, item.fields["range"])
