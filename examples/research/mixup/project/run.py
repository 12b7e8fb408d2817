"""Train every arm with every seed, evaluate, record. Start reading here.

Four arms, two seeds, under a minute: python run.py --epochs 2
The full run: python run.py --epochs 30 --seeds 0 1 2 3 4 5 6 7 --output ../results
"""

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

from data.dataset import CLASSES, SHA256, load_sign_digits
from data.loader import batches_of, split_by_person
from model.small_cnn import SmallCNN
from testing.evaluator import evaluate, trivial
from training.trainer import Arm, train
from utils.record import write_record

ARMS = {
    "plain": Arm(),
    "label_smoothing": Arm(epsilon=0.1),
    "mixup": Arm(alpha=0.2),
    "both": Arm(epsilon=0.1, alpha=0.2),
}


def main() -> None:
    """Run every arm with every seed and write the record."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30, help="of every training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="each a split")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="which")
    parser.add_argument("--output", type=Path, help="folder of run.json")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error(f"--epochs is {options.epochs}, expected 1 or more.")
    folder = options.output or Path("runs", time.strftime("%Y%m%d-%H%M%S"))
    torch.set_num_threads(1)  # the same numbers, however many cores there are
    start = time.perf_counter()
    data = load_sign_digits()
    trainings = []
    for seed in options.seeds:
        parts = split_by_person(data, seed)
        trainings += [run_arm(name, parts, seed, options.epochs) for name in options.arms]
    record = {
        "command": shlex.join(["python", "run.py", *sys.argv[1:]]),
        "epochs": options.epochs,
        "cpu_seconds": time.process_time(),
        "seconds": time.perf_counter() - start,
        "datasets": {"sign_digits": {"sha256": SHA256, "samples": len(data.labels)}},
        "trainings": trainings,
    }
    print(f"written: {write_record(folder, record)}")


def run_arm(name: str, parts: list[TensorDataset], seed: int, epochs: int) -> dict[str, Any]:
    """Train and evaluate one arm; its first weights and its batches depend on the seed alone."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    model = SmallCNN(classes=CLASSES)
    seen, validation, test = parts
    batches = batches_of(seen, batch_size=32, seed=seed)
    history = train(model, batches, ARMS[name], epochs, seed)
    metrics = evaluate(model, validation, test)
    seconds = time.perf_counter() - start
    shown = "  ".join(f"{key} {metrics[key]:.3f}" for key in ("accuracy", "nll", "ece"))
    print(f"seed {seed}  {name:15}  {shown}  {seconds:.0f} s", flush=True)
    return {
        "dataset": "sign_digits",
        "model": name,
        "seed": seed,
        "losses": [loss for loss, _ in history],
        "grad_norms": [norm for _, norm in history],
        "metrics": metrics,
        "baseline": trivial(seen, test),
        "test_samples": len(test),
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
