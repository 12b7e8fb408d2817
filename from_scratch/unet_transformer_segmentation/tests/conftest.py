"""What several test files share: a configuration small enough to train in a second or two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unet_seg.config import Config, config_from_dict

MakeConfig = Callable[..., Config]


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """A function that makes a configuration of a few steps on small toy images.

    Keyword arguments are sections, merged over the small ones: `make_config(train={"steps": 9})`.
    """

    def make(**sections: object) -> Config:
        values: dict[str, object] = {
            "name": "test",
            "out": str(tmp_path / "runs"),
            "data": {
                "toy": {"image_size": [32, 32], "num_train": 16, "num_valid": 4, "num_test": 4}
            },
            "model": {"widths": [4, 8, 8], "norm": "group", "dim": 16, "depth": 1, "heads": 2},
            "optim": {"warmup_steps": 0},
            "train": {
                "steps": 6,
                "batch_size": 4,
                "valid_every": 3,
                "checkpoint_every": 2,
                "log_every": 1,
                "device": "cpu",
            },
        }
        for name, section in sections.items():
            old = values.get(name)
            values[name] = {**old, **section} if isinstance(old, dict) else section  # type: ignore[dict-item]
        return config_from_dict(values)

    return make
