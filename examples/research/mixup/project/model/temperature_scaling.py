"""Temperature scaling (Guo et al. 2017): one number that makes a trained network honest."""

import math
from dataclasses import dataclass
from typing import Self

from torch import Tensor

LOWEST, HIGHEST = 0.01, 100.0  # of T; where all validation images are right, 0 would be best


@dataclass(frozen=True)
class TemperatureScaling:
    r"""Divide logits (N, C) by a temperature T.

    $$ T^* = \arg\min_{T > 0} -\frac{1}{n} \sum_{i=1}^{n} \log \mathrm{softmax}(z_i / T)_{y_i} $$
    """

    temperature: float = 1.0

    @classmethod
    def fit(cls, logits: Tensor, labels: Tensor) -> Self:
        """Return the scaling that suits validation logits (N, C) and labels (N,) best.

        The sum is convex in b = 1 / T. Its slope there is the logit that the network expects minus
        that of the true class, on average; halving an interval finds where it crosses zero.
        """
        logits = logits.double()
        true = logits.gather(1, labels[:, None])[:, 0]
        low, high = math.log(1 / HIGHEST), math.log(1 / LOWEST)  # of log b
        for _ in range(60):
            middle = (low + high) / 2
            expected = (logits * (logits * math.exp(middle)).softmax(dim=1)).sum(dim=1)
            is_too_sharp = (expected - true).mean() > 0
            low, high = (low, middle) if is_too_sharp else (middle, high)
        return cls(math.exp(-(low + high) / 2))

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the scaled logits."""
        return logits.double() / self.temperature
