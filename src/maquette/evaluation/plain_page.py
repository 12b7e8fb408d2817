"""Pages beside the report, in its look: a head, sections of plots and tables, nothing else.

Like the report a page is one file, asks nothing of the network, and lets no data in it act. Blocks
are HTML made by the functions below, which escape what they are given; plots are SVG already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from maquette.evaluation.report_page import page_asset, render_page
from maquette.files import write_text

NUM_COLOURS = 8
"""Classes c0 … c7 of page/plain.css: lines and dots of as many runs as one can tell apart."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One section of a page."""

    id: str
    """Anchor, unique in the page."""
    heading: str
    lead: str
    """A sentence beside the heading; may be empty."""
    content: Sequence[str]
    """HTML."""


def write_page(
    path: Path, *, title: str, subtitle: str, created: str, verdict: str, blocks: Sequence[Block]
) -> None:
    """Write the page to `path`, whole or not at all; the same arguments give the same bytes.

    Raises:
        RunError: the file cannot be written.
    """
    page = render_page(
        "plain.html.j2",
        title=title,
        subtitle=subtitle,
        created=created,
        verdict=verdict,
        blocks=blocks,
        more_style=page_asset("plain.css"),
    )
    write_text(path, page)


def plots(figures: Sequence[str], *, heading: str = "") -> str:
    """Put SVG figures side by side."""
    above = f"<h3>{escape(heading)}</h3>" if heading else ""
    inside = "".join(f"<figure>{figure}</figure>" for figure in figures)
    return f'{above}<div class="plots">{inside}</div>'


def wide(figure: str, *, heading: str = "") -> str:
    """Show one SVG figure over the whole width."""
    above = f"<h3>{escape(heading)}</h3>" if heading else ""
    return f'{above}<figure class="wide scroll">{figure}</figure>'


def table(
    rows: Sequence[Sequence[str]], *, text_columns: Sequence[int] = (), strong: int | None = None
) -> str:
    """Write a table; the first row is the header, `strong` a row to point out, from 1."""
    head, *body = rows
    cells = "".join(
        _cell("th", cell, i, text_columns, 'scope="col"') for i, cell in enumerate(head)
    )
    lines = "".join(
        _row(row, text_columns, ' class="best"' if number == strong else "")
        for number, row in enumerate(body, 1)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>'
        "</div>"
    )


def _row(row: Sequence[str], text_columns: Sequence[int], style: str) -> str:
    first = _cell("th", row[0], 0, text_columns, 'scope="row"')
    others = "".join(_cell("td", cell, i, text_columns) for i, cell in enumerate(row[1:], 1))
    return f"<tr{style}>{first}{others}</tr>"


def _cell(tag: str, content: str, column: int, text_columns: Sequence[int], more: str = "") -> str:
    style = ' class="text"' if column in text_columns else ""
    return f"<{tag}{' ' + more if more else ''}{style}>{escape(content)}</{tag}>"


def folded(heading: str, content: str) -> str:
    """Hide HTML until the reader opens it."""
    return f"<details><summary>{escape(heading)}</summary>{content}</details>"


def code(name: str, content: str) -> str:
    """Show text to be copied; `name` is unique in the page."""
    return (
        f'<div class="code"><button type="button" data-copy="{name}">Copy</button>'
        f'<pre><code id="{name}">{escape(content)}</code></pre></div>'
    )


def notice(sentences: Sequence[str]) -> str:
    """Point out what a reader should know first; nothing for no sentences."""
    if not sentences:
        return ""
    inside = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<div class="notice"><p><strong>Worth knowing</strong></p><ul>{inside}</ul></div>'


def keys(names: Sequence[tuple[str, str]]) -> str:
    """Write a legend: (colour class, name) pairs."""
    inside = "".join(f'<li><i class="{colour}"></i>{escape(name)}</li>' for colour, name in names)
    return f'<ul class="legend">{inside}</ul>'


def colour(index: int) -> str:
    """Return the CSS class of the run at this position; they repeat after `NUM_COLOURS`."""
    return f"c{index % NUM_COLOURS}"
