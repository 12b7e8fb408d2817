"""Reads the documentation: README.md and docs/*.md as blocks of code, names, links and tables.

In: Markdown. Out: `Block`s and what the prose between them names. What the words behind the three
backticks mean, all separated by spaces:

    ```bash                 a command that is run
    ```bash reduced a.b=1   run; in the quick test `train`, `check` and the like get small settings
                            (stage.REDUCED) and those given here; NAME=x sets a variable
    ```bash slow            run by the slow test only, which runs everything as printed
    ```bash not-run: WHY    never run; the reason is part of the mark
    ```bash exit=1          ends with this code
    ```bash needs=fsdd      run where MAQUETTE_DATA_MIRROR holds this folder
    ```python               run in the one Python session of the page; fresh: forget its names
    ```text                 shown; a drawing
    ```text output          lines that the block run before printed, in this order; … is anything
    ```text output ~        the same, whatever the numbers
    ```text output slow     compared by the slow test only
    ```yaml file=a/b.yaml   written to this file when its turn comes; csv and python too

A table under `<!-- copy of: FILE.md -->` has rows of a table in docs/results/FILE.md. After new
measurements, `python tests/pages.py` brings all such copies up to date.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
RESULTS = ROOT / "docs" / "results"
COPY = re.compile(r"(<!-- copy of: (\S+) -->\n+)((?:\|[^\n]*\n)+)")


@dataclass(frozen=True)
class Block:
    """Code between two fences."""

    page: Path
    line: int
    """Of its first line of code, from 1."""
    language: str
    marks: tuple[str, ...]
    reason: str | None
    """Why it is not run, if it is not."""
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    def has(self, word: str) -> bool:
        return word in self.marks

    def value(self, name: str) -> str | None:
        """What stands behind `name=` among the marks."""
        values = [mark.partition("=")[2] for mark in self.marks if mark.startswith(f"{name}=")]
        return values[0] if values else None

    @property
    def settings(self) -> list[str]:
        """Marks such as train.steps=3, for commands that take settings."""
        return [mark for mark in self.marks if re.match(r"[a-z_.]+\.\w+=|seed=", mark)]

    @property
    def variables(self) -> dict[str, str]:
        """Marks such as SEEDS=0, for scripts that read variables."""
        pairs = (mark.partition("=") for mark in self.marks if re.match(r"[A-Z_]+=", mark))
        return {name: text for name, _, text in pairs}


def read_blocks(page: Path) -> list[Block]:
    """All blocks of a page; ValueError for a fence that is never closed."""
    found = []
    opened: tuple[int, str] | None = None
    lines = page.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened = number, line[3:]
            continue
        start, words = opened
        opened = None
        words, _, reason = words.partition("not-run:")
        language, *marks = words.split() or [""]
        code = "".join(f"{each}\n" for each in lines[start : number - 1])
        told = reason.strip() if "not-run:" in lines[start - 1] else None
        found.append(Block(page, start + 1, language, tuple(marks), told, code))
    if opened is not None:
        raise ValueError(f"{page.name}:{opened[0]}: the block is not closed")
    return found


def prose(page: Path) -> str:
    """A page without its blocks."""
    kept, inside = [], False
    for line in page.read_text(encoding="utf-8").split("\n"):
        fence = line.startswith("```")
        inside ^= fence
        if not inside and not fence:
            kept.append(line)
    return "\n".join(kept)


def quoted(page: Path) -> list[str]:
    """What stands in backticks in the prose of a page, each once."""
    return list(dict.fromkeys(re.findall(r"`([^`\n]+)`", prose(page))))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def tables(text: str) -> list[list[str]]:
    """The rows of each table: heads, rule, body."""
    return [found.strip().split("\n") for found in re.findall(r"(?:^\|.*\n)+", text + "\n", re.M)]


def source_of(copy: list[str], file: Path) -> list[str] | None:
    """The table in `file` that has the heads of `copy`."""
    for table in tables(file.read_text(encoding="utf-8")):
        if table[:1] == copy[:1]:
            return table
    return None


def refresh_copies() -> None:
    """Replace every copied table by the whole table it was copied from."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")

        def newer(found: re.Match[str]) -> str:
            (copy,) = tables(found[3])
            source = source_of(copy, RESULTS / found[2])
            return found[1] + "\n".join(source or copy) + "\n"

        renewed = COPY.sub(newer, text)
        if renewed != text:
            page.write_text(renewed, encoding="utf-8")
            print(f"renewed: {page.name}")


if __name__ == "__main__":
    refresh_copies()
