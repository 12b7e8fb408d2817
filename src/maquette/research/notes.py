"""What a person says in notes.md about the deviations from the plan.

    ## Deviations from Plan
    - **Batch ensemble**: left out, because …

A bullet whose first words are bold is about the item of that name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from maquette.errors import DataError
from maquette.research.planning.plan import slug

DEVIATIONS = "Deviations from Plan"
KNOWN_ISSUES = "Known Issues"


@dataclass(frozen=True)
class Deviation:
    """One bullet under `DEVIATIONS` that names something."""

    name: str
    reason: str
    """The words after the name; empty when the bullet gives none."""
    line: int


@dataclass(frozen=True)
class Notes:
    """What notes.md holds."""

    headings: tuple[str, ...] = ()
    """Of the second level."""
    deviations: tuple[Deviation, ...] = ()

    def deviation(self, name: str) -> Deviation | None:
        """Return the bullet about `name`, case and punctuation ignored."""
        return next((d for d in self.deviations if slug(d.name) == slug(name)), None)


def read_notes(path: Path) -> Notes:
    """Read notes.md; a file that is not there has no headings.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Notes()
    except OSError as error:
        raise DataError(f"Could not read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text: byte {error.start} cannot be read. "
            "Save it as UTF-8 and run again."
        ) from error
    return parse_notes(text)


def parse_notes(text: str) -> Notes:
    """Read the text of notes.md; comments and code in it say nothing."""
    headings: list[str] = []
    deviations: list[Deviation] = []
    tokens = MarkdownIt("commonmark").parse(text)
    in_item = False
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and before.type == "heading_open" and before.tag in {"h1", "h2"}:
            headings.append(token.content.strip() if before.tag == "h2" else "")
        if token.type == "list_item_open":
            in_item = token.level == 1  # the outer list only
        elif token.type == "inline" and in_item:
            in_item = False
            if headings and headings[-1] == DEVIATIONS and (found := _deviation(token)):
                deviations.append(found)
    return Notes(tuple(h for h in headings if h), tuple(deviations))


def _deviation(token: Token) -> Deviation | None:
    """Read `**Name**: why`; None for a bullet that begins otherwise."""
    parts = [part for part in token.children or [] if part.content or part.type != "text"]
    if not parts or parts[0].type != "strong_open" or token.map is None:
        return None
    close = next(i for i, part in enumerate(parts) if part.type == "strong_close")
    name = "".join(part.content for part in parts[:close]).strip().rstrip(":")
    reason = " ".join(part.content for part in parts[close:] if part.content)
    return Deviation(name, reason.strip(" :—–-."), token.map[0] + 1)
