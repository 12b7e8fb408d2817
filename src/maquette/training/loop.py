"""The training loop: one trainer for every task.

`fit` is the way in: it sets up, resumes where asked, runs epochs, and leaves the weights to ship in
the model. `_Training.train_epoch` is the loop itself: forward, backward, update, bookkeeping.
Epochs and steps count from 1 wherever a person or a source sees them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn

from maquette.data.randomness import permutation
from maquette.device import Device
from maquette.device.memory import is_out_of_memory
from maquette.errors import RunError
from maquette.recipe import Recipe
from maquette.runs import RunFolder
from maquette.tasks.base import Batch, CoupledTask, Source, StreamedSource, Task
from maquette.training.budget import Budget
from maquette.training.callbacks import (
    Callback,
    EarlyStopping,
    MetricsLogger,
    ModelCheckpoint,
    Row,
    View,
    check_monitor,
)
from maquette.training.checkpoint import CheckpointFolder, Snapshot
from maquette.training.clock import Clock
from maquette.training.coupled import coupled_backward
from maquette.training.failures import explained
from maquette.training.groups import step_groups
from maquette.training.memory import release_memory
from maquette.training.optim import clip_, global_norm
from maquette.training.precision import autocast
from maquette.training.progress import Progress
from maquette.training.result import FitResult, result_of
from maquette.training.schedule import schedule_for
from maquette.training.scoring import score
from maquette.training.seeding import (
    device_random_state,
    restore_device_random_state,
    untouched_random_state,
)
from maquette.training.signals import Interrupted, StopRequest, stop_requests
from maquette.training.state import State, check_same_run
from maquette.training.watch import LossSum, MicroBatch, Watch, check_batch

__all__ = ["FitResult", "fit"]


def fit(
    *,
    task: Task[Any],
    preprocessor: Any,
    model: nn.Module,
    train: Source,
    valid: Source,
    recipe: Recipe,
    folder: RunFolder,
    device: Device,
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
) -> FitResult:
    """Train `model` as `recipe.training` says, and leave the weights to ship in it.

    Dropout and the like draw from the global generators as they are: call `seed_everything` before
    the model is built. A run resumed from its checkpoint ends with the same bits on the CPU as one
    that never stopped.

    Args:
        model: on `device`.
        callbacks: told after the built-in ones.
        resume: continue from the newest checkpoint in `folder`, or from the beginning if none is.
    Raises:
        UsageError: the monitored metric does not exist.
        RunError: loss or weights not finite, disk full, out of memory, checkpoint of another run.
        Interrupted: SIGTERM or SIGINT came; the state is saved.
    """
    if not len(train) or not len(valid):
        raise RunError(
            f"There are {len(train)} training and {len(valid)} validation samples; "
            "both need at least one."
        )
    training = _Training(
        task=task,
        preprocessor=preprocessor,
        model=model,
        train=train,
        valid=valid,
        recipe=recipe,
        folder=folder,
        device=device,
    )
    try:
        with explained(recipe, device), stop_requests() as request:
            training.check_monitor()
            training.begin(callbacks, resume=resume)
            training.run(request)
    finally:
        training.progress.close()
    return result_of(training.state, recipe.training, seconds=training.clock.seconds)


@dataclass(kw_only=True)
class _Training:
    """A training under way."""

    task: Task[Any]
    preprocessor: Any
    model: nn.Module
    train: Source
    valid: Source
    recipe: Recipe
    folder: RunFolder
    device: Device

    def __post_init__(self) -> None:
        self.settings = settings = self.recipe.training
        self.coupled = self.task if isinstance(self.task, CoupledTask) else None
        rates = {} if self.coupled is None else self.coupled.learning_rates(self.model)
        self.state = State.new(self.model, self.recipe, self.device, rates=rates)
        self.budget = Budget(self.device, settings.memory_budget)
        self.piece: int | None = None
        """Largest number of samples at once, known once the memory did not hold more."""
        self.schedule = schedule_for(settings, len(self.train))
        self.clock = Clock()
        self.watch = Watch(
            task=self.task,
            model=self.model,
            source=self.train,
            device=self.device,
            recipe=self.recipe,
        )
        # Reading a loss is free on the CPU; on a GPU it waits for the step, so it is done rarely.
        look_always = self.device.name == "cpu" or self.recipe.debug
        self.read_every = 1 if look_always else settings.log_every * settings.accumulate

        stopping, checkpoint = settings.early_stopping, settings.checkpoint
        self.stopping = EarlyStopping(
            monitor=stopping.monitor, patience=stopping.patience, min_delta=stopping.min_delta
        )
        self.checkpoints = CheckpointFolder(self.folder.checkpoints(self.recipe))
        self.keeper = ModelCheckpoint(
            folder=self.checkpoints if checkpoint.enabled else None,
            monitor=stopping.monitor if checkpoint.save_best else None,
            snapshot=self._snapshot,
            weights=self.state.weights,
        )
        self.logger = MetricsLogger(self.folder)
        self.progress = Progress(monitor=stopping.monitor)

    def check_monitor(self) -> None:
        """Refuse an unknown monitor before the first epoch, not after it."""
        if self.settings.early_stopping.enabled or self.settings.checkpoint.save_best:
            rows = torch.arange(min(len(self.valid), 4 * self.settings.micro_batch))
            with suppress(RunError):  # outputs not finite: the loop says more about them
                available = ["train/loss", *self._validate(rows)]
                check_monitor(self.settings.early_stopping.monitor, available)

    def begin(self, callbacks: Sequence[Callback], *, resume: bool) -> None:
        """Start anew, or go back to the newest checkpoint."""
        loaded = self.checkpoints.load() if resume else None
        if loaded is None:
            self.checkpoints.clear()
        else:
            snapshot, best, complaints = loaded
            check_same_run(snapshot, self.recipe, num_samples=len(self.train))
            for complaint in complaints:
                sys.stderr.write(complaint + "\n")
                self.folder.log("checkpoint passed over", reason=complaint)
            self.checkpoints.forget_after(snapshot.state["step"], snapshot.state["best"])
            self.keeper.best = best
            self.state.restore(snapshot)
        self.logger.rewind(self.state.history)
        self.callbacks: list[Callback] = [self.logger, self.keeper, self.progress, *callbacks]
        if self.settings.early_stopping.enabled:
            for row in self.state.history:
                self.stopping.update(row)
            self.callbacks.insert(0, self.stopping)
        self.clock = Clock(self.state.seconds)

    def run(self, request: StopRequest) -> None:
        """Train to the last epoch or an early stop, then put the weights to ship in the model."""
        while self.state.epoch < self.settings.epochs and not self.stopping.stop:
            self.train_epoch(request)
            self.end_epoch()
            self._leave_if_asked(request)
        view = self._view()
        for callback in self.callbacks:
            callback.on_end(view)
        self.model.load_state_dict(self.state.weights())
        self.keeper.load_best(self.model)
        self.model.eval()

    def train_epoch(self, request: StopRequest) -> None:
        """Train on what is left of the epoch under way."""
        state, optimizer, settings = self.state, self.state.optimizer, self.settings
        save_every, effective = settings.checkpoint.every_steps, settings.step_samples
        self.model.train()
        self.clock.start_epoch()
        for group in self._groups():
            state.step += 1
            count = self._backward(group)

            # These are the gradients of Σ loss / effective; wanted are those of Σ loss / count.
            gradients = optimizer.gradients()
            if isinstance(count, Tensor) or count != effective:
                torch._foreach_mul_(gradients, effective / count)
            if self._may_update(gradients, group):
                optimizer.step(gradients, self.schedule(optimizer.steps))
                if self.coupled is not None:
                    self.coupled.after_update(self.model)
                self.watch.updated(state.step, group)
                if state.ema is not None:
                    state.ema.update()
            optimizer.zero_grad()

            seen = sum(len(batch.rows) for batch in group)
            state.position += seen
            self.clock.samples += seen
            if state.step % settings.log_every == 0:
                self._read_losses()
                view = self._view()
                for callback in self.callbacks:
                    callback.on_step(view)
            if save_every is not None and state.step % save_every == 0:
                self._save()
            self._leave_if_asked(request)

    def end_epoch(self) -> None:
        """Validate, add the epoch's row to the history, and tell the callbacks."""
        self._read_losses()
        self.watch.check_weights(epoch=self.state.epoch + 1)
        state, clock, rate = self.state, self.clock, self.clock.samples_per_second
        state.train_seconds += clock.epoch_seconds
        state.train_samples += clock.samples
        with nullcontext() if state.ema is None else state.ema.applied():
            scores = self._validate()
        if not math.isfinite(scores["valid/loss"]):
            raise self.watch.bad_validation(epoch=state.epoch + 1, loss=scores["valid/loss"])
        state.epoch += 1
        row = {
            "epoch": state.epoch,
            "step": state.step,
            "seconds": round(clock.seconds, 3),
            "learning_rate": self._learning_rate(),
            "train/loss": state.loss.mean,
            **scores,
            "samples_per_second": round(rate, 1),
        }
        state.history.append(row)
        state.position, state.loss, clock.samples = 0, LossSum(), 0
        view = self._view()
        for callback in self.callbacks:
            callback.on_epoch_end(view)

    def _backward(self, group: list[Batch]) -> float | Tensor:
        """Add up the gradients of one optimiser step; return what its loss is a sum over.

        Out of memory, it is tried again in pieces of half the size. The step stays the same.
        """
        device = self.device.torch_device
        while True:
            size = max(len(batch) for batch in group)
            generators = device_random_state(device)
            try:
                with self.budget.watch() as excess:
                    count = self._accumulate(group)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or size == 1:
                    raise
            else:
                if excess:
                    self._stay_within_budget(excess[0], size)
                return count
            # Only here, outside the handler, are the tensors free that its traceback held.
            self.state.optimizer.zero_grad()
            restore_device_random_state(generators, device)
            self._halve(size, why="out of memory")
            group = self._in_pieces(group)

    def _halve(self, size: int, *, why: str) -> None:
        """From now on, run at most half as many samples at once."""
        release_memory(self.device.torch_device)
        self.piece = (size + 1) // 2
        self.progress.note(
            f"{why} with {size} samples at once: going on with {self.piece}, "
            f"still {self.settings.step_samples} per step"
        )
        self.folder.log(why, step=self.state.step, samples=size, from_now_on=self.piece)

    def _stay_within_budget(self, taken: int, size: int) -> None:
        """Halve the pieces of the steps to come, or say that the budget is too small."""
        if size == 1:
            raise RunError(
                f"A step with a single sample at once takes {taken / 2**30:.2f} GiB, and "
                f"training.memory_budget is {self.settings.memory_budget:g}. Allow more, or use a "
                "smaller model or image size."
            )
        self._halve(size, why="over the memory budget")

    def _accumulate(self, group: list[Batch]) -> float | Tensor:
        """Run the pieces of a step forward and backward, and hand their losses to the watch."""
        device, scale = self.device.torch_device, self._scale / self.settings.step_samples
        step = self.state.step
        count: float | Tensor = 0.0
        seen: list[MicroBatch] = []
        if self.coupled is not None:
            total, number = coupled_backward(
                self.coupled,
                self.model,
                group,
                device=device,
                autocast=lambda: autocast(self.device),
                scale=scale,
            )
            seen.append(MicroBatch(step, total, number, torch.cat([b.rows for b in group])))
        else:
            for batch in group:
                batch = batch.to(device)
                with autocast(self.device):
                    total, samples = self.task.loss(self.model, batch)
                seen.append(MicroBatch(step, total.detach(), samples, batch.rows))
                torch.autograd.backward(total * scale)
        for micro in seen:
            self._watch_loss(micro)
            count = count + micro.count
        return count

    def _in_pieces(self, group: list[Batch]) -> list[Batch]:
        """Cut what is too large for the memory, as found out on the way."""
        if self.piece is None:
            return group
        return [piece for batch in group for piece in batch.pieces(self.piece)]

    def _groups(self) -> Iterator[list[Batch]]:
        """Yield the micro-batches of each optimiser step that is left in the epoch."""
        epoch = self.state.epoch + 1
        order = self._order(epoch)[self.state.position :]
        with untouched_random_state():
            batches = iter(self.train.batches(order, self.settings.micro_batch, epoch=epoch))
            batches = chain(list(islice(batches, 1)), batches)
        for group in step_groups(batches, self.settings.step_samples):
            if self.recipe.debug:
                for batch in group:
                    check_batch(batch)
            yield self._in_pieces(group)

    def _order(self, epoch: int) -> Tensor:
        """(n,) int64 positions of the training samples in the order of an epoch."""
        if isinstance(self.train, StreamedSource):
            order = self.train.epoch_order(epoch)
            if order is not None:
                return order
        shuffled = permutation(len(self.train), seed=self.recipe.seed, epoch=epoch, purpose="order")
        return torch.from_numpy(shuffled)

    @property
    def _scale(self) -> float:
        return 1.0 if self.state.scaler is None else self.state.scaler.scale

    def _may_update(self, gradients: list[Tensor], group: list[Batch]) -> bool:
        """Unscale and clip the gradients in place; False where fp16 overflowed."""
        scaler, largest = self.state.scaler, self.settings.clip_norm
        if scaler is not None and not scaler.unscale_(gradients):
            return False
        if largest is None and not self.recipe.debug:
            return True
        norm = global_norm(gradients)
        if self.read_every == 1 and not math.isfinite(norm.item()):
            raise self.watch.bad_gradient(group, epoch=self.state.epoch + 1, step=self.state.step)
        if largest is not None:
            clip_(gradients, norm, largest)
        return True

    def _watch_loss(self, micro: MicroBatch) -> None:
        self.state.loss.waiting.append(micro)
        if len(self.state.loss.waiting) >= self.read_every:
            self._read_losses()

    def _read_losses(self) -> None:
        """Add up the losses that are waiting; stop at one that is not finite."""
        bad = self.state.loss.settle()
        if bad is None:
            return
        epoch = self.state.epoch + 1
        if self.read_every == 1:  # else the weights have moved on since, and say nothing
            self.watch.check_weights(epoch=epoch)
        raise self.watch.bad_loss(bad, epoch=epoch)

    def _validate(self, rows: Tensor | None = None) -> dict[str, float]:
        """Score the validation split, or `rows` of it; every name starts with "valid/"."""
        scores = score(
            self.task,
            self.preprocessor,
            self.model,
            self.valid,
            device=self.device,
            # Without gradients a larger batch fits in the memory of a training step.
            batch_size=4 * self.settings.micro_batch,
            rows=rows,
        )
        return {f"valid/{name}": value for name, value in scores.metrics.items()}

    def _save(self) -> None:
        self._read_losses()
        self.watch.check_weights(epoch=self.state.epoch + 1)
        self.keeper.save()

    def _snapshot(self) -> Snapshot:
        return self.state.snapshot(
            self.recipe, num_samples=len(self.train), seconds=self.clock.seconds
        )

    def _leave_if_asked(self, request: StopRequest) -> None:
        """After a signal: save, say how to go on, and leave with its exit status."""
        if request.signal_number is None:
            return
        leaving = Interrupted(request.signal_number)
        self._save()
        self.progress.close()
        self.folder.log("interrupted", signal=leaving.signal_name, step=self.state.step)
        saved = (
            f"the state is saved. `maquette train --resume {self.folder.path}` goes on."
            if self.settings.checkpoint.enabled
            else "nothing is saved, because training.checkpoint.enabled is false."
        )
        sys.stderr.write(f"{leaving.signal_name}: stopped after step {self.state.step}; {saved}\n")
        raise leaving

    def _view(self) -> View:
        state, clock = self.state, self.clock
        within = clock.samples > 0
        last: Row = state.history[-1] if state.history else {}
        return View(
            epoch=state.epoch + within,
            epochs=self.settings.epochs,
            step=state.step,
            total_steps=self.schedule.total_steps,
            seconds=clock.seconds,
            samples_per_second=clock.samples_per_second if within else last["samples_per_second"],
            learning_rate=self._learning_rate(),
            train_loss=state.loss.mean if within else last["train/loss"],
            history=tuple(state.history),
        )

    def _learning_rate(self) -> float:
        """The rate of the last update."""
        return self.schedule(max(0, self.state.optimizer.steps - 1))
