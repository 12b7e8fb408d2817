"""How much of one Python file is also in another: the lines that share long runs of tokens.

Comments, docstrings, imports, layout, commas and brackets around arguments are ignored, so
reformatted code is still the same. Each file is read in two spellings: as it is, and with the names
that its author chose replaced by one mark, so renamed code is still the same, given longer runs.
Files need not parse: the repositories that people study are often old.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

EXACT_RUN = 14
"""Tokens in a row that two files must share, names included."""
RENAMED_RUN = 32
"""The same with chosen names replaced: structure alone repeats more often by chance."""
LEAST_WORDS = 5
"""Different tokens in a run: a list of numbers or strings is like any other list."""

_TOKEN = re.compile(
    r'(?P<skip>#[^\n]*|[rRbBuU]{0,2}(?:"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'))'
    r"|(?P<text>[rRbBuUfF]{0,2}(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'))"
    r"|(?P<name>[^\W\d]\w*)|(?P<number>\d[\w.]*)|(?P<mark>[^\s\w,()])"
)
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+\S+[ \t]+)?import[ \t]+(?:\([^)]*\)|[^\n]*)", re.MULTILINE
)


@dataclass(frozen=True)
class Fingerprint:
    """The runs of tokens in a file, in both spellings, and the lines that each covers."""

    num_lines: int
    """Lines that hold code."""
    runs: Mapping[int, frozenset[int]]
    """Hash of a run -> the lines on which its tokens stand."""


def fingerprint(text: str) -> Fingerprint:
    """Read one file."""
    tokens = list(_tokens(text))
    runs: dict[int, frozenset[int]] = {}
    for run, first, end in _runs(tokens):
        lines = {token[0] for token in tokens[first:end]}
        runs[run] = runs.get(run, frozenset()) | lines
    return Fingerprint(len({line for line, _, _ in tokens}), runs)


def shared_lines(ours: Fingerprint, runs: set[int]) -> frozenset[int]:
    """Return the lines of our file whose code is also in a file that has these runs."""
    return frozenset(line for run in ours.runs.keys() & runs for line in ours.runs[run])


def run_hashes(text: str) -> set[int]:
    """Return the runs of a file, without their lines."""
    return {run for run, _, _ in _runs(list(_tokens(text)))}


def _runs(tokens: Sequence[tuple[int, str, str]]) -> Iterator[tuple[int, int, int]]:
    """Yield (hash, first token, the one after the last) of every run in both spellings."""
    for size, column in ((EXACT_RUN, 1), (RENAMED_RUN, 2)):
        words = [token[column] for token in tokens]
        for start in range(len(words) - size + 1):
            run = tuple(words[start : start + size])
            if len(set(run)) >= LEAST_WORDS:
                yield hash(run), start, start + size


def _tokens(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, word, word with chosen names replaced)."""
    code = _IMPORT.sub(lambda match: "\n" * match.group().count("\n"), text)
    line, seen = 1, 0
    for match in _TOKEN.finditer(code):
        line, seen = line + code.count("\n", seen, match.start()), match.start()
        kind, word = match.lastgroup, match.group()
        if kind == "text":
            yield line, word.lstrip("rRbBuUfF").strip("\"'"), "text"
        elif kind == "name" and not keyword.iskeyword(word):
            is_called = code[match.end() : match.end() + 1] == "("
            of_a_module = code[match.start() - 1 : match.start()] == "."
            yield line, word, word if is_called and of_a_module else "name"
        elif kind != "skip":
            yield line, word, word
