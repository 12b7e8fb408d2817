"""Toy data: images of simple shapes, drawn on demand, with masks that are exact to the pixel.

Goes in: an index. Comes out: a `Sample` that depends on (seed, split, index) and the settings, not
on the number of workers or the order of loading. Start reading at `ToyShapes.__getitem__`.

A pixel belongs to a shape if and only if its centre lies inside; pixel (i, j) has its centre at
y = i + 1/2, x = j + 1/2. Later shapes cover earlier ones. What is where is decided here, and before
any number is drawn for the looks (`paint.py`): noise, blur and texture never change a mask.

Letters: C channels, H, W image size, h, w size of a shape's box, K things in an image, the
background being thing 0.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch.utils.data import Dataset

from unet_seg.config import TOY_SHAPES, ToyConfig
from unet_seg.data.paint import paint
from unet_seg.data.sample import Sample
from unet_seg.data.shapes import DRAW, Bools, Floats, Shape
from unet_seg.errors import SegError
from unet_seg.seed import generator_for

SPLITS = {"train": 0, "valid": 1, "test": 2}
"""Split -> its part of the generator's key, so that the splits share no image."""

TOY_KEY = 0x70E5
"""Part of the generator's key, so that images are not drawn by numbers that augment them too."""


class ToyShapes(Dataset[Sample]):
    """Random shapes on a plain or textured background.

    Items are samples with an image uint8 (C,H,W) and a mask uint8 (H,W): 0 background, i + 1 the
    i-th of `shapes`. The settings are explained in `ToyConfig`, which also checks them.

    Args:
        num_samples: length of the dataset; sample i is the same whatever the length.
        seed: 0 or larger.
        split: train, valid or test; only changes which images are drawn.
        channels: 3 for colour, 1 for grey.
    Raises:
        SegError: a setting out of range, or a shape or split of another name.
    """

    def __init__(
        self,
        *,
        num_samples: int,
        seed: int = 0,
        split: str = "train",
        channels: int = 3,
        image_size: tuple[int, int] = (64, 64),
        shapes: tuple[str, ...] = TOY_SHAPES,
        class_weights: tuple[float, ...] | None = None,
        count: tuple[int, int] = (1, 4),
        size: tuple[float, float] = (0.12, 0.3),
        noise: float = 0.05,
        blur: float = 0.0,
        occlusion: float = 0.0,
        texture: float = 0.0,
    ) -> None:
        _check_known("split", (split,), SPLITS)
        _check_known("shape", shapes, DRAW)
        for name, value, smallest in (("num_samples", num_samples, 1), ("seed", seed, 0)):
            if value < smallest:
                raise SegError(f"ToyShapes: {name}={value} must be at least {smallest}.")
        if channels not in (1, 3):
            raise SegError(f"ToyShapes: channels={channels} must be 3 (colour) or 1 (grey).")
        self.num_samples, self.seed, self.split, self.channels = num_samples, seed, split, channels
        self.toy = ToyConfig(
            image_size=image_size,
            shapes=shapes,  # type: ignore[arg-type]  # the names were checked above
            class_weights=class_weights,
            count=count,
            size=size,
            noise=noise,
            blur=blur,
            occlusion=occlusion,
            texture=texture,
        )
        self.classes: tuple[str, ...] = ("background", *shapes)

    @classmethod
    def from_config(cls, toy: ToyConfig, *, split: str, seed: int, channels: int = 3) -> ToyShapes:
        """The train, valid or test split that a configuration describes."""
        _check_known("split", (split,), SPLITS)
        return cls(
            num_samples=getattr(toy, f"num_{split}"),
            seed=seed,
            split=split,
            channels=channels,
            image_size=toy.image_size,
            shapes=toy.shapes,
            class_weights=toy.class_weights,
            count=toy.count,
            size=toy.size,
            noise=toy.noise,
            blur=toy.blur,
            occlusion=toy.occlusion,
            texture=toy.texture,
        )

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.num_samples:
            raise IndexError(f"sample {index} of {self.num_samples}")
        generator = generator_for(self.seed, TOY_KEY, SPLITS[self.split], index)
        scene = draw_scene(self.toy, generator)
        owner_HW = locate(scene, self.toy.image_size)
        label_K = np.array([0, *(thing.label for thing in scene)], dtype=np.uint8)
        image_CHW = paint(
            owner_HW,
            len(label_K),
            channels=self.channels,
            texture=self.toy.texture,
            blur=self.toy.blur,
            noise=self.toy.noise,
            generator=generator,
        )
        return Sample(
            image=torch.from_numpy(image_CHW),
            mask=torch.from_numpy(label_K[owner_HW]),
            name=f"{self.split}_{index:05d}",
        )


