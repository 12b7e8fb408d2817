"""Stochastic depth: skip residual branches at random in training.

Huang et al., "Deep networks with stochastic depth" (2016, arXiv 1603.09382), per sample.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zero a residual branch for a random share of the samples; the identity in evaluation."""

    def __init__(self, probability: float = 0.0) -> None:
        """Skip each sample's branch with `probability`, in [0, 1).

        Raises:
            ValueError: the probability is outside that range.
        """
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"drop_path is {probability}, expected a probability in [0, 1).")
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """Drop samples of `branch` (B, …) -> same shape.

        Samples that stay are divided by 1 - probability, so the expected value is `branch`.
        """
        if not self.training or self.probability == 0:
            return branch
        keep = 1 - self.probability
        shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
        mask = torch.empty(shape, dtype=branch.dtype, device=branch.device).bernoulli_(keep)
        return branch * mask.div_(keep)

    def extra_repr(self) -> str:
        return f"probability={self.probability:g}"
