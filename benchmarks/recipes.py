"""What the shipped recipes reach: test metrics over several seeds, and the seconds of a whole run.

    python benchmarks/recipes.py                      iris over 10 seeds, digits over 3
    python benchmarks/recipes.py adult wine --seeds 3

Runs go to a temporary folder and are not tracked. Recipes other than iris, digits and colours need
the data sets at MAQUETTE_DATA_MIRROR.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import maquette

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
DEFAULT_SEEDS = {"iris": 10, "digits": 3}
HEADLINES = ("test/accuracy", "test/roc_auc", "test/rmse", "test/r2")


def main() -> int:
    arguments = _arguments()
    print("recipe      seeds  " + "  ".join(f"{name:<24}" for name in ("metric", "mean (worst)")))
    for recipe in arguments.recipes:
        seeds = arguments.seeds or DEFAULT_SEEDS.get(recipe, 3)
        runs, seconds = _run(recipe, seeds)
        for name in HEADLINES:
            if name in runs[0]:
                _print_metric(recipe, seeds, name, [run[name] for run in runs])
        print(f"{recipe:<12}{seeds:<7}{'seconds per run':<24}  {statistics.median(seconds):.1f}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=["iris", "digits"])
    parser.add_argument("--seeds", type=int, help="seeds 0, 1, …; by default 10 for iris, else 3")
    return parser.parse_args()


def _run(recipe: str, seeds: int) -> tuple[list[dict[str, float]], list[float]]:
    metrics, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            overrides = [
                f"seed={seed}",
                f"runs_dir={folder}",
                "tracking.enabled=false",
                "evaluation.baselines=false",
                "evaluation.bootstrap=0",
            ]
            start = time.perf_counter()
            metrics.append(maquette.train(CONFIGS / f"{recipe}.yaml", overrides).metrics)
            seconds.append(time.perf_counter() - start)
    return metrics, seconds


def _print_metric(recipe: str, seeds: int, name: str, values: list[float]) -> None:
    worst = max(values) if name == "test/rmse" else min(values)
    print(
        f"{recipe:<12}{seeds:<7}{name:<24}  {statistics.mean(values):.4g} ({worst:.4g})",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
