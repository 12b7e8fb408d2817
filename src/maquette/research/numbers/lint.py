"""`maquette research lint`: do the numbers in Markdown files still say what their records say?

Every link of `references.py` form is followed and compared. Reports are read strictly: there a
number without a record is a problem too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette.errors import DataError, UsageError
from maquette.files import write_bytes
from maquette.research.numbers.marked import BareNumber, NumberLink, find_numbers, lines_of
from maquette.research.numbers.references import look_up, read_json, read_number, split_target

_LEFT_OUT = {"site", "node_modules", "__pycache__"}
"""Folders that hold what others wrote or what was generated; hidden ones are left out too."""


@dataclass(frozen=True)
class Problem:
    """A number that does not hold."""

    path: Path
    line: int
    """From 1."""
    column: int
    """Where the number begins in its line, from 0; -1 when it cannot be told."""
    text: str
    """What the file shows."""
    found: str | None
    """What the record holds, where there is a number."""
    expected: str | None
    """What to write instead; with it `fix` can mend the problem."""
    message: str

    def __str__(self) -> str:
        """Return the line that a user reads: file, line, what is wrong and what to write."""
        return f"{self.path}:{self.line}: {self.message}"


@dataclass
class Checked:
    """What a check has seen."""

    files: int = 0
    numbers: int = 0
    """Links to a place in a record."""
    problems: list[Problem] = field(default_factory=list)


def lint(paths: Sequence[Path], *, strict: bool = False) -> tuple[Problem, ...]:
    """Check the numbers of Markdown files against their records.

    Args:
        paths: files, or folders that are searched for .md files.
        strict: also report numbers without a record below a report's headings of results.
    Raises:
        UsageError: a path is missing or no Markdown, or a folder holds none.
    """
    return tuple(check_numbers(paths, strict=strict).problems)


def check_numbers(paths: Sequence[Path], *, strict: bool = False) -> Checked:
    """Check as `lint` does; return also how many files and numbers were read."""
    checked = Checked()
    records: dict[Path, Any] = {}
    for path in markdown_files(paths):
        checked.files += 1
        try:
            found = find_numbers(path.read_bytes().decode())
        except OSError as error:
            message = f"could not be read: {error.strerror or error}"
            checked.problems.append(Problem(path, 1, 0, "", None, None, message))
            continue
        except UnicodeDecodeError as error:
            message = f"byte {error.start} is not UTF-8; save the file as UTF-8"
            checked.problems.append(Problem(path, 1, 0, "", None, None, message))
            continue
        checked.numbers += sum("#" in link.target for link in found.links)
        problems = [problem for link in found.links for problem in _compare(path, link, records)]
        problems += [_not_a_link(path, broken) for broken in found.broken_links]
        if strict:
            problems += [_without_record(path, bare) for bare in found.bare]
        checked.problems += sorted(problems, key=lambda problem: (problem.line, problem.column))
    return checked


def fix(problems: Sequence[Problem]) -> list[str]:
    """Write what the records say in place of stale numbers; return lines to print.

    Problems that need a person are left as they are; check again to see them.

    Raises:
        RunError: a file cannot be written.
    """
    lines = []
    for path in dict.fromkeys(problem.path for problem in problems):
        stale = [p for p in problems if p.path == path and p.expected is not None and p.column >= 0]
        if not stale:
            continue
        pieces = lines_of(path.read_bytes().decode())
        # From the right, so that what is still to be changed keeps its column.
        for problem in sorted(stale, key=lambda p: (p.line, p.column), reverse=True):
            line = pieces[2 * (problem.line - 1)]
            head, tail = line[: problem.column], line[problem.column :]
            if tail.startswith(problem.text):
                tail = f"{problem.expected}{tail.removeprefix(problem.text)}"
                pieces[2 * (problem.line - 1)] = head + tail
                lines.append(f"{path}:{problem.line}: {problem.text} is now {problem.expected}")
        write_bytes(path, "".join(pieces).encode())
    return lines[::-1]


def markdown_files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the Markdown files of the given paths, each once, folders in alphabetical order."""
    seen: set[Path] = set()
    for given in paths:
        if not given.exists():
            raise UsageError(
                f"There is no {given}; give Markdown files, or folders that hold some."
            )
        if not given.is_dir() and given.suffix.lower() != ".md":
            raise UsageError(f"{given} is not Markdown; give .md files, or folders that hold some.")
        files = list(_below(given)) if given.is_dir() else [given]
        if not files:
            raise UsageError(f"There is no .md file in {given}, so nothing would be checked.")
        for file in files:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file


def _below(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in _LEFT_OUT)
        yield from (
            Path(here, name)
            for name in sorted(files)
            if name.lower().endswith(".md") and not name.startswith(".")
        )


def _compare(path: Path, link: NumberLink, records: dict[Path, Any]) -> Iterator[Problem]:
    """Yield what is wrong with one link, if anything."""

    def problem(message: str, found: str | None = None, expected: str | None = None) -> Problem:
        return Problem(path, link.line, link.column, link.text, found, expected, message)

    target = split_target(link.target)
    assert target is not None  # find_numbers yields no other links
    file, pointer = target
    shown = read_number(link.text)
    if not pointer:
        if shown is not None:
            yield problem(
                f"[{link.text}] names the record {file}, but no place in it; "
                "add the place, such as #/trainings/0/seconds"
            )
        return  # a link to a whole file, with words
    if shown is None:
        yield problem(
            f"[{link.text}] points into {file} but is not one number; "
            "write the number alone, with a unit at most, and one link for each number"
        )
        return
    try:
        record = path.parent / file
        if record not in records:
            records[record] = read_json(record)
        value = look_up(records[record], pointer)
    except DataError as error:
        yield problem(f"[{link.text}] cannot be checked in {file}: {error}")
        return
    if not shown.holds(value):
        expected = shown.written(value)
        yield problem(
            f"[{link.text}] is stale: {file}#{pointer} is {value}; write [{expected}], "
            "or let --fix do it",
            str(value),
            expected,
        )


def _not_a_link(path: Path, broken: BareNumber) -> Problem:
    return Problem(
        path,
        broken.line,
        -1,
        broken.text,
        None,
        None,
        f"{broken.text} is shown as text, not as a link; in the target write %20 for a space, "
        "%28 and %29 for brackets",
    )


def _without_record(path: Path, bare: BareNumber) -> Problem:
    return Problem(
        path,
        bare.line,
        -1,
        bare.text,
        None,
        None,
        f"{bare.text} has no record; link it to one, such as "
        f"[{bare.text}](results/run.json#/trainings/0/metrics/accuracy), "
        "or put it into `code` where it is part of a name",
    )
