"""Make a segmentation task of the printed circuit boards (DeepPCB, MIT licence).

In comes a zip or folder with tested/, template/ and index.csv: 96x96 scans of a board in black
(copper) and white, the aligned scan of a board without fault, and a box around one defect. Out go

    images/NAME.png    RGB: R tested, G template, B where they differ (255) or agree (0)
    masks/NAME.png     class id where they differ inside the defect box, else 0
    manifest.csv       image, mask and split: train, valid, test

The box is half-open, x1 <= x < x2 and y1 <= y < y2: boxes that reach the right or lower border end
at 96, one beyond the last pixel. Its edges lie about 10 pixels off the defect, so nothing hangs on
that. Differences outside the box are background: mostly edges of tracks, where the two scans are a
pixel or two apart. The same edges inside the box carry the class, which is noise in the labels that
no network can predict exactly; thin differences (without a 2x2 block) are about 9 % of the
labelled pixels.

Every seventh training scan is held out for validation, whole, because patches of one scan overlap.

Example: python scripts/prepare_pcb.py deeppcb_patches.zip data/pcb
"""

from __future__ import annotations

import sys
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sources import Source, open_source, read_index, run, write_manifest
from unet_seg.errors import SegError
from unet_seg.image_files import palette, write_mask, write_png

CLASSES = ("background", "open", "short", "mousebite", "spur", "copper", "pin-hole")
HOLD_OUT_EVERY = 7


def prepare(source_path: Path, out: Path) -> str:
    """Write the images, masks and manifest; returns a summary to print."""
    source = open_source(source_path)
    rows = read_index(
        source, ("image", "template", "label", "label_id", "split", "x1", "y1", "x2", "y2")
    )
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    train_scans = sorted({scan(row) for row in rows if row["split"] == "train"})
    held_out = set(train_scans[::HOLD_OUT_EVERY])

    manifest, images, pixels = [], Counter[str](), np.zeros(len(CLASSES), dtype=np.int64)
    for row in rows:
        name = Path(row["image"]).name
        image, mask = picture(
            read_bits(source, row["image"]), read_bits(source, row["template"]), row
        )
        write_png(out / "images" / name, image)
        write_mask(out / "masks" / name, mask, palette(len(CLASSES)))
        split = "valid" if row["split"] == "train" and scan(row) in held_out else row["split"]
        manifest.append({"image": f"images/{name}", "mask": f"masks/{name}", "split": split})
        images[split] += 1
        pixels += np.bincount(mask.ravel(), minlength=len(CLASSES))
    write_manifest(out, manifest)
    return summary(out, images, pixels)


def picture(
    tested: npt.NDArray[np.bool_], template: npt.NDArray[np.bool_], row: dict[str, str]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The RGB image (H,W,3) and the mask (H,W) of one row of the index."""
    differ = tested ^ template
    image = np.stack([tested, template, differ], axis=2).astype(np.uint8) * 255
    mask = np.zeros(tested.shape, dtype=np.uint8)
    if row["label"] != "good":  # a good patch has no box
        label = int(row["label_id"])
        if CLASSES[label] != row["label"]:
            raise SegError(f"{row['image']}: label {row['label']!r} has label_id {label}.")
        x1, y1, x2, y2 = (int(row[key]) for key in ("x1", "y1", "x2", "y2"))
        mask[y1:y2, x1:x2] = differ[y1:y2, x1:x2] * np.uint8(label)
    return image, mask


def scan(row: dict[str, str]) -> str:
    """The scan a patch was cut from: tested/spur_20085140_490_187.png -> 20085140."""
    return Path(row["image"]).stem.rsplit("_", 3)[1]


def read_bits(source: Source, name: str) -> npt.NDArray[np.bool_]:
    """A 1-bit PNG as booleans (H,W), True where the board is bare."""
    with Image.open(BytesIO((source / name).read_bytes())) as file:
        return np.asarray(file.convert("1"))


def summary(out: Path, images: Counter[str], pixels: npt.NDArray[np.int64]) -> str:
    """What to print: images by split, the share of each class, the class map."""
    splits = ", ".join(f"{images[split]} {split}" for split in ("train", "valid", "test"))
    lines = [f"{out}: {images.total()} images ({splits})"]
    for name, count in zip(CLASSES, pixels, strict=True):
        lines.append(f"  {name:10} {100 * count / pixels.sum():7.3f} % of all pixels")
    ids = ", ".join(f"{name}: {i}" for i, name in enumerate(CLASSES))
    return "\n".join([*lines, f"data.folder.class_map: {{{ids}}}"])


if __name__ == "__main__":
    sys.exit(run(__doc__.splitlines()[0], prepare))
