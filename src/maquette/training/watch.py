"""The watch for NaN and infinity: notices the first loss that is not finite and says why.

Watching costs one comparison per step. What follows is worked out only once the run has failed:
which samples, which parameter or module, and what to change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from maquette.device import Device
from maquette.errors import RunError
from maquette.recipe import Recipe
from maquette.tasks.base import Batch, Source, Task
from maquette.training.optim import global_norm
from maquette.training.precision import autocast

SHOWN_IDS = 8


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What is remembered of a micro-batch until its loss has been looked at."""

    step: int
    """The optimiser step it is part of, from 1."""
    loss: Tensor
    """0-d, summed over its samples."""
    count: float | Tensor
    rows: Tensor
    """Positions in the training split."""


@dataclass
class LossSum:
    """The loss of an epoch so far. On a GPU nothing is read until `settle`."""

    total: float = 0.0
    count: float = 0.0
    waiting: list[MicroBatch] = field(default_factory=list)

    def settle(self) -> MicroBatch | None:
        """Add what is waiting; return the first micro-batch whose loss is not finite, if any."""
        bad = None
        for micro, loss in zip(self.waiting, self._losses(), strict=True):
            self.total += loss
            self.count += float(micro.count)
            if bad is None and not math.isfinite(loss):
                bad = micro
        self.waiting.clear()
        return bad

    def _losses(self) -> list[float]:
        if len(self.waiting) == 1:
            return [self.waiting[0].loss.item()]
        if not self.waiting:
            return []
        losses: list[float] = torch.stack([micro.loss for micro in self.waiting]).tolist()
        return losses

    @property
    def mean(self) -> float:
        """The mean over all samples that have been settled; NaN before the first."""
        return self.total / self.count if self.count else math.nan


@dataclass(kw_only=True)
class Watch:
    """Explains failures of one run."""

    task: Task[Any]
    model: nn.Module
    source: Source
    device: Device
    recipe: Recipe
    last_update: tuple[int, list[Batch]] | None = None
    """The last optimiser step that changed the weights, and what it learned from."""

    def updated(self, step: int, group: list[Batch]) -> None:
        """Remember the latest update."""
        self.last_update = step, group

    def check_weights(self, *, epoch: int) -> None:
        """Stop if the last update left weights that are not finite; waits for the device once.

        Raises:
            RunError: names the step, its samples and the first such parameter.
        """
        if finite_parameters(self.model):
            return
        worst = first_bad(self._values())
        if self.last_update is None:
            raise RunError(
                f"The weights are not finite before the first step: {worst}. "
                "If they come from model.architecture.weights, that file is damaged."
            )
        step, group = self.last_update
        raise self._error(
            f"{_place(epoch, step)}: the gradient or the update was not finite.",
            _rows(group),
            f"The first weights that are not finite are {worst}.",
        )

    def bad_loss(self, micro: MicroBatch, *, epoch: int) -> RunError:
        """Explain a loss that is not finite: bad samples, a bad module, or weights long gone."""
        what = f"{_place(epoch, micro.step)}: the loss is {micro.loss.item()}."
        if not finite_parameters(self.model):
            return self._error(what, micro.rows, "The weights are not finite any more.")
        batch = self._again(micro.rows, epoch)
        rows = _rows_not_finite(batch)
        if len(rows):
            return self._error(what, rows, "Their inputs or targets are not finite.", data=True)
        return self._error(what, micro.rows, self._first_bad_module(batch))

    def bad_gradient(self, group: list[Batch], *, epoch: int, step: int) -> RunError:
        """Explain gradients that are not finite though the loss is."""
        gradients = {n: p.grad for n, p in self.model.named_parameters() if p.grad is not None}
        return self._error(
            f"{_place(epoch, step)}: the gradient norm is not finite.",
            _rows(group),
            f"The first such gradient is that of {first_bad(gradients)}.",
        )

    def bad_validation(self, *, epoch: int, loss: float) -> RunError:
        """Explain a validation loss that is not finite though every training loss was."""
        return RunError(
            f"Training stopped after epoch {epoch}: the validation loss is {loss}.\n"
            + self._advice()
        )

    def _values(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}

    def _again(self, rows: Tensor, epoch: int) -> Batch:
        """The same batch once more: a source is a pure function of (epoch, row)."""
        batches = self.source.batches(rows, max(1, len(rows)), epoch=epoch)
        return next(iter(batches)).to(self.device.torch_device)

    def _first_bad_module(self, batch: Batch) -> str:
        with _module_watch(self.model) as found, torch.no_grad(), autocast(self.device):
            self.task.loss(self.model, batch)
        if found:
            return f"The first module whose output is not finite is {found[0]}."
        return "Every module's output is finite when the batch is repeated; the loss overflows."

    def _error(self, what: str, rows: Tensor, finding: str, *, data: bool = False) -> RunError:
        return RunError(
            f"{what}\nSamples: {self._names(rows)}.\n{finding}\n"
            + ("Correct or remove these samples." if data else self._advice())
        )

    def _names(self, rows: Tensor) -> str:
        names = ", ".join(str(self.source.ids[row]) for row in rows[:SHOWN_IDS].tolist())
        return names if len(rows) <= SHOWN_IDS else f"{names}, … ({len(rows)} in all)"

    def _advice(self) -> str:
        training = self.recipe.training
        changes = [f"training.learning_rate={training.learning_rate / 10:g}"]
        if training.clip_norm is None:
            changes.append("training.clip_norm=1")
        if self.device.precision == "fp16":
            changes.append("training.precision=fp32")
        advice = (
            f"Likely cause: steps too large for this loss (learning_rate is "
            f"{training.learning_rate:g}). Try {' or '.join(changes)}."
        )
        if self.device.name != "cpu" and not self.recipe.debug:
            advice += (
                f" Losses were read every {training.log_every} steps, so the weights have moved "
                "on since; debug=true looks at every step and names the module."
            )
        return advice


