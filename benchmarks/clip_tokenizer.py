"""Captions a second of our CLIP tokenizer, open_clip's and transformers', alternated in one run.

    OMP_NUM_THREADS=1 PYTHONPATH=src .venv-peers/bin/python benchmarks/clip_tokenizer.py

The captions are those of the real data sets (MAQUETTE_DATA_MIRROR). Ours and open_clip's keep the
words they have met: `new` is the first pass of a new tokenizer, `again` a second pass. All turn raw
text into rows of 77 ids. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "parity"))

from torchvision_shim import import_torchvision  # noqa: E402

import_torchvision()
from open_clip.tokenizer import SimpleTokenizer  # noqa: E402
from transformers import CLIPTokenizer  # noqa: E402

from maquette.data.catalogue import resolve  # noqa: E402
from maquette.tasks.image_text.tokenizer import ClipTokenizer  # noqa: E402

COLUMNS = {"openstax_figures": ("alt", "caption"), "coco_captions_mini": ("caption",)}
BATCH = 32


def captions() -> list[str]:
    found = []
    for name, columns in COLUMNS.items():
        with resolve(f"catalogue:{name}").open(encoding="utf-8", newline="") as file:
            found += [row[column] for row in csv.DictReader(file) for column in columns]
    return [caption for caption in found if caption]


def batches(texts: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(texts), BATCH):
        yield texts[start : start + BATCH]


def rate(tokenize: Callable[[list[str]], Any], texts: list[str]) -> float:
    started = time.perf_counter()
    for batch in batches(texts):
        tokenize(batch)
    return len(texts) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    texts = captions()
    merges = ClipTokenizer.from_file("catalogue:clip_vocab").merges
    with tempfile.TemporaryDirectory() as folder:
        ClipTokenizer(merges).save_hugging_face(Path(folder))
        fast = CLIPTokenizer.from_pretrained(folder)

    def by_transformers(batch: list[str]) -> Any:
        return fast(
            batch, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
        )

    rates: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, make in (("ours", lambda: ClipTokenizer(merges)), ("open_clip", SimpleTokenizer)):
            tokenizer = make()
            rates[f"{name}, new"].append(rate(tokenizer, texts))
            rates[f"{name}, again"].append(rate(tokenizer, texts))
        rates["transformers (cleans less)"].append(rate(by_transformers, texts))
    print(f"{len(texts)} captions, batches of {BATCH}, {rounds} rounds")
    for name, values in rates.items():
        print(f"{name:<27} {statistics.median(values):8.0f} captions/s")
    for state in ("new", "again"):
        ratio = [
            a / b
            for a, b in zip(rates[f"ours, {state}"], rates[f"open_clip, {state}"], strict=True)
        ]
        print(f"ours : open_clip, {state:<9} {statistics.median(ratio):8.2f}")


if __name__ == "__main__":
    main()
