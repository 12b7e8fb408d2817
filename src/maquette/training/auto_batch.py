"""`batch_size: auto`: real training steps on the real data find what the memory holds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from maquette.device import Device
from maquette.device.memory import PeakMemory, memory_budget
from maquette.recipe import Recipe
from maquette.recipe.schema import Training
from maquette.tasks.base import Batch, Source, Task
from maquette.training.memory import Found, find_batch_size, release_memory, untouched
from maquette.training.optim import Optimizer
from maquette.training.precision import autocast

SMALLEST = 2
"""Samples of a probe: batch normalisation and contrastive losses need two."""
LEAST_STEPS = 10
"""Optimiser steps per epoch that are left however much memory there is: a batch of all samples
would fit a small data set, and learn little from it."""


def measured_recipe(
    recipe: Recipe, *, task: Task[Any], model: nn.Module, source: Source, device: Device
) -> tuple[Recipe, Found]:
    """Return the recipe with the batch size that fits, and what was measured.

    With `effective_batch` the batch is the largest divisor of it that fits. Model and random state
    are as before.

    Args:
        model: on `device`.
        source: training samples as they are validated: at the size of `image_size`.
    Raises:
        RunError: not even two samples fit.
    """
    settings = recipe.training
    optimizer = Optimizer(
        model,
        name=settings.optimizer,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
    )
    largest = settings.effective_batch or max(SMALLEST, len(source) // LEAST_STEPS)
    largest = min(largest, len(source))

    def step(size: int) -> None:
        batch = _batch(source, size).to(device.torch_device)
        with autocast(device):
            total, _ = task.loss(model, batch)
        torch.autograd.backward(total)
        optimizer.step(optimizer.gradients(), 0.0)
        optimizer.zero_grad()

    with untouched(model, optimizer):
        model.train()
        found = find_batch_size(
            step,
            budget=memory_budget(device, settings.memory_budget),
            peak=lambda: PeakMemory(device),
            largest=largest,
            smallest=min(SMALLEST, largest),
            careful=device.name != "cuda",
            release=lambda: release_memory(device.torch_device),
        )
    release_memory(device.torch_device)
    training = settings.model_copy(update={"batch_size": _fitting(settings, found.batch_size)})
    return recipe.model_copy(update={"training": training}), found


def _batch(source: Source, size: int) -> Batch:
    """The first `size` samples in one batch."""
    pieces = list(source.batches(torch.arange(size), size, epoch=0))
    if len(pieces) == 1:
        return pieces[0]
    return Batch(
        inputs=tuple(torch.cat(parts) for parts in zip(*(p.inputs for p in pieces), strict=True)),
        targets=torch.cat([piece.targets for piece in pieces]),
        rows=torch.cat([piece.rows for piece in pieces]),
    )


def _fitting(settings: Training, found: int) -> int:
    """The largest divisor of the effective batch up to `found`; without one, `found` itself."""
    whole = settings.effective_batch
    if whole is None:
        return found
    return next(size for size in range(min(found, whole), 0, -1) if whole % size == 0)
