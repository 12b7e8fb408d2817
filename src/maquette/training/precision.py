"""Mixed precision: which format the forward pass runs in, and loss scaling where fp16 needs it.

Weights, gradients, optimiser state and losses are float32 in every mode.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from maquette.device import Device
from maquette.errors import RunError
from maquette.training.optim import global_norm

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

GROWTH_INTERVAL = 2000


def autocast(device: Device) -> AbstractContextManager[None]:
    """Return the context of a forward pass and its loss; fp32 needs none."""
    if device.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.name, dtype=AUTOCAST[device.precision])


class LossScaler:
    """Keeps fp16 gradients above zero (Micikevicius et al. 2018, section 3.2).

    The loss is multiplied by `scale` before the backward pass and the gradients divided by it
    after. A step whose gradients overflowed is skipped and halves the scale; 2000 good steps in a
    row double it. To know which it was, each fp16 step waits for the device; bf16 and fp32 need
    no scaling and never wait.
    """

    def __init__(self, scale: float = 2.0**16) -> None:
        self.scale = scale
        self.good_steps = 0

    def unscale_(self, grads: list[Tensor]) -> bool:
        """Divide the gradients by the scale, in place; return whether the step may be taken.

        Raises:
            RunError: the scale fell below 1: no scale is small enough, the run is diverging.
        """
        torch._foreach_mul_(grads, 1 / self.scale)
        if bool(global_norm(grads).isfinite()):
            self.good_steps += 1
            if self.good_steps % GROWTH_INTERVAL == 0:
                self.scale *= 2
            return True
        self.scale /= 2
        self.good_steps = 0
        if self.scale < 1:
            raise RunError(
                "Training diverges: fp16 gradients overflow whatever the loss scale. Use "
                "training.precision=bf16 or fp32, or a lower training.learning_rate."
            )
        return False
