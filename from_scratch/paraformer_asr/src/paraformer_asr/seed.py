"""Randomness that can be repeated: global seeds, streams for single items, determinism."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Set the global generators of Python, NumPy and PyTorch (all devices) to `seed`."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def stream(*path: int) -> np.random.Generator:
    """An independent generator for one purpose, named by whole numbers >= 0.

    `stream(seed, epoch, index)` gives the same draws in any process and order of loading, so
    what happens to an utterance does not depend on workers, batches or where a run was resumed.
    """
    # Their number comes first: NumPy fills up with zeros, so (1, 2) would be (1, 2, 0).
    return np.random.default_rng(np.random.SeedSequence([len(path), *path]))


def deterministic(enabled: bool) -> None:
    """Use only algorithms that repeat bit for bit (with the same number of threads), or any."""
    if enabled:  # read by cuBLAS when it starts, hence before the first product on a GPU
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = not enabled
    torch.backends.cudnn.deterministic = enabled
    torch.use_deterministic_algorithms(enabled)


def random_state() -> dict[str, Any]:
    """The state of all global generators, in types that a weights-only checkpoint can hold."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, gauss_next = random.getstate()
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss_next],
        "numpy": [
            kind,
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            position,
            has_gauss,
            gauss,
        ],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put all global generators back to where `random_state` found them."""
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"].cpu())
