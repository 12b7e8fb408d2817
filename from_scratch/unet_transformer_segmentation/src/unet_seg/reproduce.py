"""Train a configuration twice and compare everything that should be equal."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unet_seg import checkpoints
from unet_seg.config import Config
from unet_seg.runs import read_rows
from unet_seg.train import train

TIMES = ("seconds", "train/images_per_s")
"""Columns of metrics.csv that measure the clock and may differ."""


@dataclass(frozen=True)
class Reproduction:
    """Two runs of one configuration, and where they differ."""

    runs: tuple[Path, Path]
    hashes: tuple[str, str]
    difference: str | None
    """The first difference in words; None if there is none."""

    @property
    def equal(self) -> bool:
        return self.difference is None

    def text(self) -> str:
        """The runs with the first digits of their hashes, and the verdict."""
        lines = [f"{run}  weights {h[:16]}" for run, h in zip(self.runs, self.hashes, strict=True)]
        verdict = "equal: every metric and every bit of the weights"
        return "\n".join([*lines, verdict if self.equal else f"different: {self.difference}"])


def reproduce(config: Config) -> Reproduction:
    """Train twice in this process; compare metrics.csv (but for times) and the last weights.

    Raises as `train.train`.
    """
    first, second = train(config), train(config)
    hashes = tuple(hash_weights(checkpoints.load_last(run)["model"]) for run in (first, second))
    return Reproduction((first, second), (hashes[0], hashes[1]), _difference(first, second, hashes))


def hash_weights(weights: dict[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of tensors, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _difference(first: Path, second: Path, hashes: tuple[str, ...]) -> str | None:
    rows, others = read_rows(first), read_rows(second)
    if len(rows) != len(others):  # a limit by time ends each run at another step
        return f"metrics.csv has {len(rows)} and {len(others)} rows"
    for one, other in zip(rows, others, strict=True):
        for name in one:
            if name not in TIMES and one[name] != other[name]:
                return f"{name} at step {one['step']} is {one[name]} and {other[name]}"
    return None if hashes[0] == hashes[1] else "the weights, though no logged number shows it"
