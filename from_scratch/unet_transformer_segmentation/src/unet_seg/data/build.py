"""From a configuration to the datasets of a run: the one place that knows both kinds of data."""

from __future__ import annotations

from unet_seg.config import Config
from unet_seg.data.folder import open_splits
from unet_seg.data.pairs import SPLITS
from unet_seg.data.sample import Samples
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
