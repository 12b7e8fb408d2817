"""An exponential moving average of the weights, which often generalises better than the last ones.

    average_t = Σ_i d^(t-i) θ_i / Σ_i d^(t-i),   i = 1..t,  d the decay

The division (Adam's bias correction: Kingma and Ba 2015, section 3) makes it a true average of the
weights seen so far: the first average is θ_1, and the random initialisation has no part in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Averages of a model's parameters; buffers (batch-norm statistics) stay the model's own."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._names = [name for name, _ in model.named_parameters()]
        self._parameters = [parameter.detach() for parameter in model.parameters()]
        self._averages = [parameter.clone() for parameter in self._parameters]

    def update(self) -> None:
        """Take in the weights as they are after an optimiser step."""
        self.updates += 1
        newest = (1 - self.decay) / (1 - self.decay**self.updates)
        torch._foreach_lerp_(self._averages, self._parameters, newest)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averages inside the block, and its own weights back after it."""
        own = [parameter.clone() for parameter in self._parameters]
        torch._foreach_copy_(self._parameters, self._averages)
        try:
            yield
        finally:
            torch._foreach_copy_(self._parameters, own)

    def tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(zip(self._names, self._averages, strict=True))

    def load(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Continue from what `tensors` and `updates` held."""
        self.updates = updates
        for name, average in self.tensors().items():
            average.copy_(tensors[name])
