"""Seeds, generators that depend on (seed, index) alone, and the determinism switch."""

from __future__ import annotations

import os
import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (CPU, CUDA and MPS)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # also CUDA and MPS


def generator_for(*keys: int) -> np.random.Generator:
    """A NumPy generator that depends on the keys alone, such as (seed, epoch, index).

    Random draws per sample come from here and not from the global state, so that they do not
    depend on the number of workers, on the order of loading or on where a run was resumed.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(keys)))


def set_deterministic(deterministic: bool) -> None:
    """Switch PyTorch to algorithms that give the same bits each time (or back).

    For the same bits the number of CPU threads must be the same too. On CUDA the workspace setting
    holds from the first matrix product of the process on, so call this before any.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
