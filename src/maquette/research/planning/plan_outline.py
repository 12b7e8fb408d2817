"""Markdown -> the headings of a plan, each with its fields, formulas and text, and their lines.

The Markdown is CommonMark, read by markdown-it. Two rules are added to it, for formulas between
`$$` marks, so that a bar or a dash in a formula is no heading and no list. What the parts mean,
`plan_reading.py` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from maquette.research.planning.formula import parse_formula
from maquette.research.planning.plan import Formula

_DEEPEST = 3  # headings below this level are text
_BULLET = re.compile(r"\s*[-*+]\s+")
_FIELD = re.compile(
    r"[*_`]*(?P<key>[A-Za-z][\w-]*(?: [\w-]+){0,2}?)[*_`]*\s*:[*_`]*(?!//)(?P<value>.*)", re.ASCII
)
_WRAPPED = re.compile(r"`([^`]*)`|<([^<>\s]*)>")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_HEADING = re.compile(r" {0,3}#{1,6}(?:\s|$)")


@dataclass(frozen=True)
class Field:
    """A line `- key: value`."""

    key: str
    """In lower case, with `_` for spaces and dashes."""
    value: str
    line: int


@dataclass
class Part:
    """A heading and what stands below it, up to the next one."""

    level: int
    """1 to 3; 0 is what stands before the first heading."""
    heading: str
    line: int
    """Line of the heading, from 1."""
    fields: list[Field] = field(default_factory=list)
    formulas: list[Formula] = field(default_factory=list)
    text: str = ""
    """All but the fields, the formulas on lines of their own, and the comments."""
    odd: list[tuple[int, str]] = field(default_factory=list)
    """(line, what looks like a slip)."""


def read_outline(text: str) -> tuple[Part, ...]:
    """Split a plan at its headings of the first three levels.

    Args:
        text: the whole file; lines end in "\\n".
    """
    lines = text.split("\n")
    parts = [Part(0, "", 1)]
    begins = 0  # the first line of the part's text, from 0
    used: set[int] = set()
    for block in _blocks(_markdown().parse(text)):
        first, last = block[0].map or (0, 0)
        if block[0].type == "heading_open" and (level := int(block[0].tag[1:])) <= _DEEPEST:
            parts[-1].text = _text(lines, range(begins, first), used)
            parts.append(Part(level, _plain(block[1]), first + 1))
            begins = last
            continue
        used |= _read_block(block, lines, parts[-1])
    parts[-1].text = _text(lines, range(begins, len(lines)), used)
    return tuple(parts)


def _blocks(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the tokens of each block of the top level."""
    block: list[Token] = []
    for token in tokens:
        block.append(token)
        if token.level == 0 and token.nesting <= 0:
            yield block
            block = []


def _read_block(block: Sequence[Token], lines: Sequence[str], part: Part) -> set[int]:
    """Add a block's fields and formulas to `part`; return the lines that are no text."""
    used: set[int] = set()
    for token in block:
        first, last = token.map or (0, 0)
        if token.type == "formula_block":
            part.formulas.append(_formula(token, first + 1))
            if token.level == 0:
                used |= set(range(first, last))
        elif token.type == "inline":
            _read_inline(token, first + 1, part)
        elif token.type == "list_item_open" and token.level == 1 and token.markup in "-*+":
            used |= _read_item(lines, range(first, last), part)
        elif token.type == "html_block" and _open_comment(token.content):
            part.odd.append((first + 1, "the comment is never closed; write --> behind it"))
        elif token.type == "fence" and not _is_closed(lines[first:last], token.markup):
            part.odd.append((first + 1, f"the code is never closed; write {token.markup} below it"))
    return used


def _read_inline(token: Token, line: int, part: Part) -> None:
    for child in token.children or ():
        if child.type in ("softbreak", "hardbreak"):
            line += 1
        elif child.type == "formula":
            part.formulas.append(_formula(child, line))
            line += child.content.count("\n")
        elif child.type == "text" and "$$" in child.content:
            part.odd.append((line, "a $$ has no second $$ behind it, so no formula is read here"))


