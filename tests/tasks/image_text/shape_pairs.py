"""Coloured shapes with captions: pairs that a small network can learn in seconds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from maquette.recipe import Recipe, make_recipe

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220)}
SHAPES = ("disc", "square", "cross")


def draw(colour: str, shape: str, *, seed: int, side: int = 24) -> Image.Image:
    """One shape somewhere on a grey ground."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), tuple(rng.integers(90, 160, 3).tolist()))
    left, top = rng.integers(2, 8, 2).tolist()
    right, bottom = left + 13, top + 13
    pen, fill = ImageDraw.Draw(image), COLOURS[colour]
    if shape == "disc":
        pen.ellipse((left, top, right, bottom), fill=fill)
    elif shape == "square":
        pen.rectangle((left, top, right, bottom), fill=fill)
    else:
        pen.rectangle((left + 5, top, left + 8, bottom), fill=fill)
        pen.rectangle((left, top + 5, right, top + 8), fill=fill)
    return image


def shape_manifest(folder: Path, count: int = 60) -> Path:
    """Write `count` pictures and pairs.csv with the columns image, text, colour."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(count):
        colour, shape = list(COLOURS)[number % 3], SHAPES[number // 3 % 3]
        name = f"images/{number:03d}.png"
        draw(colour, shape, seed=number).save(folder / name)
        rows.append({"image": name, "text": f"a {colour} {shape}", "colour": colour})
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["image", "text", "colour"])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "pairs.csv"


def colour_folders(folder: Path, count: int = 36) -> Path:
    """Write pictures into one folder per colour."""
    for number in range(count):
        colour = list(COLOURS)[number % 3]
        (folder / colour).mkdir(parents=True, exist_ok=True)
        draw(colour, SHAPES[number // 3 % 3], seed=number).save(folder / colour / f"{number}.png")
    return folder


def shape_recipe(runs: Path, path: Path | str, **changes: Any) -> Recipe:
    """A recipe for a very small CLIP; keys of `changes` are dotted with __: data__image_size=16."""
    values: dict[str, Any] = {
        "name": "shapes",
        "runs_dir": str(runs),
        "device": "cpu",
        "data": {
            "image_text": {
                "path": str(path),
                "image_size": 16,
                "context_length": 16,
                "vocabulary_size": 560,
                "augmentation": {},
            }
        },
        "model": {"type": "image_text", "name": "clip_tiny", "architecture": {}},
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.003},
        "evaluation": {"bootstrap": 20, "probes": 16},
        "tracking": {"enabled": False},
    }
    for key, value in changes.items():
        *sections, last = key.split("__")
        place = values
        for section in sections:
            place = (
                place["data"]["image_text"] if section == "pairs" else place.setdefault(section, {})
            )
        place[last] = value
    return make_recipe(values)