@dataclass(frozen=True)
class Bar:
    """A straight bar across a shape: the points at `offset` +- `half_width` along `angle`."""

    angle: float
    offset: float
    half_width: float

    def inside(self, y: Floats, x: Floats) -> Bools:
        along = y * math.sin(self.angle) + x * math.cos(self.angle)
        return np.abs(along - self.offset) <= self.half_width


@dataclass(frozen=True)
class Thing:
    """One shape of a scene: its class, where it is, and the bar that hides a part of it."""

    label: int
    shape: Shape
    centre: tuple[float, float]
    """(y, x) in pixels; the whole shape lies within the image."""
    bar: Bar | None


def draw_scene(toy: ToyConfig, generator: np.random.Generator) -> list[Thing]:
    """Decide what is where, the first thing lowest.

    The numbers drawn do not depend on `occlusion`: switching it on only adds bars.
    """
    H, W = toy.image_size
    weights = np.array(toy.class_weights or [1.0] * len(toy.shapes))
    limits = np.cumsum(weights)
    scene: list[Thing] = []
    for _ in range(generator.integers(toy.count[0], toy.count[1], endpoint=True)):
        kind = int(np.searchsorted(limits, generator.random() * limits[-1], side="right"))
        radius = generator.uniform(*toy.size) * min(H, W)
        shape = DRAW[toy.shapes[kind]](radius, generator)
        centre = _find_place(radius, scene, (H, W), generator)
        hidden, angle, offset, half_width = generator.uniform(
            (0, 0, -0.4, 0.1), (1, math.pi, 0.4, 0.18)
        )
        bar = Bar(angle, offset * radius, half_width * radius)
        scene.append(Thing(kind + 1, shape, centre, bar if hidden < toy.occlusion else None))
    return scene


def _find_place(
    radius: float, scene: list[Thing], size: tuple[int, int], generator: np.random.Generator
) -> tuple[float, float]:
    """The first of 64 random centres that leaves the earlier shapes recognisable.

    Seen as circles, the smaller of two shapes may reach into the other by 0.6 of its radius. If no
    centre does so well, it is the best of them.
    """
    H, W = size
    low, high = (radius, radius), (H - radius, W - radius)
    centres = generator.uniform(low, high, size=(64, 2))
    room = np.full(64, 0.4)
    for other in scene:
        apart = np.hypot(*(centres - other.centre).T)
        smaller, larger = sorted((radius, other.shape.radius))
        room = np.minimum(room, (apart - larger) / smaller)
    y, x = centres[room.argmax()]  # the first of equals
    return float(y), float(x)


def locate(scene: list[Thing], size: tuple[int, int]) -> NDArray[np.int64]:
    """(H,W): which thing each pixel shows, counted from 1; 0 is the background."""
    H, W = size
    owner_HW = np.zeros((H, W), dtype=np.int64)
    for number, thing in enumerate(scene, start=1):
        (cy, cx), radius = thing.centre, thing.shape.radius
        top, left = max(math.floor(cy - radius), 0), max(math.floor(cx - radius), 0)
        bottom, right = min(math.ceil(cy + radius), H), min(math.ceil(cx + radius), W)
        y_h1 = np.arange(top, bottom, dtype=np.float64)[:, None] + (0.5 - cy)
        x_1w = np.arange(left, right, dtype=np.float64)[None] + (0.5 - cx)
        box_hw = owner_HW[top:bottom, left:right]
        inside_hw = thing.shape.inside(y_h1, x_1w)
        box_hw[inside_hw] = number
        if thing.bar is not None:
            box_hw[_hidden(thing.bar, inside_hw, y_h1, x_1w)] = 0
    return owner_HW


