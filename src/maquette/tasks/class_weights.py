"""How much each class counts in the loss of a task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """Weigh each class by the inverse of its share, N classes -> (N,) float32.

    n / (N · count), as scikit-learn's "balanced": the mean weight over the training samples is 1.
    """
    shares = torch.tensor(counts, dtype=torch.float64)
    return (shares.sum() / (len(counts) * shares)).float()
