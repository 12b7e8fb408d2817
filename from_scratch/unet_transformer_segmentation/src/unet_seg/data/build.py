"""From a configuration to the datasets of a run: the one place that knows both kinds of data."""

from __future__ import annotations

import torch

from unet_seg.config import Config
from unet_seg.data.folder import open_splits
from unet_seg.data.pairs import SPLITS
from unet_seg.data.sample import IGNORE, Samples
from unet_seg.data.toy import ToyShapes


def build_datasets(config: Config) -> dict[str, Samples]:
    """Datasets train, valid and test.

    Raises:
        SegError: see `open_splits`.
    """
    data = config.data
    if data.kind == "folder":
        assert data.folder is not None  # DataConfig refuses kind=folder without it
        return dict(open_splits(data.folder, channels=data.channels))
    return {
        split: ToyShapes.from_config(
            data.toy, split=split, seed=config.seed, channels=data.channels
        )
        for split in SPLITS
    }


def class_shares(dataset: Samples) -> dict[str, float]:
    """Part of the counted pixels that each class has, in [0, 1]; reads every sample.

    All are 0 if no pixel counts. Look at it before training: a class with a share of 0 cannot be
    learned, and one with a small share asks for a loss that looks at regions, or for weights.
    """
    counts = torch.zeros(IGNORE + 1, dtype=torch.int64)
    for index in range(len(dataset)):
        counts += torch.bincount(dataset[index].mask.flatten(), minlength=IGNORE + 1)
    total = max(1, int(counts[:IGNORE].sum()))
    return {name: int(counts[i]) / total for i, name in enumerate(dataset.classes)}
