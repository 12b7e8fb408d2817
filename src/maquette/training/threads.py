"""How many CPU threads a training step is worth.

Threads meet after every operation. When the operations are small the meetings cost more than the
sharing saves, and on a machine with other work they cost more still: the last thread to be
scheduled holds up all the others. So small steps run on one thread. The rule counts work instead
of taking time, so a resumed run uses as many threads as the run it continues, and gets its bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from maquette.tasks.base import Batch, Source

SMALL_STEP = 200_000_000
"""Multiply-adds of one forward pass of a batch. The usual networks of tables stay far below; a
ResNet of ordinary width on a batch of photos is far above."""


@contextmanager
def fitting_threads(model: nn.Module, source: Source, *, batch_size: int) -> Iterator[int]:
    """Run the block on one thread where a step is small, otherwise on those that torch has.

    Yields:
        the number of threads.
    """
    available = torch.get_num_threads()
    rows = torch.arange(min(batch_size, len(source)))
    batch = next(iter(source.batches(rows, batch_size, epoch=0)))
    threads = 1 if count_multiply_adds(model, batch) < SMALL_STEP else available
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        torch.set_num_threads(available)


def count_multiply_adds(model: nn.Module, batch: Batch) -> int:
    """Count the multiply-adds of all linear and convolution layers for one batch.

    The network is run once as in evaluation, so neither its statistics nor the random state move.
    """
    total = 0

    def count(layer: nn.Module, output: Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor), "linear and convolution layers have a weight"
        total += output.numel() * weight[0].numel()

    watch_layers(model, batch, (nn.Linear, nn.Conv2d), count)
    return total


def watch_layers(
    model: nn.Module,
    batch: Batch,
    kinds: tuple[type[nn.Module], ...],
    look: Callable[[nn.Module, Tensor], None],
) -> None:
    """Run the network once as in evaluation and show each layer of these kinds with its output."""

    def hook(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        del inputs
        look(layer, output)

    layers = [layer for layer in model.modules() if isinstance(layer, kinds)]
    hooks = [layer.register_forward_hook(hook) for layer in layers]
    was_training = model.training
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            model.eval()(*batch.to(device).inputs)
    finally:
        model.train(was_training)
        for handle in hooks:
            handle.remove()
