"""Does a configuration give the same run twice? Train it twice and compare every number and bit."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from paraformer_asr import checkpoints
from paraformer_asr.config import Config
from paraformer_asr.errors import AsrError
from paraformer_asr.runs import Run
from paraformer_asr.train import train

UNEQUAL_BY_NATURE = ("utterances_per_second",)
"""Columns of metrics.csv that measure time."""


@dataclass(frozen=True)
class Comparison:
    """What differs between two runs of one configuration; nothing, if all is well."""

    differences: tuple[str, ...]

    @property
    def equal(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        if self.equal:
            return "equal: every number of metrics.csv and every bit of the weights"
        return "\n".join(["different:", *(f"  {line}" for line in self.differences)])


def reproduce(config: Config) -> Comparison:
    """Train `config` twice in a temporary folder, in this process, and compare the runs.

    Raises:
        AsrError: train.max_minutes is set: a run that ends by the clock never repeats exactly.
    """
    if config.train.max_minutes is not None:
        raise AsrError("train.max_minutes ends runs by the clock; set it to null to compare runs.")
    with tempfile.TemporaryDirectory() as folder:
        first, second = (train(replace(config, out=folder), progress=False) for _ in range(2))
        return Comparison((*compare_rows(first, second), *compare_weights(first, second)))


def compare_rows(first: Path, second: Path) -> list[str]:
    """Where two metrics.csv differ, in words."""
    rows = [Run.open(folder).rows() for folder in (first, second)]
    if len(rows[0]) != len(rows[1]):
        return [f"metrics.csv has {len(rows[0])} and {len(rows[1])} rows"]
    return [
        f"step {one['step']}: {column} is {one[column]} and {two[column]}"
        for one, two in zip(*rows, strict=True)
        for column in one
        if column not in UNEQUAL_BY_NATURE and one[column] != two[column]
    ]


def compare_weights(first: Path, second: Path) -> list[str]:
    """Names of the tensors that differ between two runs' last checkpoints."""
    models = [checkpoints.load_newest(folder)["model"] for folder in (first, second)]
    return [
        f"{name} differs by up to {float((value - models[1][name]).abs().max()):g}"
        for name, value in models[0].items()
        if not torch.equal(value, models[1][name])
    ]