def _read_item(lines: Sequence[str], at: range, part: Part) -> set[int]:
    """Add the field that a bullet may be; its value runs on in lines that are indented."""
    first = at[0]
    found = _FIELD.fullmatch(_without_comments(_BULLET.sub("", lines[first], count=1)))
    if found is None:
        return set()
    used = [first]
    for index in at[1:]:
        # CommonMark counts an unindented line below a bullet as the bullet's; people do not.
        if lines[index].strip() and not lines[index].startswith((" ", "\t")):
            break
        used.append(index)
    while not lines[used[-1]].strip():
        used.pop()
    more = [_BULLET.sub("", f" {_without_comments(lines[index])}", count=1) for index in used[1:]]
    value = " ".join(filter(None, (piece.strip() for piece in (found["value"], *more))))
    wrapped = _WRAPPED.fullmatch(value)
    key = re.sub(r"[ -]", "_", found["key"].lower()).strip("_")
    part.fields.append(
        Field(key, (wrapped[1] or wrapped[2] or "") if wrapped else value, first + 1)
    )
    return set(used)


def _text(lines: Sequence[str], at: range, used: set[int]) -> str:
    """Return the lines that are left, without comments and without holes."""
    left = _COMMENT.sub("", "\n".join(lines[index] for index in at if index not in used))
    return re.sub(r"\n\s*\n", "\n\n", left).strip()


def _plain(heading: Token) -> str:
    """Return the words of a heading without its markup."""
    words = (
        c.content for c in heading.children or () if c.type in ("text", "code_inline", "formula")
    )
    return " ".join("".join(words).split())


def _formula(token: Token, line: int) -> Formula:
    formula = parse_formula(token.content, line)
    if token.meta.get("closed", True):
        return formula
    return Formula(formula.text, line, warning="its second $$ is missing; write $$ below it")


def _without_comments(line: str) -> str:
    return _COMMENT.sub("", line).strip()


def _open_comment(html: str) -> bool:
    return html.rfind("<!--") > html.rfind("-->")


def _is_closed(block: Sequence[str], markup: str) -> bool:
    return len(block) > 1 and block[-1].strip(" \t>").startswith(markup)


# markdown-it


@cache
def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark")
    markdown.block.ruler.before(
        "fence",
        "formula_block",
        _formula_block,
        {"alt": ["paragraph", "reference", "blockquote", "list"]},  # it ends each of these
    )
    markdown.inline.ruler.after("backticks", "formula", _formula_inline)
    return markdown


def _formula_block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """A formula on lines of its own: `$$ … $$`, or `$$`, lines, `$$`."""
    line = _line(state, start_line)
    if not line.startswith("$$") or state.is_code_block(start_line):
        return False
    if "$$" in line[2:]:
        if line.count("$$") > 2 or not line.endswith("$$"):
            return False  # words stand beside it: a part of a sentence
        last, content, closed = start_line, line[2:-2], True
    else:
        last, closed = _last_line(state, start_line, end_line)
        inner = [line, *(_line(state, index) for index in range(start_line + 1, last + 1))]
        content = "\n".join(inner)[2:].removesuffix("$$" if closed else "")
    if not silent:
        token = state.push("formula_block", "", 0)
        token.content, token.map = content, [start_line, last + 1]
        token.meta = {"closed": closed}
    state.line = last + 1
    return True


def _last_line(state: StateBlock, start_line: int, end_line: int) -> tuple[int, bool]:
    """Return the line of the second `$$`; or, where there is none, the last line before a gap."""
    gap = None
    for index in range(start_line + 1, end_line):
        line = _line(state, index)
        outside = bool(line) and state.sCount[index] < state.blkIndent
        starts_another = line.startswith("$$") and line != "$$"
        if outside or starts_another or _HEADING.match(line):
            return gap or index - 1, False
        if line.endswith("$$"):
            return index, True
        if not line and gap is None:
            gap = index - 1
    return gap or end_line - 1, False


def _line(state: StateBlock, index: int) -> str:
    return state.src[state.bMarks[index] + state.tShift[index] : state.eMarks[index]].strip()


def _formula_inline(state: StateInline, silent: bool) -> bool:
    """A formula within a sentence: `$$ … $$`."""
    if not state.src.startswith("$$", state.pos):
        return False
    end = state.src.find("$$", state.pos + 2, state.posMax)
    if end < 0:
        return False
    if not silent:
        token = state.push("formula", "", 0)
        token.content = state.src[state.pos + 2 : end]
    state.pos = end + 2
    return True
