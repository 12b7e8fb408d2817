"""One pass over a split in inference mode: outputs, targets, mean loss and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maquette.device import Device
from maquette.tasks.base import CoupledTask, Source, Task
from maquette.training.precision import autocast


@dataclass(frozen=True)
class Scores:
    """What a network says about a split, in the order of the split, on the CPU."""

    outputs: Tensor
    """(n, N) or (n,) float32."""
    targets: Tensor
    """(n,) as the batches held them."""
    metrics: dict[str, float]
    """Every metric of the task by its plain name, and "loss", the mean by counts."""


def score(
    task: Task[Any],
    preprocessor: Any,
    model: nn.Module,
    source: Source,
    *,
    device: Device,
    batch_size: int = 256,
    rows: Tensor | None = None,
) -> Scores:
    """Run `model` over a split; its training flag is left as it was.

    Args:
        rows: (n,) int64 positions in `source`; all of them by default.
    Raises:
        RunError: the outputs are not finite.
    """
    outputs, targets, losses = [], [], []
    count: float | Tensor = 0.0
    order = torch.arange(len(source)) if rows is None else rows
    with _inference(model), torch.inference_mode(), _outputs_of(model) as latest:
        for batch in source.batches(order, batch_size, epoch=0):
            on_device = batch.to(device.torch_device)
            with autocast(device):
                total, samples = task.loss(model, on_device)
            outputs.append(latest.pop().float())
            targets.append(batch.targets)
            losses.append(total)
            count = count + samples
        loss = sum(torch.stack(losses).tolist()) / float(count)
    all_outputs, all_targets = torch.cat(outputs).cpu(), torch.cat(targets).cpu()
    accumulator = task.metrics(preprocessor)
    accumulator.update(all_outputs, all_targets)
    metrics = {"loss": loss, **accumulator.compute()}
    if isinstance(task, CoupledTask):
        metrics |= task.readings(model, all_outputs, all_targets)
    return Scores(all_outputs, all_targets, metrics)


@contextmanager
def _inference(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def _outputs_of(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what the model returns while a task computes its loss, so one forward serves both."""
    collected: list[Tensor] = []
    handle = model.register_forward_hook(lambda _module, _inputs, output: collected.append(output))
    try:
        yield collected
    finally:
        handle.remove()
