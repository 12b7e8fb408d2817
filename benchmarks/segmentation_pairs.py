"""Two configurations at equal budget: paired seeds, the difference with an interval.

    python benchmarks/segmentation_pairs.py configs/pcb_baseline.yaml configs/pcb_hybrid.yaml \\
        --minutes 4 --seeds 0 1 2 3 4 --set data.folder.root=data/pcb

Run in from_scratch/unet_transformer_segmentation. Both runs of a seed go at the same time, one
thread each, for the same wall-clock minutes, so that whatever else the machine does falls on both;
the learning rate ends with the budget. Each is then scored on the test split. The interval is
Student's over the seeds' differences (95 %). Also written to --out as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

SCORE = "mean_iou_foreground"
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}
"""97.5 % quantiles of Student's t for 1 to 8 degrees of freedom."""


def train(config: Path, seed: int, options: argparse.Namespace) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unet_seg", "train", "--config", str(config), "--quiet"]
    command += [f"seed={seed}", f"out={options.runs}", f"train.max_minutes={options.minutes}"]
    command += ["train.steps=1000000", *options.set]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def run_folder(process: subprocess.Popen[str]) -> Path:
    out, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors)
    return Path(out.splitlines()[-1])


def test_scores(run: Path) -> dict[str, float]:
    """Scores on the test split: the mean over the foreground, and each class."""
    command = [sys.executable, "-m", "unet_seg", "evaluate", "--run", str(run), "--split", "test"]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    subprocess.run(command, check=True, capture_output=True, env=environment)
    scores = json.loads((run / "evaluation_test.json").read_text(encoding="utf-8"))
    classes = {name: row["iou"] for name, row in scores["per_class"].items()}
    last = (run / "metrics.json").read_text(encoding="utf-8")
    return {SCORE: scores[SCORE], **classes, "steps": json.loads(last)["step"]}


def interval(differences: list[float]) -> tuple[float, float]:
    """Mean of paired differences and half the width of its 95 % interval."""
    n = len(differences)
    if n < 2:
        return differences[0], math.nan
    return (
        statistics.fmean(differences),
        STUDENT[n - 1] * statistics.stdev(differences) / math.sqrt(n),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", type=Path, nargs=2)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs/pairs"))
    parser.add_argument("--out", type=Path, default=Path("runs/pairs.json"))
    parser.add_argument("--set", nargs="*", default=[], help="overrides of both configurations")
    options = parser.parse_args()
    names = [config.stem for config in options.configs]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for seed in options.seeds:
        pair = [train(config, seed, options) for config in options.configs]
        for name, process in zip(names, pair, strict=True):
            results[name].append(test_scores(run_folder(process)))
        line = ", ".join(f"{name} {results[name][-1][SCORE]:.4f}" for name in names)
        print(f"seed {seed}: {line}", flush=True)
    print(f"\n| test | {' | '.join(names)} |\n| --- | --- | --- |")
    for score in results[names[0]][0]:
        cells = [statistics.fmean(row[score] for row in results[name]) for name in names]
        print(f"| {score} | {' | '.join(f'{cell:.4g}' for cell in cells)} |")
    pairs = zip(*(results[name] for name in names), strict=True)
    mean, half = interval([second[SCORE] - first[SCORE] for first, second in pairs])
    print(f"\n{names[1]} - {names[0]}: {mean:+.4f} ± {half:.4f} (95 %, {len(options.seeds)} seeds)")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record = {"minutes": options.minutes, "seeds": options.seeds, "results": results}
    record |= {"difference": mean, "half_width": half}
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
