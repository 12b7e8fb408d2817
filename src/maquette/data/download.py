"""Bring one file here, whole and checked, over as many attempts as it takes.

What has arrived is kept beside its goal in a `.part` file, also through a kill; the next attempt
asks the server for the rest (HTTP Range) and checks the whole. Bytes with another checksum are
never kept.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from maquette.errors import DataError, RunError
from maquette.files import CACHE, sha256

Report = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes of the whole."""

_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte


class SourceError(Exception):
    """The place a file comes from does not answer, or stopped answering."""


def download(
    address: str, part: Path, *, digest: str, size: int, report: Report | None = None
) -> None:
    """Fill `part` with the bytes of `address` and check them; continue where `part` ends.

    Args:
        address: http(s), or the path of a file.
        digest, size: the SHA-256 and the length that the bytes must have.
    Raises:
        SourceError: the source cannot be read; what has arrived stays in `part`.
        DataError: the source has other bytes; `part` is removed.
        RunError: `part` cannot be written; it is removed, for the disk may be full.
    """
    had = part.stat().st_size if part.exists() else 0
    if had > size:
        part.unlink()
        had = 0
    if had < size:
        _continue(address, part, had, size, report)
    found, length = sha256(part), part.stat().st_size
    if found == digest:
        return
    part.unlink()
    if had:  # the first bytes may be those of another mirror: once more from the start
        download(address, part, digest=digest, size=size, report=report)
        return
    raise DataError(
        f"{address} is not the file the catalogue knows: sha256 {found} of "
        f"{'more than ' if length > size else ''}{min(length, size)} bytes, expected {digest} of "
        f"{size}. Nothing was kept; replace the file in the mirror and run again."
    )


def _continue(address: str, part: Path, had: int, size: int, report: Report | None) -> None:
    """Append to `part` until the source ends, or is longer than it should be."""
    with _opened(address, had) as (start, chunks):
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("r+b" if start else "wb") as file:
                file.seek(start)
                for chunk in chunks:
                    file.write(chunk)
                    if report is not None:
                        report(file.tell(), size)
                    if file.tell() > size:
                        break
        except OSError as error:
            part.unlink(missing_ok=True)
            raise RunError(
                f"Could not write {part}: {error.strerror or error}. Free {size} bytes, or choose "
                f"another cache folder with {CACHE}=FOLDER."
            ) from None


@contextmanager
def _opened(address: str, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Open a source at `offset`; yield where it really starts (0 or `offset`) and its chunks."""
    if address.startswith(("http://", "https://")):
        with _opened_http(address, offset) as opened:
            yield opened
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(address).open("rb"))
        except OSError as error:
            raise SourceError(error.strerror or str(error)) from None
        file.seek(offset)
        yield offset, _chunks(file.read, None)


@contextmanager
def _opened_http(address: str, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    headers = {"Range": f"bytes={offset}-"} if offset else {}
    try:
        response = urlopen(Request(address, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and offset:  # the server's file is shorter than what is here
            with _opened_http(address, 0) as opened:
                yield opened
            return
        raise SourceError(f"the server answered {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise SourceError(getattr(error, "strerror", None) or str(error)) from None
    with response:
        # A server that knows no ranges, or another range than asked, sends the whole again.
        given = response.headers.get("Content-Range", "")
        is_rest = response.status == 206 and given.startswith(f"bytes {offset}-")
        length = response.headers.get("Content-Length", "")
        expected = int(length) if length.isdigit() else None
        yield (offset if is_rest else 0), _chunks(response.read, expected)


def _chunks(read: Callable[[int], bytes], expected: int | None) -> Iterator[bytes]:
    """Yield bytes until the source ends; fewer than `expected` mean that it broke off."""
    from http.client import HTTPException

    received = 0
    while True:
        try:
            chunk = read(_CHUNK)
        except (OSError, HTTPException) as error:
            raise SourceError(f"reading broke off: {error!r}") from None
        if not chunk:
            break
        received += len(chunk)
        yield chunk
    if expected is not None and received < expected:
        raise SourceError(f"the connection ended after {received} of {expected} bytes")


class ProgressLine:
    """What a person sees of a download: a live line on a terminal, else a line now and then.

    A download that is done before the first line is due shows nothing.
    """

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self.name = name
        self.stream = sys.stderr if stream is None else stream
        self.is_live = self.stream.isatty()
        self.interval = 0.2 if self.is_live else 5.0
        self._last = time.monotonic()
        self._is_open = False

    def __call__(self, done: int, size: int) -> None:
        """Show the state, unless a line was shown just now."""
        now = time.monotonic()
        if now - self._last < self.interval:
            return
        self._last = now
        text = f"{self.name}: {done / 1e6:.1f} of {size / 1e6:.1f} MB ({done / size:.0%})"
        self.stream.write(f"\r{text}" if self.is_live else f"{text}\n")
        self.stream.flush()
        self._is_open = self.is_live

    def close(self) -> None:
        """End the live line, if there is one."""
        if self._is_open:
            self.stream.write("\n")
            self._is_open = False
