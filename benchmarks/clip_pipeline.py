"""Image-text batches at 224 pixels from the second epoch on: ours and a plain Pillow dataset.

    python benchmarks/clip_pipeline.py                          256 made photos of 640 × 480
    python benchmarks/clip_pipeline.py --images FOLDER          the JPEGs of a folder instead

The plain dataset does what a first version does for each image in each epoch: open, resize the
shorter side with bicubic, cut the middle, make a tensor, normalise, stack; in one thread, and in as
many threads as ours may use. It makes no tokens; ours does. Turns alternate, medians are printed,
in seconds of the clock and of the processor. Both give the same pixels, which is checked.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maquette.device import cpu_count
from maquette.recipe.image_text import ImageTextData
from maquette.tasks.image_text.data import load_labelled_pairs
from maquette.tasks.image_text.preprocess import OPENAI_MEAN, OPENAI_STD, ImageTextPreprocessor
from maquette.tasks.image_text.resolution import SizeSchedule
from maquette.tasks.image_text.source import PairSource
from maquette.tasks.image_text.tokenizer import ClipTokenizer

SIZE = 224
BATCH = 32
MEAN = torch.tensor(OPENAI_MEAN).view(3, 1, 1)
STD = torch.tensor(OPENAI_STD).view(3, 1, 1)


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MAQUETTE_CACHE"] = str(Path(folder) / "cache")
        paths = _images(arguments, Path(folder))
        manifest = _manifest(paths, Path(folder))
        ours = {mode: _source(manifest, mode) for mode in ("memory", "disk")}
        ways: dict[str, Callable[[], Iterator[Tensor]]] = {
            "plain Pillow, 1 thread": lambda: _plain(paths, 1),
            f"plain Pillow, {cpu_count()} threads": lambda: _plain(paths, cpu_count()),
            "ours, kept in memory": lambda: _ours(ours["memory"]),
            "ours, kept on disk": lambda: _ours(ours["disk"]),
        }
        _check_equal(ways)
        wall, cpu = _measure(ways, arguments.rounds)
    print(f"{len(paths)} images, batches of {BATCH}, {SIZE} × {SIZE}, {arguments.rounds} turns")
    print(f"{'':<26}{'images/s':>10}{'clock s':>10}{'cpu s':>10}{'ratio':>8}{'cpu ratio':>11}")
    first = next(iter(ways))
    found = {}
    for name in ways:
        found[name] = {
            "images_per_second": len(paths) / wall[name],
            "clock_seconds": wall[name],
            "cpu_seconds": cpu[name],
            "times_faster": wall[first] / wall[name],
            "times_faster_by_cpu": cpu[first] / cpu[name],
        }
        rate, clock, work, ratio, cpu_ratio = found[name].values()
        print(f"{name:<26}{rate:>10.0f}{clock:>10.3f}{work:>10.3f}{ratio:>8.1f}{cpu_ratio:>11.1f}")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of JPEGs; by default some are made")
    parser.add_argument("--count", type=int, default=256, help="images at most")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way")
    parser.add_argument("--out", type=Path, help="also write the medians to this JSON file")
    return parser.parse_args()


def _images(arguments: argparse.Namespace, folder: Path) -> list[Path]:
    if arguments.images is not None:
        return sorted(arguments.images.resolve().rglob("*.jpg"))[: arguments.count]
    rng = np.random.default_rng(0)
    paths = []
    for number in range(arguments.count):
        # Photo-like: structure at several scales, so that the JPEG is neither empty nor noise.
        layers = [
            Image.fromarray(rng.integers(0, 256, (15 * s, 20 * s, 3), dtype=np.uint8)).resize(
                (640, 480), Image.Resampling.BICUBIC
            )
            for s in (1, 4, 16)
        ]
        weights = (0.6, 0.25, 0.15)
        mixed = sum(w * np.asarray(layer) for w, layer in zip(weights, layers, strict=True))
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(mixed.astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def _manifest(paths: Sequence[Path], folder: Path) -> Path:
    manifest = folder / "pairs.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "text"])
        writer.writerows(
            [str(path), f"a photo of thing number {n}"] for n, path in enumerate(paths)
        )
    return manifest


def _source(manifest: Path, mode: str) -> PairSource:
    data = ImageTextData.model_validate({"path": str(manifest), "image_size": SIZE, "cache": mode})
    samples = load_labelled_pairs(data, prompts=())
    tokenizer = ClipTokenizer.train([one[0] for one in samples.texts], vocabulary_size=600)
    preprocessor = ImageTextPreprocessor(
        image_size=SIZE,
        fit="crop",
        mean=OPENAI_MEAN,
        std=OPENAI_STD,
        tokenizer=tokenizer,
        classes=None,
        prompts=(),
        architecture={},
        similarity="cosine",
        max_pixels=data.max_pixels,
    )
    sizes = SizeSchedule(image_size=SIZE)
    return PairSource(samples, preprocessor, sizes=sizes, is_training=True)


def _ours(source: PairSource) -> Iterator[Tensor]:
    for batch in source.batches(torch.arange(len(source)), BATCH, epoch=2):
        yield batch.inputs[0]


def _plain(paths: Sequence[Path], num_threads: int) -> Iterator[Tensor]:
    if num_threads == 1:
        images = map(_open, paths)
    else:
        pool = ThreadPoolExecutor(num_threads)
        images = pool.map(_open, paths)
    for start in range(0, len(paths), BATCH):
        yield torch.stack([next(images) for _ in range(min(BATCH, len(paths) - start))])
    if num_threads > 1:
        pool.shutdown()


def _open(path: Path) -> Tensor:
    image = Image.open(path)
    shorter = min(image.size)
    wide, tall = (int(SIZE * side / shorter) for side in image.size)
    image = image.resize((wide, tall), Image.Resampling.BICUBIC)
    left, top = round((wide - SIZE) / 2), round((tall - SIZE) / 2)
    image = image.crop((left, top, left + SIZE, top + SIZE)).convert("RGB")
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return (pixels - MEAN) / STD


def _check_equal(ways: dict[str, Callable[[], Iterator[Tensor]]]) -> None:
    first, *others = (torch.cat(list(way())) for way in ways.values())
    for other in others:
        assert torch.equal(first, other), "both must make the same batches"


def _measure(
    ways: dict[str, Callable[[], Iterator[Tensor]]], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            clock, work = time.perf_counter(), time.process_time()
            for _batch in way():
                pass
            wall[name].append(time.perf_counter() - clock)
            cpu[name].append(time.process_time() - work)
    middle = statistics.median
    return (
        {name: middle(values) for name, values in wall.items()},
        {name: middle(values) for name, values in cpu.items()},
    )


if __name__ == "__main__":
    sys.exit(main())
