"""Quality of the three domain recipes against plain InfoNCE: same data, model, steps and seeds.

    .venv/bin/python benchmarks/clip_domains.py --seeds 3 --jobs 2 --out domains.json

Each recipe is trained as it is, and once more with `PLAIN`: the loss InfoNCE with its defaults and
no augmentation. Everything else (data, splits, network, epochs, batch, learning rate, the choice of
the best epoch by validation mean recall) is the same. What is compared is validation mean recall of
the weights that are shipped; test mean recall stands beside it. Seeds differ in the weights, the
order and in which training images are taken out for validation, so they are compared in pairs.

Every run is a process of its own with one thread. Needs the mirror (MAQUETTE_DATA_MIRROR) once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ("medical_figures", "scientific_figures", "pcb_defects")
PLAIN = (
    "contrastive.loss=infonce",
    "contrastive.parameters={label_smoothing: 0.0}",  # left out, it would be the domain's
    "data.image_text.augmentation={}",
)
QUIET = ("tracking.enabled=false", "evaluation.bootstrap=0")


def main() -> None:
    """Train, print the table, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=RECIPES, choices=RECIPES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--out", type=Path, help="write every run's numbers to this JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as runs, ThreadPoolExecutor(options.jobs) as pool:
        wanted = list(_jobs(options.recipes, options.seeds))
        results = list(pool.map(lambda job: _train(Path(runs), *job), wanted))
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


def _jobs(recipes: Sequence[str], seeds: int) -> Iterator[tuple[str, str, int]]:
    for recipe in recipes:
        for seed in range(seeds):
            yield recipe, "recipe", seed
            yield recipe, "plain", seed


def _train(runs: Path, recipe: str, variant: str, seed: int) -> dict[str, Any]:
    """Train in a process of its own; return the numbers of its summary."""
    folder = runs / f"{recipe}-{variant}-{seed}"
    changes = [f"runs_dir={folder}", f"seed={seed}", *QUIET, *(PLAIN if variant == "plain" else ())]
    command = [sys.executable, "-m", "maquette", "train", f"configs/{recipe}.yaml", *changes]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    (file,) = folder.glob("*/summary.json")
    summary = json.loads(file.read_text(encoding="utf-8"))
    print(f"{recipe} {variant} seed {seed}: done", file=sys.stderr)
    return {
        "recipe": recipe,
        "variant": variant,
        "seed": seed,
        "metrics": {name: summary["metrics"][name] for name in _shown(summary["metrics"])},
        "chance": summary["chance"]["mean_recall"],
        "zero_shot_accuracy": summary["zero_shot"]["accuracy"],
        "linear_probe_accuracy": summary["linear_probe"]["accuracy"],
        "best_epoch": summary["best_epoch"],
        "epochs": summary["epochs"],
        "training_seconds": summary["training_seconds"],
        "dataset_sha256": summary["tags"]["dataset_sha256"],
        "torch": summary["environment"]["torch"],
    }


def _shown(metrics: Mapping[str, float]) -> list[str]:
    return [name for name in metrics if "loss" not in name and "temperature" not in name]


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """One line per recipe and split: both means with deviations, and the paired difference."""
    lines = [f"{'':34}{'recipe':>16}{'plain InfoNCE':>16}{'difference':>18}{'chance':>8}"]
    for recipe in dict.fromkeys(one["recipe"] for one in results):
        for split in ("valid", "test"):
            ours = _values(results, recipe, "recipe", split)
            plain = _values(results, recipe, "plain", split)
            gains = [a - b for a, b in zip(ours, plain, strict=True)]
            chance = next(one["chance"] for one in results if one["recipe"] == recipe)
            lines.append(
                f"{recipe + ', ' + split:34}{_spread(ours):>16}{_spread(plain):>16}"
                f"{_spread(gains):>18}{chance if split == 'test' else float('nan'):>8.3f}"
            )
    return "\n".join(lines)


def _values(
    results: Sequence[Mapping[str, Any]], recipe: str, variant: str, split: str
) -> list[float]:
    return [
        one["metrics"][f"{split}/mean_recall"]
        for one in results
        if one["recipe"] == recipe and one["variant"] == variant
    ]


def _spread(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


if __name__ == "__main__":
    main()
