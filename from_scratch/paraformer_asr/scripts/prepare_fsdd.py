"""Unpack the spoken digits (FSDD, CC BY-SA 4.0) for `data.kind=manifest`.

In comes fsdd.zip: 2500 recordings of English digits at 8 kHz by five speakers, 50 takes each. Out
go the same recordings in one folder and manifest.csv with the columns path, text, speaker, split.
The archive's own rule makes takes 0-4 the test; here takes 5-9 are held out as valid.

Example: python scripts/prepare_fsdd.py --source fsdd.zip --out data/fsdd
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import shutil
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

from paraformer_asr.errors import AsrError

SHA256 = "ffffc961f9b435a2f94681a0879de35e448cccbcb3ca89969da613a8cfea7807"
COLUMNS = ("file", "digit", "transcript", "speaker", "take", "split")
VALID_TAKES = range(5, 10)
MIRROR = "MAQUETTE_DATA_MIRROR"


def prepare(source: Path, out: Path, *, words: bool = False, sha256: str = SHA256) -> str:
    """Make the folder `out` anew; returns a summary to print.

    Everything is written beside `out` first and takes its place when it is complete.

    Args:
        words: texts are words (zero) instead of digits (0).
        sha256: of the archive.
    Raises:
        AsrError: the archive is missing, damaged or another one; `out` holds something else.
    """
    if not source.is_file():
        raise AsrError(f"{source}: there is no such file; give fsdd.zip with --source.")
    content = source.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise AsrError(
            f"{source}: its sha256 is {found}, expected {sha256}; it is cut off or another "
            "version. Get it again."
        )
    check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        new = work / "new"
        new.mkdir()
        rows = unpack(source, content, new, words)
        if out.exists():
            out.rename(work / "old")
        new.rename(out)
    finally:
        shutil.rmtree(work)
    counts = Counter(row["split"] for row in rows)
    speakers = sorted({row["speaker"] for row in rows})
    return (
        f"{out}/manifest.csv: {len(rows)} recordings ({counts['train']} train, {counts['valid']} "
        f"valid, {counts['test']} test) of {', '.join(speakers)}"
    )


def check_replaceable(out: Path) -> None:
    """Refuse a folder that holds anything this script does not write."""
    if out.is_file():
        raise AsrError(f"{out}: is a file; name a folder with --out.")
    others = [p.name for p in out.glob("*") if p.name != "manifest.csv" and p.suffix != ".wav"]
    if others:
        raise AsrError(
            f"{out}: holds {min(others)}, which is not from here; name a new folder with --out."
        )


def unpack(source: Path, content: bytes, folder: Path, words: bool) -> list[dict[str, str]]:
    """Write recordings and manifest into an empty folder; returns the manifest's rows."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile:
        raise AsrError(f"{source}: is no zip archive; get it again.") from None
    with archive:
        index = read_index(source, archive)
        members = set(archive.namelist())
        rows = []
        for number, row in index:
            if row["file"] not in members:
                raise AsrError(
                    f"{source}: index.csv:{number}: {row['file']} is not in the archive."
                )
            name = PurePosixPath(row["file"]).name  # never a path out of the folder
            (folder / name).write_bytes(archive.read(row["file"]))
            split = "valid" if row["split"] == "train" and is_valid(row) else row["split"]
            text = row["transcript"] if words else row["digit"]
            rows.append({"path": name, "text": text, "speaker": row["speaker"], "split": split})
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "text", "speaker", "split"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def is_valid(row: dict[str, str]) -> bool:
    return row["take"].isdecimal() and int(row["take"]) in VALID_TAKES


def read_index(source: Path, archive: zipfile.ZipFile) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and rows of index.csv."""
    try:
        text = archive.read("index.csv").decode("utf-8")
    except KeyError:
        raise AsrError(f"{source}: holds no index.csv; get fsdd.zip.") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise AsrError(f"{source}: index.csv has no column {', '.join(missing)}; get fsdd.zip.")
    return list(enumerate(reader, start=2))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--source", type=Path, help=f"the archive; by default ${MIRROR}/fsdd/fsdd.zip"
    )
    parser.add_argument("--out", type=Path, default=Path("data/fsdd"), help="default: %(default)s")
    parser.add_argument("--words", action="store_true", help="texts are words, not digits")
    given = parser.parse_args(arguments)
    try:
        source = given.source
        if source is None:
            mirror = os.environ.get(MIRROR)
            if not mirror:
                raise AsrError(f"give the archive with --source fsdd.zip, or set ${MIRROR}.")
            source = Path(mirror) / "fsdd" / "fsdd.zip"
        print(prepare(source, given.out, words=given.words))
    except (AsrError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
