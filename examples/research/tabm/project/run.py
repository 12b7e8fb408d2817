"""Train three models on two tables, on the same splits, and write run.json; see README.md."""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from data.dataset import load_adult, load_wine_quality
from data.preprocess import Split, prepare
from model.boosted_trees import BoostedTrees
from model.mlp import MLP
from model.tabm import TabM
from testing.evaluator import evaluate, probabilities, trivial
from testing.metrics import log_loss
from training.trainer import train
from utils.record import write_record

DATASETS = {"adult": load_adult, "wine_quality": load_wine_quality}
NETWORKS = {"mlp": MLP, "tabm": TabM}
NETWORK_RATES, TREE_RATES = (0.0005, 0.002, 0.008), (0.03, 0.1, 0.3)


def fit(name: str, split: Split, rate: float, epochs: int, seed: int) -> tuple[dict, Callable]:
    """Train a model once; return facts for the record, and what gives probabilities."""
    if name == "trees":
        trees = BoostedTrees(split, rate, seed)
        return {"losses": [], "rounds": trees.trees.n_iter_}, trees.probabilities
    torch.manual_seed(seed)
    network = NETWORKS[name](split.train.x.shape[1], split.classes)
    history = train(network, split, rate, epochs, seed)
    history["parameters"] = sum(p.numel() for p in network.parameters())
    return history, partial(probabilities, network)


def compete(name: str, split: Split, epochs: int, seed: int) -> dict[str, Any]:
    """Fit with each learning rate; only the best on the validation rows meets the test rows."""
    begin = time.perf_counter()
    rates, y = NETWORK_RATES if name in NETWORKS else TREE_RATES, split.valid.y.numpy()
    tried = {rate: fit(name, split, rate, epochs, seed) for rate in rates}
    scores = {rate: log_loss(y, predict(split.valid)) for rate, (_, predict) in tried.items()}
    rate = min(rates, key=lambda rate: scores[rate])
    facts, predict = tried[rate]
    return {
        **facts,
        "learning_rate": rate,
        "validation_log_loss": {str(rate): score for rate, score in scores.items()},
        "metrics": evaluate(split.test, predict(split.test)),
        "baseline": trivial(split),
        "test_samples": len(split.test.y),
        "seconds": time.perf_counter() - begin,
    }


def main() -> None:
    """Run the experiment that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40, help="at most, for a network (40)")
    parser.add_argument("--seeds", type=int, default=1, help="splits per table (1)")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--output", type=Path, default=Path("runs", time.strftime("%Y%m%d-%H%M%S")))
    arguments = parser.parse_args()
    if min(arguments.epochs, arguments.seeds) < 1:
        parser.error("--epochs and --seeds must be at least 1")

    torch.set_num_threads(1)  # the same sums in the same order on every machine
    begin = time.perf_counter()
    facts, trainings = {}, []
    for dataset in arguments.datasets:
        table = DATASETS[dataset]()
        facts[dataset] = {"sha256": table.sha256, "samples": len(table.y)}
        for seed in range(arguments.seeds):
            split = prepare(table, seed)
            for model in (*NETWORKS, "trees"):
                training = compete(model, split, arguments.epochs, seed)
                trainings.append({"dataset": dataset, "model": model, "seed": seed, **training})
                print(dataset, seed, model, training["metrics"], flush=True)
    command, seconds = shlex.join(["python", *sys.argv]), time.perf_counter() - begin
    record = {"format": 1, "command": command, "epochs": arguments.epochs, "seconds": seconds}
    write_record(arguments.output, {**record, "datasets": facts, "trainings": trainings})


if __name__ == "__main__":
    main()
