"""Bytes -> UTF-8 text, or an error that says where the text breaks and which encoding reads it."""

from __future__ import annotations

import codecs
from pathlib import Path

from maquette.errors import DataError, UsageError, nearest

BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
COMMON = ("utf-8", "utf-16", "latin-1", "cp1252", "shift_jis", "gb18030")
MAGIC = {
    b"PK\x03\x04": "a zip file or an Excel workbook; save the sheet as CSV",
    b"\x1f\x8b": "a gzip file; unpack it",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"SQLite": "an SQLite database; export the table as CSV",
    b"\x80\x04\x95": "a Python pickle; write the table as CSV or Parquet",
}


def to_utf8(path: Path, content: bytes, encoding: str) -> bytes:
    r"""Return the text as UTF-8 bytes without a byte order mark, with at least one "\n" line end.

    Raises:
        DataError: empty, not text, or not text in `encoding`; the message says which would be.
        UsageError: there is no such encoding.
    """
    codec = _codec(encoding)
    if kind := next((kind for mark, kind in MAGIC.items() if content.startswith(mark)), None):
        raise DataError(f"{path} is not a table but {kind}. Expected CSV text or Parquet.")
    content = _without_mark(path, content, codec)
    if codec not in ("utf-8", "ascii"):
        content = _decode(path, content, codec).encode()
    elif not content.isascii():
        _decode(path, content, codec)
    if not content.strip():
        raise DataError(f"{path} is empty; expected a header row and at least one row of cells.")
    if b"\0" in content:
        raise DataError(
            f"{path} is not a table: it holds zero bytes. Expected CSV text or Parquet; text that "
            "was saved as Unicode or UTF-16 needs encoding: utf-16."
        )
    return content if b"\n" in content else content.replace(b"\r", b"\n")


def guess_encoding(content: bytes) -> str:
    """Name an encoding that reads these bytes: by their mark, else UTF-8, else Western Europe's."""
    for mark, name in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return name
    for name in ("utf-8", "cp1252"):
        try:
            content.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return "latin-1"  # reads any bytes


def _codec(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise UsageError(
            f"encoding {encoding!r} is not the name of a text encoding."
            f"{nearest(encoding, COMMON)} Common ones: {', '.join(COMMON)}."
        ) from None


def _without_mark(path: Path, content: bytes, codec: str) -> bytes:
    """Drop UTF-8's mark; UTF-16's decoder needs its own; any other reading would be wrong."""
    for mark, name in BYTE_ORDER_MARKS:
        if not content.startswith(mark) or codec.startswith(name):
            continue
        if name == "utf-8":
            return content if codec == "utf-8-sig" else content[len(mark) :]
        raise DataError(
            f"{path} starts with the byte order mark of {name} but is read as {codec}. "
            f"Set encoding: {name}."
        )
    if codec == "utf-8":
        return content.removeprefix(codecs.BOM_UTF8)
    return content


def _decode(path: Path, content: bytes, codec: str) -> str:
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        start, guess = error.start, guess_encoding(content)
    row = content.count(b"\n", 0, start) + 1
    first = max(content.rfind(b"\n", 0, start) + 1, start - 20)
    near = content[first : start + 20].splitlines()[0].decode(guess, "replace")
    raise DataError(
        f"{path}: row {row} is not {codec} text: byte 0x{content[start]:02x} at offset {start}, in "
        f"{near!r} (shown as {guess}). Set encoding: {guess}, or save the file as UTF-8."
    )
