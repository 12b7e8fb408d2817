"""Where a Markdown text shows numbers: the links that point into records, and bare numbers.

Markdown is read by markdown-it, so what stands in code is left alone and links in any notation
are found: `[1](a.json#/b)`, `[**1**](a.json#/b)`, `[1][note]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from maquette.research.numbers.references import split_target

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

PROVEN_SECTIONS = ("Quick Validation Results", "Results")
"""Headings below which a report shows no number without its record."""


@dataclass(frozen=True)
class NumberLink:
    """A link to a JSON file, meant as a number of that record."""

    line: int
    """From 1."""
    column: int
    """Where the link's text begins in its line, from 0; -1 when it cannot be told."""
    text: str
    """What a reader sees: `0.853`, without marks such as `**`."""
    target: str


@dataclass(frozen=True)
class BareNumber:
    """A number without a record, or a link that is none."""

    line: int
    text: str


@dataclass(frozen=True)
class Found:
    """What a text holds."""

    links: tuple[NumberLink, ...]
    broken_links: tuple[BareNumber, ...]
    """Notations such as `[1](a b.json#/c)`, which Markdown shows as text because of the space."""
    bare: tuple[BareNumber, ...]
    """Numbers of the `PROVEN_SECTIONS` outside links, code and names."""


def find_numbers(text: str) -> Found:
    """Read a Markdown text and return its numbers, in the order of the text."""
    lines = lines_of(text)[::2]
    links: list[NumberLink] = []
    broken: list[BareNumber] = []
    bare: list[BareNumber] = []
    proven = False
    cursors: dict[int, int] = {}
    tokens = _markdown().parse(text)
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and before.type == "heading_open" and before.tag in {"h1", "h2"}:
            proven = before.tag == "h2" and token.content.strip() in PROVEN_SECTIONS
        heading = before is not None and before.type == "heading_open"
        if token.type == "inline" and token.map is not None:
            places = _places(token, lines, cursors, in_cell=_is_cell(before))
            links += _links(token, places)
            for line, words in _plain(token):
                broken += [BareNumber(line, found) for found in _BROKEN.findall(words)]
                if proven:
                    bare += [BareNumber(line, n) for n in bare_numbers(words, heading=heading)]
        elif token.type == "html_block" and token.map is not None and proven:
            words = re.sub(r"<[^>]*>", " ", token.content)
            bare += [BareNumber(token.map[0] + 1, n) for n in bare_numbers(words)]
    return Found(tuple(links), tuple(broken), tuple(bare))


_BROKEN = re.compile(r"\[[^\]\n]*\]\([^)\n]*\.json#/[^)\n]*\)?")
_BREAKS = re.compile(r"""[\s()\[\]{}|;=:"'“”„*<>~≈≤≥±]+""")
_STARTS_AS_NUMBER = re.compile(r"[+−–-]?[×$€]?(\.?\d[\d,]*(?:\.\d+)*(?:[eE][+-]?\d+)?)(.*)")
_DATE = re.compile(r"\d{4}-\d\d(?:-\d\d)?[.,]?")
_GOES_ON_AS_NAME = re.compile(r"(?:st|nd|rd|th|D)\b|[-–_./:@]\w*[^\W\d]")


def bare_numbers(words: str, *, heading: bool = False) -> list[str]:
    """Return the numbers of a text that claim something.

    Left out is what is part of a name: `2-epoch`, `top-5`, `v1.2`, `1.2.3`, `3rd`, `2D`, a date,
    and a whole number in a heading.
    """
    found = []
    for word in _BREAKS.split(words):
        match = _STARTS_AS_NUMBER.match(word)
        if match is None or _DATE.fullmatch(word):
            continue
        number, rest = match.groups()
        is_name = (
            _GOES_ON_AS_NAME.match(rest) is not None
            or number.count(".") > 1
            or (heading and number.isdigit())
        )
        if not is_name:
            found.append(number.rstrip(","))
    return found


