"""Write what open_clip and torchmetrics measure, for the retrieval and zero-shot parity tests.

    OMP_NUM_THREADS=1 .venv-peers/bin/python tests/parity/make_retrieval_golden.py

`--seed` and `--output` make other numbers elsewhere (the live test).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from retrieval_cases import CAPTIONS, one_caption, prompts, several_captions
from torch import Tensor
from torch.nn import functional as F
from torchvision_shim import import_torchvision

import_torchvision()
import open_clip  # noqa: E402 - imports torchvision, so it comes after the shim
import torchmetrics  # noqa: E402
from open_clip_train.train import get_clip_metrics  # noqa: E402
from torchmetrics.functional.retrieval import (  # noqa: E402
    retrieval_hit_rate,
    retrieval_reciprocal_rank,
)


def by_open_clip(seed: int) -> dict[str, float]:
    images, texts = (torch.tensor(side) for side in one_caption(seed))
    found = get_clip_metrics(images, texts, torch.tensor(100.0, dtype=torch.float64))
    return {name: float(value) for name, value in found.items()}


def by_torchmetrics(seed: int) -> dict[str, float]:
    images, texts = (torch.tensor(side) for side in several_captions(seed))
    scores = images @ texts.T + 2  # its reciprocal rank skips matches that score below 0
    truth = torch.arange(len(texts))[None] // CAPTIONS == torch.arange(len(images))[:, None]
    ways = {"image_to_text": (scores, truth), "text_to_image": (scores.T, truth.T)}
    found = {}
    for way, (rows, right) in ways.items():
        queries = list(zip(rows, right, strict=True))
        for k in (1, 5, 10):
            hits = [float(retrieval_hit_rate(*query, top_k=k)) for query in queries]
            found[f"{way}_r{k}"] = float(np.mean(hits))
        reciprocal = [float(retrieval_reciprocal_rank(*query)) for query in queries]
        found[f"{way}_mrr"] = float(np.mean(reciprocal))
    return found


class Prompted:
    """A text tower that knows the features of the prompts by heart."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = torch.tensor(features)

    def encode_text(self, ids: Tensor, *, normalize: bool) -> Tensor:
        rows = self.features[ids[:, 0], ids[:, 1]]
        return F.normalize(rows, dim=-1) if normalize else rows


def zero_shot_weights(seed: int) -> list[list[float]]:
    features = prompts(seed)
    templates = [f"{index} {{}}" for index in range(features.shape[0])]
    names = [str(index) for index in range(features.shape[1])]
    weights = open_clip.build_zero_shot_classifier(
        Prompted(features),
        lambda texts: torch.tensor([[int(word) for word in text.split()] for text in texts]),
        classnames=names,
        templates=templates,
    )
    return weights.T.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "golden")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    versions = {m.__name__: str(m.__version__) for m in (torch, open_clip, torchmetrics)}
    facts: dict[str, Any] = {
        "made with": versions | {"seed": args.seed},
        "open_clip": by_open_clip(args.seed),
        "torchmetrics": by_torchmetrics(args.seed),
        "zero-shot weights": zero_shot_weights(args.seed),
    }
    (args.output / "retrieval.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
