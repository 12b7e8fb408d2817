"""From a caption to the pieces that the byte pairs are merged in, exactly as CLIP does it.

`clean` repairs and lower-cases; `split` cuts. The reference cuts with a pattern of the `regex`
package, ignoring case: start and end token, 's 't 're 've 'm 'll 'd, \\p{L}+, \\p{N}, and
[^\\s\\p{L}\\p{N}]+ for the rest. Python's own `re` knows no \\p, so a text that is not ASCII
is first drawn as its shape, one ASCII character for each of its characters: a letter becomes "a", a
number "0". The pattern cuts the shape, and the text is cut at the same places.
"""

from __future__ import annotations

import html
import re
import unicodedata

START, END = "<|startoftext|>", "<|endoftext|>"

_PIECES = re.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+"
)
_LONG_S, _IOTA_SUBSCRIPT = "\u017f", "\u0345"


class _Shapes(dict[int, str]):
    """For `str.translate`: the shape of each character, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        shape = self[code] = _shape(chr(code))
        return shape


def _shape(character: str) -> str:
    """Return what stands for a character in the pattern: itself, "a", "0", "!" or a space."""
    if character.isascii():
        return character
    # Two quirks of ignoring case: the long s counts as an s, also in 's; and the iota subscript,
    # a mark whose capital is a letter, is neither one of the letters nor one of the others.
    if character == _LONG_S:
        return "s"
    if character == _IOTA_SUBSCRIPT or character.isspace():
        return " "
    category = unicodedata.category(character)[0]
    return "a" if category == "L" else "0" if category == "N" else "!"


_SHAPES = _Shapes()


def clean(text: str) -> str:
    """Return the text repaired, in lower case, with single spaces and none at the ends.

    Mojibake and curly quotes go through ftfy, HTML entities are resolved twice (captions from the
    web are often escaped twice). Plain ASCII without "&" cannot change in either and skips both.
    """
    if not (text.isascii() and text.isprintable() and "&" not in text):
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def split(text: str) -> list[str]:
    """Cut a cleaned text into words, single digits, runs of other signs, and 's 't 're …"""
    if text.isascii():
        return _PIECES.findall(text)
    return [text[m.start() : m.end()] for m in _PIECES.finditer(text.translate(_SHAPES))]
