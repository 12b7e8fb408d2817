"""Files that are whole or absent: every file Maquette writes goes through here.

A write goes to a temporary file in the same folder, is flushed to disk, and then takes the final
name in one step, so a kill or a full disk never leaves half a file under a name somebody reads.
What is fetched from elsewhere is kept in one cache folder, and there too only whole things lie.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from maquette.errors import RunError

CACHE = "MAQUETTE_CACHE"
"""Environment variable that names the cache folder; ~/.cache/maquette when unset."""


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary)` and move the result to `path`; on any failure `path` is untouched.

    Raises:
        RunError: the disk is full, the folder is missing or not writable.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"Could not write {path}: {error.strerror or error}. "
            "Nothing was left half-written; free some space or choose another folder and run again."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomic(path, write)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text to `path` atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON to `path` atomically; NaN and infinity are refused, because JSON has neither."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def cache_folder(room: str) -> Path:
    """Return where fetched things of one kind are kept: "data", "models"."""
    chosen = os.environ.get(CACHE)
    return (Path(chosen) if chosen else Path.home() / ".cache" / "maquette") / room


def write_folder_once(final: Path, fill: Callable[[Path], None]) -> Path:
    """Call `fill(temporary folder)` and rename it to `final`, unless `final` exists already.

    When two processes race, the first to finish wins and the other uses its folder.

    Raises:
        RunError: the disk is full, or the place is not writable.
    """
    if final.is_dir():
        return final
    temporary: Path | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(
            tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.", suffix=".part")
        )
        fill(temporary)
        temporary.chmod(0o755)
        temporary.rename(final)
    except OSError as error:
        if not final.is_dir():
            raise RunError(
                f"Could not write {final}: {error.strerror or error}. "
                f"Free some space, or choose another cache folder with {CACHE}=FOLDER."
            ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return final


@contextmanager
def held(lock: Path, *, patience: float) -> Iterator[None]:
    """Let one process at a time into the block; the lock dies with the process that holds it.

    The lock is SQLite's on an empty file: it works on every system, and no kill leaves it behind.

    Args:
        lock: the file, made when absent; its folder must exist.
        patience: seconds to wait for another process.
    Raises:
        TimeoutError: another process held it all the while.
    """
    with closing(sqlite3.connect(lock, timeout=patience, isolation_level=None)) as database:
        try:
            database.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise TimeoutError(str(error)) from None
        yield


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened (not Windows)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
