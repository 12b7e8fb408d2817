"""What several test files share: a configuration small enough to train in a second or two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small import small_config

from unet_seg.config import Config

MakeConfig = Callable[..., Config]


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """A function that makes a configuration of a few steps on small toy images.

    Keyword arguments are sections, merged over the small ones: `make_config(train={"steps": 9})`.
    """

    def make(**sections: object) -> Config:
        return small_config(**{"out": tmp_path / "runs", **sections})  # type: ignore[arg-type]

    return make