def _place(epoch: int, step: int) -> str:
    return f"Training stopped in epoch {epoch}, step {step}"


def _rows(group: list[Batch]) -> Tensor:
    return torch.cat([batch.rows for batch in group])


def check_batch(batch: Batch) -> None:
    """Check a batch against the contract of `Batch`; the trainer does so when debug is on.

    Raises:
        RunError: a shape does not fit; the text names which.
    """
    size = len(batch.rows)
    named = {f"inputs[{i}]": x for i, x in enumerate(batch.inputs)} | {"targets": batch.targets}
    if batch.weights is not None:
        named["weights"] = batch.weights
    for name, tensor in named.items():
        if tensor.ndim == 0 or len(tensor) != size:
            raise RunError(
                f"debug: a batch of {size} rows has {name} of shape {tuple(tensor.shape)}; "
                f"expected {size} first."
            )


def finite_parameters(model: nn.Module) -> bool:
    """Return whether every parameter is finite; waits for the device once."""
    return bool(global_norm([p.detach() for p in model.parameters()]).isfinite())


def first_bad(tensors: dict[str, Tensor]) -> str:
    """Name the first tensor, in the order of the backward pass, that is not finite."""
    for name, tensor in reversed(tensors.items()):
        if not bool(tensor.isfinite().all()):
            return name
    return "a parameter"


def _rows_not_finite(batch: Batch) -> Tensor:
    """Return the rows of a batch with NaN or infinity in an input, target or weight."""
    good = torch.ones(len(batch.rows), dtype=torch.bool)
    for tensor in (*batch.inputs, batch.targets, batch.weights):
        if tensor is not None:
            good &= tensor.isfinite().reshape(len(tensor), -1).all(dim=1).cpu()
    return batch.rows[~good]


@contextmanager
def _module_watch(model: nn.Module) -> Iterator[list[str]]:
    """Collect the modules whose output is not finite, in the order they finish."""
    found: list[str] = []

    def watch(name: str, module: nn.Module) -> Any:
        def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs: Sequence[Any] = output if isinstance(output, (tuple, list)) else [output]
            if any(isinstance(x, Tensor) and not bool(x.isfinite().all()) for x in outputs):
                found.append(f"{name or 'the network itself'} ({type(module).__name__})")

        return module.register_forward_hook(look)

    handles = [watch(name, module) for name, module in model.named_modules()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
