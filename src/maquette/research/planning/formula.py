"""What a formula names: `parse_formula` walks its LaTeX once.

    L = \\frac{1}{k} \\sum_{i=1}^{k} \\ell(y, \\hat y_i)   ->   L, k, i, \\ell, y, \\hat{y}_i

A name is a letter, Greek or Latin, with its accent, font, primes and subscript. What is below or
above an operator, and what is raised, is a formula of its own: the `i` and `k` of the sum are names
too. A formula that cannot be parsed is kept as text, with the reason; it never stops a plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from maquette.errors import nearest
from maquette.research.planning.latex_words import (
    ACCENTS,
    ARGUMENTS,
    COMMANDS,
    ENVIRONMENTS,
    FONTS,
    GREEK,
    OPERATORS,
    TEXTS,
)
from maquette.research.planning.plan import Formula

_TOKEN = re.compile(r"\\(?:[A-Za-z]+|.|$)|\d+(?:\.\d+)?|\s+|.", re.DOTALL)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_DEEPEST = 40  # braces within braces; nobody reads more, and recursion must end
_LONGEST = 10_000  # characters


def parse_formula(text: str, line: int) -> Formula:
    """Parse the LaTeX between two `$$` marks.

    Args:
        text: the formula without its marks.
        line: its line in the plan, from 1.
    Returns:
        The formula with the names in it, in the order they first appear; or without names and with
        a warning where `text` is no formula.
    """
    kept = text.strip()
    if len(kept) > _LONGEST:
        return Formula(kept, line, warning=f"it is longer than {_LONGEST} characters")
    try:
        return Formula(kept, line, symbols=_Walk(kept).symbols())
    except _NotAFormula as reason:
        return Formula(kept, line, warning=str(reason))


class _NotAFormula(Exception):
    """Why the text cannot be parsed."""


class _Walk:
    """One walk over the tokens; `self._at` is the next one."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        self._at = 0
        self._depth = 0
        self._found: dict[str, None] = {}  # a dictionary keeps the order

    def symbols(self) -> tuple[str, ...]:
        """Walk to the end."""
        if not self._peek():
            raise _NotAFormula("it is empty")
        self._formula(until="")
        return tuple(self._found)

    # Tokens

    def _peek(self) -> str:
        """Return the next token that is not a space; "" at the end."""
        while self._at < len(self._tokens) and self._tokens[self._at].isspace():
            self._at += 1
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _since(self, start: int) -> str:
        """Return what was walked over from `start`, with no more spaces than LaTeX needs."""
        parts: list[str] = []
        for token in self._tokens[start : self._at]:
            if token.isspace():
                continue
            if parts and _COMMAND.fullmatch(parts[-1]) and token[0].isalpha():
                parts.append(" ")
            parts.append(token)
        return "".join(parts)

    # Grammar

    def _formula(self, *, until: str) -> None:
        """Walk up to the token `until`, and over it; "" is the end of the text."""
        while (token := self._peek()) != until:
            if not token:
                raise _NotAFormula(_UNCLOSED[until])
            self._atom()
        self._at += 1

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _NotAFormula(f"it is nested deeper than {_DEEPEST} levels")
        yield
        self._depth -= 1

    def _atom(self) -> None:
        """Walk over one thing with what hangs on it: subscript, superscript, primes."""
        start = self._at
        name = self._base()
        marks: set[str] = set()
        while (mark := self._peek()) in ("_", "^", "'"):
            self._take()
            if mark == "'":
                name = name and name + "'"
                continue
            if mark in marks:
                what = "subscripts" if mark == "_" else "superscripts"
                raise _NotAFormula(
                    f"{self._since(start)} begins two {what}; put braces around the first part"
                )
            marks.add(mark)
            name = self._script(mark, name)
        if name:
            self._found[name] = None

    def _script(self, mark: str, name: str) -> str:
        """Walk over a script; a subscript becomes part of the name it hangs on, if there is one."""
        before = dict(self._found)
        start = self._at
        self._argument(mark)
        if mark == "^" or not name:
            return name
        self._found = before
        below = self._since(start)
        if below[:1] == "{" and len(below) == 3:
            below = below[1]
        return f"{name}_{below}"

    def _base(self) -> str:
        """Walk over one thing; return its name, "" when it names nothing itself."""
        token = self._peek()
        if token in ("_", "^", "'"):
            return ""  # LaTeX allows a script without a base
        self._take()
        if token == "{":
            with self._deeper():
                self._formula(until="}")
        elif token == "}":
            raise _NotAFormula("a } has no { before it")
        elif token in "$%#":
            raise _NotAFormula(f"a bare {token} stands in it; write \\{token} for the sign")
        elif token[0] == "\\":
            return self._command(token)
        return token if token.isalpha() else ""

    def _command(self, token: str) -> str:
        word = token[1:]
        if not word.isalpha():
            if not word:
                raise _NotAFormula("it ends in a backslash")
            return ""  # \, \; \{ \| \\ and the like
        if word not in COMMANDS:
            raise _NotAFormula(f"unknown command {token}.{_alike(word)}")
        if word in GREEK:
            return token
        if word in ACCENTS or word in FONTS:
            return self._named(token)
        if word in TEXTS:
            self._words(token)
        elif word in ARGUMENTS:
            self._arguments(token, ARGUMENTS[word])
        elif word == "begin":
            self._environment()
        elif word == "left":
            self._delimiter(token)
            with self._deeper():
                self._formula(until="\\right")
            self._delimiter("\\right")
        elif word in _UNOPENED:
            raise _NotAFormula(_UNOPENED[word])
        elif word in OPERATORS and self._peek() == "'":
            self._take()
        return ""

    def _named(self, token: str) -> str:
        """Walk over the argument of an accent or a font: \\hat y and \\hat{y} are one name."""
        is_operator = token == "\\operatorname"
        star = self._take() if is_operator and self._peek() == "*" else ""
        before = dict(self._found)
        start = self._at
        self._argument(token)
        self._found = before
        inside = self._since(start)
        name = f"{token}{star}{inside if inside[:1] == '{' else f'{{{inside}}}'}"
        if not is_operator:
            return name
        self._found[name] = None  # what is below an operator is not part of its name
        return ""

    def _arguments(self, token: str, number: int) -> None:
        if token in ("\\sqrt", "\\xrightarrow") and self._peek() == "[":
            self._take()
            with self._deeper():
                self._formula(until="]")
        for index in range(number):
            self._argument(token, wanted=f"{number} arguments" if number > 1 else "", found=index)

    def _argument(self, token: str, *, wanted: str = "", found: int = 0) -> None:
        """Walk over one braced group, letter, digit or command."""
        following = self._peek()
        if following in ("", "}", "&", "_", "^", "\\right", "\\end", "\\\\"):
            need = (
                f"{token} needs {wanted}, found {found}" if wanted else f"nothing follows {token}"
            )
            raise _NotAFormula(need)
        if len(following) > 1 and following.isdecimal():  # \frac12 means \frac{1}{2}
            self._tokens[self._at : self._at + 1] = list(following)
        with self._deeper():
            name = self._base()
        if name:
            self._found[name] = None

    def _words(self, token: str) -> str:
        """Walk over the braces of \\text{…}, whatever they hold; return it with its spaces."""
        if self._peek() != "{":
            raise _NotAFormula(f"{token} needs its words in braces: {token}{{…}}")
        start, depth = self._at, 0
        while depth or self._at == start:
            following = self._take()
            if not following:
                raise _NotAFormula(_UNCLOSED["}"])
            depth += {"{": 1, "}": -1}.get(following, 0)
        words = "".join(self._tokens[start : self._at])
        self._tokens[start : self._at] = [words]  # one token, whose spaces are kept
        self._at = start + 1
        return words[1:-1]

    def _delimiter(self, token: str) -> None:
        following = self._take()
        if following in ("", "{", "}") or following.isalnum():
            raise _NotAFormula(f"{token} needs a bracket after it, such as {token}(")

    def _environment(self) -> None:
        """Walk from \\begin{name} over \\end{name}."""
        name = self._words("\\begin")
        if name not in ENVIRONMENTS:
            raise _NotAFormula(
                f"unknown environment {name!r}.{nearest(name, sorted(ENVIRONMENTS))} "
                "Known: " + ", ".join(sorted(ENVIRONMENTS))
            )
        if name in ("array", "alignedat"):  # its columns: {lcr}
            self._words(f"\\begin{{{name}}}")
        with self._deeper():
            self._formula(until="\\end")
        ended = self._words("\\end")
        if ended != name:
            raise _NotAFormula(f"\\begin{{{name}}} is closed by \\end{{{ended}}}")


_UNCLOSED = {
    "": "",
    "}": "a { is not closed",
    "]": "a [ is not closed",
    "\\right": "\\left has no \\right",
    "\\end": "\\begin has no \\end",
}
_UNOPENED = {"right": "\\right has no \\left", "end": "\\end has no \\begin"}


def _alike(word: str) -> str:
    """Return " Did you mean \\sum?", or "" when no command is near."""
    near = get_close_matches(word, sorted(COMMANDS), n=1, cutoff=0.75)
    return f" Did you mean \\{near[0]}?" if near else ""
