"""Quality of the three domain recipes against plain InfoNCE: same data, model, steps and seeds.

    .venv/bin/python benchmarks/clip_domains.py --seeds 3 --jobs 2 --out domains.json

Each recipe is trained as it is, and once more with `PLAIN`: the loss InfoNCE with its defaults, and
neither images nor captions varied. Everything else (data, splits, network, epochs, batch, learning
rate, the choice of the best epoch by validation mean recall) is the same. What is compared is
validation mean recall of the weights that are shipped; test mean recall stands beside it. Seeds
differ in the weights, the order and the split, so they are compared in pairs.

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
    "data.image_text.text_augmentation={}",
)
QUIET = ("tracking.enabled=false", "evaluation.bootstrap=0")


def main() -> None:
    """Train, print the table, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=RECIPES, choices=RECIPES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument(
        "--out", type=Path, help="write what the seeds say, and every run, to this JSON file"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as runs, ThreadPoolExecutor(options.jobs) as pool:
        wanted = list(_jobs(options.recipes, options.seeds))
        results = list(pool.map(lambda job: _train(Path(runs), *job), wanted))
    summary = summarise(results)
    if options.out is not None:
        record = {"summary": summary, "runs": results}
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(summary))


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


def summarise(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return recipe -> split -> what the seeds say of both ways and of their paired difference."""
    return {
        recipe: {
            **{split: _comparison(results, recipe, split) for split in ("valid", "test")},
            "chance": statistics.mean(_values(results, recipe, "recipe", "chance")),
            "variants": {way: _others(results, recipe, way) for way in ("recipe", "plain")},
        }
        for recipe in dict.fromkeys(one["recipe"] for one in results)
    }


def _comparison(results: Sequence[Mapping[str, Any]], recipe: str, split: str) -> dict[str, Any]:
    ours = _values(results, recipe, "recipe", f"{split}/mean_recall")
    plain = _values(results, recipe, "plain", f"{split}/mean_recall")
    gains = [a - b for a, b in zip(ours, plain, strict=True)]
    return {
        "recipe": _spread(ours),
        "plain": _spread(plain),
        "difference": _spread(gains),
        "seeds": len(gains),
        "seeds_above": sum(gain > 0 for gain in gains),
    }


def _others(results: Sequence[Mapping[str, Any]], recipe: str, way: str) -> dict[str, Any]:
    names = ("zero_shot_accuracy", "linear_probe_accuracy")
    found: dict[str, Any] = {name: _spread(_values(results, recipe, way, name)) for name in names}
    minutes = [seconds / 60 for seconds in _values(results, recipe, way, "training_seconds")]
    return found | {"median_minutes": statistics.median(minutes)}


def _values(results: Sequence[Mapping[str, Any]], recipe: str, way: str, name: str) -> list[float]:
    return [
        one["metrics"].get(name, one.get(name))
        for one in results
        if one["recipe"] == recipe and one["variant"] == way
    ]


def _spread(values: Sequence[float]) -> dict[str, float]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "deviation": deviation}


def table(summary: Mapping[str, Any]) -> str:
    """One line per recipe and split: both means with deviations, and the paired difference."""
    lines = [
        f"{'mean recall':32}{'recipe':>16}{'plain InfoNCE':>16}{'difference':>16}"
        f"{'seeds above':>14}{'chance':>8}"
    ]
    for recipe, found in summary.items():
        for split in ("valid", "test"):
            cells = [
                f"{one['mean']:.3f} ± {one['deviation']:.3f}"
                for one in (found[split][key] for key in ("recipe", "plain", "difference"))
            ]
            above = f"{found[split]['seeds_above']} of {found[split]['seeds']}"
            chance = f"{found['chance']:.3f}" if split == "test" else ""
            lines.append(
                f"{recipe + ', ' + split:32}"
                + "".join(f"{cell:>16}" for cell in cells)
                + f"{above:>14}{chance:>8}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