def _hidden(bar: Bar, inside_hw: Bools, y_h1: Floats, x_1w: Floats) -> Bools:
    """The shape's pixels under the bar; it is turned across if it would miss or hide a line."""
    hidden_hw = inside_hw & bar.inside(y_h1, x_1w)
    if not 0 < 3 * hidden_hw.sum() <= inside_hw.sum():
        across = Bar(bar.angle + math.pi / 2, bar.offset, bar.half_width)
        hidden_hw = inside_hw & across.inside(y_h1, x_1w)
    return hidden_hw


def export(dataset: ToyShapes, folder: str | Path) -> None:
    """Write a split as files that `FolderDataset` reads back bit for bit.

    Makes images/NAME.png, masks/NAME.png (grey values are class ids), manifest.csv with the columns
    image, mask, split, and data.yaml, a configuration to train on these files. The manifest keeps
    the rows of other splits, so the splits are exported one after the other into one folder.

    Raises:
        SegError: the folder cannot be made, or holds the manifest of something else.
    """
    from unet_seg.image_files import write_png
    from unet_seg.runs import write_atomic

    root = Path(folder)
    manifest = root / "manifest.csv"
    rows = [row for row in _read_manifest(manifest) if row["split"] != dataset.split]
    try:
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "masks").mkdir(exist_ok=True)
    except OSError as error:
        where = error.filename or root
        message = f"{where}: cannot be made ({error.strerror}); choose another folder."
        raise SegError(message) from None
    for index in range(len(dataset)):
        sample = dataset[index]
        image, mask = f"images/{sample.name}.png", f"masks/{sample.name}.png"
        pixels = sample.image.permute(1, 2, 0).numpy()
        write_png(root / image, pixels if dataset.channels == 3 else pixels[:, :, 0])
        write_png(root / mask, sample.mask.numpy())
        rows.append({"image": image, "mask": mask, "split": dataset.split})
    text = io.StringIO()
    writer = csv.DictWriter(text, MANIFEST_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(manifest, text.getvalue())
    write_atomic(root / "data.yaml", _folder_config(dataset, root))


MANIFEST_COLUMNS = ("image", "mask", "split")


def _read_manifest(path: Path) -> list[dict[str, str]]:
    """The rows of a manifest that an earlier export made; none if there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != MANIFEST_COLUMNS:
            raise SegError(
                f"{path}: has the columns {', '.join(reader.fieldnames or ())}, expected "
                f"{', '.join(MANIFEST_COLUMNS)} of an earlier export; choose another folder."
            )
        return list(reader)


def _folder_config(dataset: ToyShapes, root: Path) -> str:
    """The YAML that names the exported files as data."""
    folder = {
        "root": root.as_posix(),
        "manifest": "manifest.csv",
        "class_map": {name: label for label, name in enumerate(dataset.classes)},
    }
    data = {"kind": "folder", "channels": dataset.channels, "folder": folder}
    return yaml.safe_dump({"name": "toy-files", "data": data}, sort_keys=False)


def _check_known(what: str, names: tuple[str, ...], known: object) -> None:
    """Raise SegError with the nearest name unless all names are known."""
    choices = [str(name) for name in known]  # type: ignore[attr-defined]
    for name in names:
        if name not in choices:
            near = get_close_matches(str(name), choices, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SegError(
                f"ToyShapes: unknown {what} {name!r}.{hint} Known: {', '.join(choices)}."
            )
