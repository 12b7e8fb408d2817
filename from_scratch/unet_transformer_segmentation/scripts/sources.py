"""What the prepare scripts share: reading a zip or a folder, writing a manifest, the arguments."""

from __future__ import annotations

import argparse
import csv
import io
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from unet_seg.errors import SegError
from unet_seg.runs import write_atomic

Source = Path | zipfile.Path
"""Both know `/`, `is_file` and `read_bytes`."""


def open_source(path: Path) -> Source:
    """The top of a data set: a folder, or a zip file read as if it were one.

    Raises:
        SegError: neither, or without index.csv at the top.
    """
    if path.is_dir():
        source: Source = path
    elif path.is_file() and zipfile.is_zipfile(path):
        source = zipfile.Path(path)
    else:
        raise SegError(f"{path}: neither a folder nor a zip file.")
    if not (source / "index.csv").is_file():
        raise SegError(f"{path}: has no index.csv at the top, so it is not this data set.")
    return source


def read_index(source: Source, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of index.csv; SegError if it lacks one of the columns."""
    text = (source / "index.csv").read_bytes().decode("utf-8")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise SegError(
            f"{source}: index.csv has no column {', '.join(missing)}; "
            f"it has {', '.join(reader.fieldnames or ())}."
        )
    return list(reader)


def write_manifest(out: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write out/manifest.csv; the columns are the keys of the first row."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(out / "manifest.csv", buffer.getvalue())


def run(description: str, prepare: Callable[[Path, Path], str]) -> int:
    """Read SOURCE and OUT from the command line, prepare, print the summary; the exit code."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("source", type=Path, help="the data set: a zip file or a folder")
    parser.add_argument("out", type=Path, help="folder to write into; made if absent")
    options = parser.parse_args()
    try:
        print(prepare(options.source, options.out))
    except SegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