def lines_of(text: str) -> list[str]:
    """Split a text as Markdown does: lines at even positions, the ends of lines between them."""
    return re.split(r"(\r\n?|\n)", text)


def section(text: str, heading: str) -> str | None:
    """Return the Markdown below a heading of the second level, or None when there is none."""
    lines = lines_of(text)[::2]
    tokens = _markdown().parse(text)
    start: int | None = None
    for before, token in pairwise(tokens):
        if before.type != "heading_open" or before.tag not in {"h1", "h2"} or before.level:
            continue
        assert before.map is not None  # every heading of the top level has its lines
        if start is not None:
            return "\n".join(lines[start : before.map[0]]).strip("\n")
        if before.tag == "h2" and token.content.strip() == heading:
            start = before.map[1]
    return None if start is None else "\n".join(lines[start:]).strip("\n")


def _markdown() -> MarkdownIt:
    """Return a reader that notes where in its block each link lies."""
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import link as link_rule

    def noted_link(state: StateInline, silent: bool) -> bool:
        start, count = state.pos, len(state.tokens)
        if not link_rule(state, silent):
            return False
        if not silent:
            opening = next(t for t in state.tokens[count:] if t.type == "link_open")
            opening.meta = {"start": start, "end": state.pos}
        return True

    reader = MarkdownIt("commonmark").enable("table")
    reader.inline.ruler.at("link", noted_link)
    return reader


def _is_cell(before: Token | None) -> bool:
    return before is not None and before.type in {"td_open", "th_open"}


@dataclass(frozen=True)
class _Places:
    """Where the lines of a block's content lie in the file."""

    first: int
    contents: tuple[str, ...]
    columns: tuple[int, ...]

    def of(self, position: int) -> tuple[int, int]:
        """Turn a position in the content into (line from 1, column or -1)."""
        row = "\n".join(self.contents)[:position].count("\n")
        within = position - sum(len(line) + 1 for line in self.contents[:row])
        column = self.columns[row]
        return self.first + row, -1 if column < 0 else column + within


def _places(
    token: Token, lines: Sequence[str], cursors: dict[int, int], *, in_cell: bool
) -> _Places:
    """Find each line of a block's content in the file: cells of a table share one line."""
    assert token.map is not None
    contents = tuple(token.content.split("\n"))
    columns = []
    for number, content in enumerate(contents, start=token.map[0]):
        source = lines[number] if number < len(lines) else ""
        if in_cell:
            column = source.find(content, cursors.get(number, 0))
            cursors[number] = max(cursors.get(number, 0), column + len(content))
        else:
            column = source.rfind(content)
        columns.append(column)
    return _Places(token.map[0] + 1, contents, tuple(columns))


def _links(token: Token, places: _Places) -> Iterator[NumberLink]:
    children = token.children or []
    for index, child in enumerate(children):
        if child.type != "link_open" or "start" not in child.meta:
            continue  # <https://…> has no text of its own
        target = str(child.attrs["href"])
        if split_target(target) is None:
            continue
        close = next(i for i in range(index, len(children)) if children[i].type == "link_close")
        shown = "".join(t.content for t in children[index:close] if t.type == "text").strip()
        raw = token.content[child.meta["start"] : child.meta["end"]]
        line, column = places.of(child.meta["start"])
        within = raw.find(shown)
        known = column >= 0 and within >= 0
        yield NumberLink(line, column + within if known else -1, shown, target)


def _plain(token: Token) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each line of a block, links, code and HTML tags left out."""
    assert token.map is not None
    line, depth, words = token.map[0] + 1, 0, ""
    for child in token.children or []:
        if child.type in {"softbreak", "hardbreak"}:
            yield line, words
            line, words = line + 1, ""
        elif child.type == "link_open":
            depth, words = depth + 1, words + " "
        elif child.type == "link_close":
            depth -= 1
        elif child.type == "text" and not depth:
            words += child.content
        elif child.type == "code_inline":
            words += "`"
        elif child.type in {"html_inline", "image"}:
            words += " "
    yield line, words
