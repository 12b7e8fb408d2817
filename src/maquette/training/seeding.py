"""The global random generators: seeded once per run, saved and restored with a checkpoint.

What happens to a sample never depends on them (see `data/randomness.py`); they drive what happens
inside the network, such as dropout.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int, deterministic: bool = True) -> None:
    """Seed Python, NumPy and PyTorch (every device), and choose repeatable or fastest kernels.

    Args:
        seed: 0 <= seed < 2^63.
        deterministic: refuse operations whose result changes from run to run; the refusal is a
            RuntimeError of PyTorch that names the operation.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        # Read by cuBLAS when CUDA starts; the deterministic products need this workspace.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The same switch as use_deterministic_algorithms, which imports the compiler: seconds.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # Filling every new tensor with NaN finds reads of memory nobody wrote; it changes no result
    # and costs a pass over all memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic


def random_state() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the state of every generator: JSON for Python and NumPy, tensors for PyTorch."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states = torch.cuda.get_rng_state_all()
        tensors |= {f"cuda:{index}": state for index, state in enumerate(states)}
    if torch.backends.mps.is_available():
        tensors["mps"] = torch.mps.get_rng_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, cached],
    }, tensors


def restore_random_state(state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Put every generator back where `random_state` found it; absent devices are left alone."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(tensors["cpu"])
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            if f"cuda:{index}" in tensors:
                torch.cuda.set_rng_state(tensors[f"cuda:{index}"], index)
    if torch.backends.mps.is_available() and "mps" in tensors:
        torch.mps.set_rng_state(tensors["mps"])


def device_random_state(device: torch.device) -> list[Tensor]:
    """Return what dropout on `device` draws from: the CPU's generator and the device's own."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    if device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states


def restore_device_random_state(states: list[Tensor], device: torch.device) -> None:
    """Go back to what `device_random_state` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
    if device.type == "mps":
        torch.mps.set_rng_state(states[1])


@contextmanager
def untouched_random_state() -> Iterator[None]:
    """Undo what the block draws from PyTorch's CPU generator.

    Starting a data loader draws a seed for its workers. A resumed run starts one more loader than
    the run it continues, so without this its dropout masks would differ.
    """
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
