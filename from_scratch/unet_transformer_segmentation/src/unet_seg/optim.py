"""Optimiser, learning-rate schedule and moving average of the weights.

Learning rates are a function of the progress of a run, 0 at the first step and 1 after the last,
so that a run limited by time anneals as completely as one limited by steps.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from unet_seg.config import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW or SGD with Nesterov momentum over two groups: with and without weight decay.

    Biases and the gains of norms (every parameter with fewer than two axes) are not decayed:
    pulling them to zero does not simplify the function, it only shrinks the features.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def learning_rate(config: OptimConfig, step: int, progress: float) -> float:
    """The learning rate of a step.

    Args:
        config: peak rate, schedule and warm-up.
        step: optimiser steps done before this one, from 0. The warm-up counts steps: during the
            first `warmup_steps` the scheduled rate is multiplied by (step + 1) / warmup_steps.
        progress: part of the run that is done, in [0, 1].
    Returns:
        lr times the factor of the schedule times that of the warm-up.
    """
    factor = SCHEDULES[config.schedule](config, min(max(progress, 0.0), 1.0))
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    return config.lr * factor * warmup


def cosine(config: OptimConfig, progress: float) -> float:
    """Half a cosine from 1 to min_lr_ratio (Loshchilov and Hutter 2017, without restarts)."""
    low = config.min_lr_ratio
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))


def poly(config: OptimConfig, progress: float) -> float:
    """(1 - progress) ** poly_power, as in DeepLab and nnU-Net."""
    return float((1 - progress) ** config.poly_power)


def constant(config: OptimConfig, progress: float) -> float:  # noqa: ARG001
    """1 all the way; the arguments are there because the other schedules need them."""
    return 1.0


SCHEDULES: Mapping[str, Callable[[OptimConfig, float], float]] = {
    "cosine": cosine,
    "poly": poly,
    "constant": constant,
}
"""Name in `optim.schedule` -> function of the configuration and the progress, in [0, 1]."""


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


class WeightAverage:
    """Exponential moving average of a model's weights and normalisation statistics.

    average <- d * average + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)) after n
    updates: the first average is not dominated by the random start. Integers (counters) are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay
        self.num_updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights of `model`; call after each optimiser step."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for average, value in zip(
            self.model.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)
