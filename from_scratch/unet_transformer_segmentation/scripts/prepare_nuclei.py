"""Prepare the cell nuclei (2018 Data Science Bowl, BBBC038, CC0) for `data.kind=folder`.

In comes a zip or folder with images/, masks/ and index.csv; out go the same pictures and
manifest.csv with the data set's own train and test split. A mask numbers the nuclei 1 ... n, so
the class map is {background: 0, nucleus: "1-255"}. Validation images are taken from train when the
folder is opened (`valid_fraction`).

Example: python scripts/prepare_nuclei.py dsb2018_nuclei.zip data/nuclei
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from sources import open_source, read_index, run, write_manifest
from unet_seg.runs import write_atomic

CLASS_MAP = '{background: 0, nucleus: "1-255"}'


def prepare(source_path: Path, out: Path) -> str:
    """Copy the images and masks and write the manifest; returns a summary to print."""
    source = open_source(source_path)
    rows = read_index(source, ("image", "mask", "split", "nuclei"))
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for row in rows:
        for name in (row["image"], row["mask"]):
            write_atomic(out / name, (source / name).read_bytes())
    write_manifest(out, [{key: row[key] for key in ("image", "mask", "split")} for row in rows])

    counts = Counter(row["split"] for row in rows)
    nuclei = sum(int(row["nuclei"]) for row in rows)
    return (
        f"{out}: {len(rows)} images ({counts['train']} train, {counts['test']} test), "
        f"{nuclei} nuclei\ndata.folder.class_map: {CLASS_MAP}"
    )


if __name__ == "__main__":
    sys.exit(run(__doc__.splitlines()[0], prepare))
