"""Markdown -> Plan: `read_plan` finds every mistake of a plan and tells them all at once.

    read_outline (headings, fields, formulas) ─► _sections ─► read_item for each ─► Plan

The grammar is in docs/research-plan.md; `template.py` has a plan to fill in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from maquette.errors import DataError, UsageError
from maquette.research.planning import plan_values as values
from maquette.research.planning.plan import SECTIONS, Item, Plan
from maquette.research.planning.plan_items import Notes, read_fields, read_item
from maquette.research.planning.plan_outline import Part, read_outline

_LARGEST = 200_000  # bytes; what is larger is no text that people read


def read_plan(path: str | Path) -> Plan:
    """Read and check a research plan.

    Raises:
        UsageError: there is no such file.
        DataError: it is no text, or no plan; there is a line for every mistake, with the file, the
            line and the smallest fix.
    """
    return parse_plan(_text_of(Path(path)), str(path))


def parse_plan(text: str, path: str) -> Plan:
    """Check the text of a plan.

    Args:
        path: where it lies; messages name it, and local sources are relative to its folder.
    Raises:
        DataError: as `read_plan`.
    """
    parts = read_outline(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
    notes = Notes(path)
    title, question = _title(parts, notes)
    sections = _sections(parts, notes)
    items = tuple(
        read_item(part, SECTIONS[name], notes)
        for name, (_, below) in sections.items()
        for part in below
        if part.heading
    )
    settings = {name: _settings(name, head, notes) for name, (head, _) in sections.items()}
    _refuse_twins(items, notes)
    _need_a_loss_formula(sections, notes)
    _note_oddities(parts, notes)
    if notes.problems:
        raise DataError("\n".join(notes.told(notes.problems)))
    return Plan(
        path=path,
        title=title,
        question=question,
        items=tuple(sorted(items, key=lambda item: item.line)),
        training=settings["Training Plan"],
        testing=settings["Testing Plan"],
        warnings=notes.told(notes.warnings),
    )


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes() if path.stat().st_size <= _LARGEST else None
    except FileNotFoundError:
        raise UsageError(
            f"There is no plan {path}. `maquette research plan template > plan_res.md` writes one "
            "to fill in."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a path that no system allows
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"Could not read the plan {path}: {reason}.") from None
    if content is None:
        raise DataError(
            f"{path} has more than {_LARGEST} bytes; a plan is a text that people read."
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: the byte {content[error.start]:#04x} is not UTF-8; save the plan as "
            "UTF-8 text."
        ) from None


def _title(parts: Sequence[Part], notes: Notes) -> tuple[str, str]:
    """Return the title and the question below it."""
    titles = [part for part in parts if part.level == 1]
    if not titles or not titles[0].heading:
        line = titles[0].line if titles else 1
        notes.problem(line, "the plan has no title; begin it with '# Title' and the question below")
        return "", ""
    for other in titles[1:]:
        notes.problem(
            other.line,
            f"a second title {other.heading!r}; line {titles[0].line} has the first. Make it a "
            "section (##) or an item (###)",
        )
    question = "\n\n".join(part.text for part in (parts[0], titles[0]) if part.text)
    if not question:
        notes.warn(
            titles[0].line,
            "the plan asks no question; write below the title what is to be found out",
        )
    return titles[0].heading, question


_Sections = dict[str, tuple[Part, list[Part]]]
"""Heading -> the section itself and the items below it."""


def _sections(parts: Sequence[Part], notes: Notes) -> _Sections:
    """Sort the items into the four sections; tell what is missing, double or unknown."""
    sections: _Sections = {}
    unknown: list[Part] = []
    below: list[Part] | None = None  # None: no section has begun
    for part in parts:
        if part.level == 1:
            below = None
        elif part.level == 2:
            below = _open_section(part, sections, unknown, notes)
        elif part.level == 3 and below is None:
            notes.problem(
                part.line,
                f"'### {part.heading}' stands in no section; put it below one of {_listed()}",
            )
        elif part.level == 3 and below is not None:
            below.append(part)
    _tell_missing(sections, unknown, notes)
    for name, (head, items) in sections.items():
        if not items:
            notes.problem(head.line, f"'## {name}' has no item; add '### Name' below it")
        for item in items:
            if not item.heading:
                notes.problem(item.line, "the item has no name; write one behind ###")
    return sections


def _open_section(part: Part, sections: _Sections, unknown: list[Part], notes: Notes) -> list[Part]:
    """Return the list that takes the items below a heading."""
    plain = " ".join(part.heading.removesuffix(":").split()).casefold()
    name = next((name for name in SECTIONS if name.casefold() == plain), None)
    if name is None:
        unknown.append(part)
        return []
    if name in sections:
        first, items = sections[name]
        notes.problem(
            part.line,
            f"'## {name}' comes a second time; line {first.line} has the first. Join them",
        )
        return items
    sections[name] = (part, [])
    return sections[name][1]


def _tell_missing(sections: _Sections, unknown: Sequence[Part], notes: Notes) -> None:
    headings = {part.heading: part.line for part in unknown}
    for name in SECTIONS:
        if name not in sections:
            near = get_close_matches(name, headings, n=1)
            line = headings[near[0]] if near else 1
            fix = (
                f"is '## {near[0]}' meant? Give it that name"
                if near
                else "add it, with '### Name' below it"
            )
            notes.problem(line, f"the section '## {name}' is missing; {fix}")
    for part in unknown:
        notes.warn(
            part.line,
            f"no command reads the section '## {part.heading}'; it stays as it is. Those that are "
            f"read: {_listed()}",
        )


def _listed() -> str:
    return ", ".join(f"'## {name}'" for name in SECTIONS)


def _settings(name: str, head: Part, notes: Notes) -> dict[str, str]:
    """Return the fields of a section outside its items, checked."""
    for formula in head.formulas:
        notes.warn(formula.line, f"the formula belongs to no {SECTIONS[name]}{_PUT_BELOW}")
    if name not in _CHECKS:
        for given in head.fields:
            notes.warn(given.line, f"'- {given.key}:' belongs to no {SECTIONS[name]}{_PUT_BELOW}")
        return {}
    fields, lines = read_fields(head, name, notes)
    for key, parse in _CHECKS[name].items():
        if fields.get(key):
            notes.attempt(lines[key], parse, fields[key])
    return fields


_PUT_BELOW = "; put it below a '### Name', where it is read"
_CHECKS: Mapping[str, Mapping[str, Callable[[str], object]]] = {
    "Training Plan": {
        "epochs": partial(values.whole_number, "epochs"),
        "seeds": partial(values.whole_number, "seeds"),
    },
    "Testing Plan": {"compare": values.comparisons, "confidence": values.confidence},
}
"""Sections that have fields of their own, and what is checked of them."""


def _refuse_twins(items: Sequence[Item], notes: Notes) -> None:
    """Two items may share neither a name in code nor a place."""
    names: dict[str, Item] = {}
    places: dict[tuple[str, str], Item] = {}
    for item in sorted(items, key=lambda item: item.line):
        first = names.setdefault(item.slug, item)
        same = places.setdefault((item.file, item.symbol), item)
        if first is not item:
            notes.problem(
                item.line,
                f"the item {item.name!r} is called {item.slug} in code, as {first.name!r} on line "
                f"{first.line}; rename one (letters from a to z and digits tell names apart)",
            )
        elif same is not item:
            notes.problem(
                item.line,
                f"the item {item.name!r} has its code in {item.file}:{item.symbol}, as "
                f"{same.name!r} on line {same.line}; give one another with '- code: FILE:NAME'",
            )


def _need_a_loss_formula(sections: _Sections, notes: Notes) -> None:
    head, losses = sections.get("Training Plan", (None, []))
    if head and losses and not any(f.text for loss in losses for f in loss.formulas):
        notes.problem(
            head.line,
            "'## Training Plan' has no formula; write the loss between $$ marks below its "
            "'### Name', such as $$ L = -\\log p_y $$",
        )


def _note_oddities(parts: Sequence[Part], notes: Notes) -> None:
    for part in parts:
        for line, text in part.odd:
            notes.warn(line, text)
        for formula in part.formulas:
            if formula.warning:
                notes.warn(formula.line, f"the formula is kept as text: {formula.warning}")
