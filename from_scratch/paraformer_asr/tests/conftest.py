"""What all tests share: one thread of computation, and real recordings where they are to be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

MIRROR = "MAQUETTE_DATA_MIRROR"

torch.set_num_threads(1)  # sums in one order, and no fight for cores between processes


@pytest.fixture(scope="session")
def fsdd_zip() -> Path:
    """The archive of spoken digits (FSDD) in the mirror; tests that use it are marked `data`."""
    mirror = os.environ.get(MIRROR)
    if not mirror:
        pytest.skip(f"{MIRROR} is not set; it names the folder that holds fsdd/fsdd.zip")
    path = Path(mirror) / "fsdd" / "fsdd.zip"
    if not path.is_file():
        pytest.skip(f"{MIRROR}={mirror} does not hold fsdd/fsdd.zip")
    return path
