"""Draw the picture of README.md: input, true mask and predicted mask of test images of a run.

    python -m unet_seg train --config configs/tiny.yaml
    python scripts/draw_example.py runs/RUN docs/images/toy.png

The images are the first ones of the test split: nothing is chosen by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from unet_seg.checkpoints import load_model
from unet_seg.data.build import build_datasets
from unet_seg.image_files import overlay, palette
from unet_seg.infer import predict
from unet_seg.metrics import confusion_matrix, mean_iou
from unet_seg.preview import to_picture

GAP, ZOOM = 4, 2


def draw_example(run: Path, path: Path, count: int) -> list[float]:
    """Write the picture, a column an image; returns the mean IoU of each image."""
    loaded = load_model(run, "cpu")
    dataset = build_datasets(loaded.config)["test"]
    colours = palette(len(loaded.classes))
    columns, scores = [], []
    for index in range(min(count, len(dataset))):
        sample = dataset[index]
        truth, pred = sample.mask.numpy(), predict(loaded, sample.image)
        picture = to_picture(sample)
        grey = picture.mean(axis=2).astype(np.uint8)
        column = [picture, overlay(grey, truth, colours, 0.7), overlay(grey, pred, colours, 0.7)]
        columns.append(np.concatenate([_framed(part) for part in column], axis=0))
        scores.append(mean_iou(confusion_matrix(pred, truth, len(loaded.classes))))
    path.parent.mkdir(parents=True, exist_ok=True)
    # 128 colours are enough for the eye, and the file becomes about three times smaller.
    sheet = Image.fromarray(np.concatenate(columns, axis=1))
    sheet.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    return scores


def _framed(picture: np.ndarray) -> np.ndarray:
    """(H,W,3) enlarged, with a white gap at the right and at the bottom."""
    large = picture.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
    return np.pad(large, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--count", type=int, default=6, help="images (6)")
    options = parser.parse_args()
    for score in draw_example(options.run, options.picture, options.count):
        print(f"mean IoU {score:.4f}")
