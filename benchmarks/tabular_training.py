"""Training throughput on a table of 100,000 rows × 30 numbers: ours, bare PyTorch, scikit-learn.

    python benchmarks/tabular_training.py [--repeats 7] [--batch-size 256] [--threads 1]

The three learn the same classes with the same network (30-128-64-2, ReLU) at the same batch size,
one after the other, over and over in one process, so that whatever else the machine does disturbs
all three alike. Bare PyTorch is the shortest loop a person would write to be fast: one gather per
epoch, slices of it, fused Adam, no bookkeeping. Rows per second are training rows; validation,
reading the file and preprocessing are not counted.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.nn import functional as F

from maquette.device import choose_device, describe
from maquette.recipe import Recipe, make_recipe
from maquette.runs import RunFolder
from maquette.tasks import make_task
from maquette.training.loop import fit
from maquette.training.seeding import seed_everything

ROWS, FEATURES, HIDDEN, EPOCHS = 100_000, 30, (128, 64), 2
LEARNING_RATE = 1e-3


def write_table(path: Path) -> None:
    """100,000 training rows, and 2,000 each for validation and test."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((ROWS + 4000, FEATURES))
    label = np.where(inputs[:, 0] * inputs[:, 1] + inputs[:, 2] > 0, "yes", "no")
    split = np.repeat(["train", "validation", "test"], [ROWS, 2000, 2000])
    columns: dict[str, Any] = {f"x{i}": inputs[:, i] for i in range(FEATURES)}
    pq.write_table(pa.table(columns | {"label": label, "split": split}), path)


def recipe_for(folder: Path, batch_size: int) -> Recipe:
    return make_recipe(
        {
            "name": "bench",
            "runs_dir": str(folder / "runs"),
            "data": {
                "tabular": {
                    "path": str(folder / "table.parquet"),
                    "target_column": "label",
                    "split": {"method": "column", "column": "split"},
                }
            },
            "model": {
                "type": "tabular",
                "name": "mlp",
                "architecture": {"hidden_layers": list(HIDDEN)},
            },
            "training": {
                "epochs": EPOCHS,
                "batch_size": batch_size,
                "learning_rate": LEARNING_RATE,
                "optimizer": "adam",
                "schedule": "constant",
            },
        }
    )


class Contest:
    """The same training rows and network for all; each method returns rows per second."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.batch_size = recipe.training.batch_size
        self.device = choose_device("cpu", "fp32")
        self.task = make_task(recipe)
        splits = self.task.load()
        self.preprocessor = self.task.fit_preprocessor(splits.train)
        self.train = self.task.prepare(splits.train, self.preprocessor, augment=True)
        self.valid = self.task.prepare(splits.valid, self.preprocessor, augment=False)
        everything = next(self.train.batches(torch.arange(ROWS), ROWS, epoch=1))
        (self.inputs,), self.targets = everything.inputs, everything.targets

    def network(self) -> torch.nn.Module:
        seed_everything(0)
        return self.task.build_model(self.preprocessor)

    def ours(self) -> float:
        """The trainer, with everything it does: watching, metrics, checkpoints, logs."""
        result = fit(
            task=self.task,
            preprocessor=self.preprocessor,
            model=self.network(),
            train=self.train,
            valid=self.valid,
            recipe=self.recipe,
            folder=RunFolder.create(self.recipe),
            device=self.device,
        )
        return result.samples_per_second

    def bare(self) -> float:
        """Slices and fused Adam."""
        network = self.network().train()
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)
        started = time.perf_counter()
        for _ in range(EPOCHS):
            order = torch.randperm(ROWS)
            inputs, targets = self.inputs[order], self.targets[order]
            for start in range(0, ROWS, self.batch_size):
                stop = start + self.batch_size
                loss = F.cross_entropy(network(inputs[start:stop]), targets[start:stop])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return ROWS * EPOCHS / (time.perf_counter() - started)

    def scikit_learn(self) -> float:
        """MLPClassifier, the peer most people know."""
        from sklearn.neural_network import MLPClassifier

        peer = MLPClassifier(
            HIDDEN,
            batch_size=self.batch_size,
            learning_rate_init=LEARNING_RATE,
            alpha=0.0,
            max_iter=EPOCHS,
            n_iter_no_change=EPOCHS + 1,
            random_state=0,
        )
        inputs, targets = self.inputs.numpy(), self.targets.numpy()
        started = time.perf_counter()
        peer.fit(inputs, targets)
        return ROWS * EPOCHS / (time.perf_counter() - started)


def run(contest: Contest, repeats: int) -> dict[str, float]:
    """Alternate the three, and return the median rows per second of each."""
    runners: dict[str, Callable[[], float]] = {
        "maquette": contest.ours,
        "bare PyTorch": contest.bare,
        "scikit-learn MLPClassifier": contest.scikit_learn,
    }
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for repeat in range(repeats + 1):
        for name, runner in runners.items():
            rate = runner()
            if repeat:  # the first round only warms up
                rates[name].append(rate)
    return {name: median(found) for name, found in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum iterations")
    logging.disable()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "table.parquet")
        rates = run(Contest(recipe_for(folder, arguments.batch_size)), arguments.repeats)

    facts = describe()
    print(
        f"{ROWS:,} rows × {FEATURES}, batch {arguments.batch_size}, {arguments.threads} thread(s)"
    )
    print(f"{facts['processor']}, torch {facts['torch']}, medians of {arguments.repeats}")
    for name, rate in rates.items():
        ratio = rates["maquette"] / rate
        print(f"{name:28} {rate:>10,.0f} rows/s   maquette is {ratio:.2f} × this")


if __name__ == "__main__":
    main()
