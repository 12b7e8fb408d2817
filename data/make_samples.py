"""Write the sample data that ship with Maquette: `python data/make_samples.py`.

    sample/iris.csv              150 flowers, with the values scikit-learn ships
    sample/images/<colour>/      30 synthetic RGB images of 64 x 64 pixels in 3 classes

Every run writes the same values; a test compares them with the committed files.
"""

from __future__ import annotations

import colorsys
import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_iris

SIDE = 64
IMAGES_PER_CLASS = 10
HUES = {"blue": 2 / 3, "green": 1 / 3, "red": 0.0}


def main(folder: Path) -> None:
    """Write every sample below `folder`."""
    write_iris(folder / "iris.csv")
    write_images(folder / "images")


def write_iris(path: Path) -> None:
    """Write Fisher's 150 flowers: lengths and widths in cm, and the species' name."""
    iris = load_iris()
    species = iris.target_names[iris.target]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            [name.removesuffix(" (cm)").replace(" ", "_") for name in iris.feature_names]
            + ["species"]
        )
        for cells, name in zip(iris.data.tolist(), species, strict=True):
            writer.writerow([*cells, name])


def write_images(folder: Path) -> None:
    """Write ten PNG files for each colour."""
    for label, hue in sorted(HUES.items()):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for index in range(IMAGES_PER_CLASS):
            pixels = draw_image(hue, seed=1000 * sorted(HUES).index(label) + index)
            Image.fromarray(pixels).save(folder / label / f"{index:02d}.png", optimize=True)


def draw_image(hue: float, *, seed: int) -> NDArray[np.uint8]:
    """Draw a disc of about this hue on a greyish ground; place, size and light vary with `seed`.

    Returns:
        (64, 64, 3) uint8.
    """
    random = np.random.RandomState(seed)  # its stream is frozen for ever, unlike default_rng's
    radius = random.uniform(12, 24)
    row, column = random.uniform(radius, SIDE - radius, size=2)
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(y - row, x - column)
    inside = np.clip(radius - distance, 0, 1)[..., None]  # one pixel of soft edge

    disc = _colour((hue + random.uniform(-0.06, 0.06)) % 1, random, saturation=(0.55, 1.0))
    ground = _colour(random.uniform(0, 1), random, saturation=(0.0, 0.15))
    light = 1 - random.uniform(0, 0.35) * (x / SIDE)[..., None]
    noise = random.normal(0, 0.03, size=(SIDE, SIDE, 3))
    image = (inside * disc + (1 - inside) * ground) * light + noise
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def _colour(hue: float, random: Any, *, saturation: tuple[float, float]) -> NDArray[np.float64]:
    return np.array(colorsys.hsv_to_rgb(hue, random.uniform(*saturation), random.uniform(0.5, 1)))


if __name__ == "__main__":
    main(Path(__file__).parent / "sample")
