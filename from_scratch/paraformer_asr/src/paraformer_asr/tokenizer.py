"""Texts to token ids and back, one character per token.

The vocabulary is laid out as FunASR's: <blank> (0, for CTC), <s> (1), </s> (2), then the characters
and <unk> last. Its file has one token per line, so the line number is the id plus one.
A character is one Unicode code point; `metrics.normalize` is the place to unify spellings before.

Letters: V vocabulary size, special tokens included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from paraformer_asr.errors import AsrError
from paraformer_asr.files import write_atomic

PADDING = -1
"""Fills token sequences of a batch up to the longest; no token has this id."""

FIRST = ("<blank>", "<s>", "</s>")
LAST = "<unk>"
UNKNOWN_MARK = "\N{DOUBLE QUESTION MARK}"
"""Stands for <unk> in decoded text, so that a character outside of the vocabulary is seen."""


class Tokenizer:
    """A vocabulary and the translation both ways.

    Vocabularies of converted models also hold longer tokens: whole words, and beginnings of words
    that end in "@@". Such tokens are decoded, but text is always encoded by single characters.
    """

    blank = 0
    start = 1
    end = 2

    def __init__(self, characters: Sequence[str]) -> None:
        """Take the tokens between </s> and <unk>, in the order of their ids.

        Raises:
            AsrError: none at all, a repeated one, a special one, or one that is empty or holds
                white space beside other characters.
        """
        self.characters = tuple(characters)
        if not self.characters:
            raise AsrError("the vocabulary is empty; expected at least one character.")
        seen: set[str] = set()
        for position, token in enumerate(self.characters):
            problem = _problem(token, seen)
            if problem:
                raise AsrError(f"character {position} of the vocabulary {problem}.")
            seen.add(token)
        self.tokens = (*FIRST, *self.characters, LAST)
        """All V tokens by id."""
        self.size = len(self.tokens)
        self.unknown = self.size - 1
        self._ids = {token: i for i, token in enumerate(self.tokens) if len(token) == 1}
        self._has_words = any(len(token) > 1 for token in self.characters)

    @classmethod
    def build(cls, texts: Iterable[str]) -> Tokenizer:
        """Every character of `texts`, sorted by code point, so that their order does not matter.

        Raises:
            AsrError: the texts have no characters.
        """
        characters = sorted(set().union(*texts))
        if not characters:
            raise AsrError(
                "no vocabulary can be built: all texts are empty. Look at the column text of the "
                "manifest, or set data.characters."
            )
        return cls(characters)

    def encode(self, text: str, *, where: str = "text") -> list[int]:
        """Ids of the characters of `text`; `unknown` for those that the vocabulary lacks.

        Args:
            text: any string; an empty one has no ids.
            where: what error messages call the text.
        Raises:
            AsrError: `text` is not a string.
        """
        if not isinstance(text, str):
            raise AsrError(f"{where} is {text!r}; expected a string of characters.")
        return [self._ids.get(character, self.unknown) for character in text]

    def unknown_characters(self, text: str) -> list[str]:
        """Characters of `text` that the vocabulary lacks, each once, in order of appearance."""
        return [character for character in dict.fromkeys(text) if character not in self._ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids: `decode(encode(text)) == text` if no character is unknown.

        <blank>, <s>, </s> and PADDING are left out and <unk> becomes a double question mark.
        Longer tokens are set apart from neighbouring words by a space, unless they end in "@@".

        Raises:
            AsrError: an id that is neither in the vocabulary nor PADDING.
        """
        tokens = []
        for token_id in map(int, ids):
            if not PADDING <= token_id < self.size:
                raise AsrError(
                    f"token id {token_id} is outside of the vocabulary of {self.size} tokens; "
                    "the ids come from a model with another vocabulary."
                )
            if token_id > self.end:
                tokens.append(UNKNOWN_MARK if token_id == self.unknown else self.tokens[token_id])
        return _join_words(tokens) if self._has_words else "".join(tokens)

    def save(self, path: Path) -> None:
        """Write one token per line in UTF-8; what cannot be seen is written as U+0020 and so on."""
        write_atomic(path, "".join(f"{_escape(token)}\n" for token in self.tokens))

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a file that `save` wrote, or one edited by hand.

        Raises:
            AsrError: no such file, or a damaged one; names the line.
        """
        lines = _read_lines(path)
        for i, token in enumerate(FIRST):
            if lines[i : i + 1] != [token]:
                found = repr(lines[i]) if i < len(lines) else "the end of the file"
                raise AsrError(f"{path}:{i + 1}: found {found}; expected {token}.")
        if lines[-1] != LAST:
            raise AsrError(
                f"{path}:{len(lines)}: the last token is {lines[-1]!r}; expected {LAST}. "
                "The file is cut off or was not written by this package."
            )
        characters: dict[str, None] = {}  # keeps the order, and repeats are found at once
        for number, line in enumerate(lines[len(FIRST) : -1], start=len(FIRST) + 1):
            token = _unescape(line, f"{path}:{number}")
            problem = _problem(token, characters)
            if problem:
                raise AsrError(f"{path}:{number}: the token {problem}.")
            characters[token] = None
        if not characters:
            raise AsrError(f"{path}: no tokens between {FIRST[-1]} and {LAST}.")
        return cls(tuple(characters))


def _problem(token: object, seen: Iterable[str]) -> str | None:
    """What is wrong with a token of the vocabulary, if anything."""
    if not isinstance(token, str) or not token:
        return f"is {token!r}; expected one character"
    if token in seen:
        return f"repeats {token!r}; each may appear once"
    if token in (*FIRST, LAST):
        return f"is {token!r}, which is added by itself; leave it out"
    if len(token) > 1 and (_is_escape(token) or any(not _is_visible(c) for c in token)):
        return f"is {token!r}, which has several characters, not all of them visible"
    return None


def _is_visible(character: str) -> bool:
    return character.isprintable() and not character.isspace()


def _is_escape(line: str) -> bool:
    return line.startswith("U+") and len(line) > 2


def _escape(token: str) -> str:
    return f"U+{ord(token):04X}" if len(token) == 1 and not _is_visible(token) else token


def _unescape(line: str, where: str) -> str:
    if not _is_escape(line):
        return line
    try:
        return chr(int(line[2:], 16))
    except (ValueError, OverflowError):
        raise AsrError(
            f"{where}: {line!r} is no code point; expected U+0000 to U+10FFFF, such as U+0020."
        ) from None


def _read_lines(path: Path) -> list[str]:
    """Lines of the file without their ends, those of Windows included; at least one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AsrError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise AsrError(f"{path}:{number}: not UTF-8 text; save the file as UTF-8.") from None
    lines = text.removesuffix("\n").split("\n")  # not splitlines: it also splits at U+2028
    return [line.removesuffix("\r") for line in lines]


def _join_words(tokens: Sequence[str]) -> str:
    """Join tokens of a mixed vocabulary: "@@" glues, words of letters A to Z get spaces between."""
    text = ""
    glued = True
    for token in tokens:
        piece = token.removesuffix("@@")
        if not glued and _is_latin(text[-1:]) and _is_latin(piece[:1]):
            text += " "
        text += piece
        glued = token != piece
    return text


def _is_latin(character: str) -> bool:
    return character.isascii() and character.isalnum()
