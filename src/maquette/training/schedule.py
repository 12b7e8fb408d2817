"""The learning rate of every optimiser step: linear warm-up, then constant, cosine or linear."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from maquette.recipe.schema import Training
from maquette.tasks.batching import batch_slices


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A pure function of the step, so resuming needs the step and nothing else."""

    shape: Literal["constant", "cosine", "linear"]
    peak: float
    """Reached at the end of the warm-up."""
    final: float
    """Approached at the end; `constant` does not use it."""
    warmup_steps: int
    total_steps: int

    def __call__(self, step: int) -> float:
        """Return the learning rate of step 0, 1, …, total_steps - 1; the first is never 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if self.shape == "constant":
            return self.peak
        share = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        if self.shape == "cosine":  # Loshchilov and Hutter 2017, eq. 5
            share = (1 - math.cos(math.pi * share)) / 2
        return self.peak + (self.final - self.peak) * share


def schedule_for(training: Training, num_samples: int) -> Schedule:
    """Return the schedule of a recipe over `num_samples` training samples."""
    micro_batches = len(batch_slices(num_samples, training.micro_batch))
    steps_per_epoch = math.ceil(micro_batches * training.micro_batch / training.step_samples)
    return Schedule(
        shape=training.schedule,
        peak=training.learning_rate,
        final=training.final_learning_rate,
        warmup_steps=round(training.warmup_epochs * steps_per_epoch),
        total_steps=training.epochs * steps_per_epoch,
    )
