"""Everything that changes while a network trains, and so everything a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from maquette.device import Device
from maquette.errors import RunError
from maquette.recipe import Recipe
from maquette.training.callbacks import Row
from maquette.training.checkpoint import Snapshot, prefixed
from maquette.training.ema import Ema
from maquette.training.optim import Optimizer
from maquette.training.precision import LossScaler
from maquette.training.seeding import random_state, restore_random_state
from maquette.training.watch import LossSum

FREE_KEYS = ("name", "runs_dir", "debug", "tracking", "evaluation")
"""Sections of a recipe that may differ between a checkpoint and the run that continues it."""


@dataclass
class State:
    """Where a training stands."""

    model: nn.Module
    optimizer: Optimizer
    ema: Ema | None
    scaler: LossScaler | None
    epoch: int = 0
    """Finished epochs."""
    position: int = 0
    """Samples of the epoch under way that the network has learned from."""
    step: int = 0
    """Optimiser steps, those that fp16 skipped included."""
    loss: LossSum = field(default_factory=LossSum)
    """Of the epoch under way."""
    history: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    """Spent on the run, up to the last snapshot."""
    train_seconds: float = 0.0
    """Of these, spent in the training loop, up to the end of the last epoch."""
    train_samples: int = 0
    """Samples learned from in `train_seconds`."""

    @classmethod
    def new(
        cls,
        model: nn.Module,
        recipe: Recipe,
        device: Device,
        *,
        rates: Mapping[str, float] | None = None,
    ) -> State:
        """Return the state before the first step; `rates` are factors of the learning rate."""
        training = recipe.training
        optimizer = Optimizer(
            model,
            name=training.optimizer,
            weight_decay=training.weight_decay,
            momentum=training.momentum,
            rates=rates,
        )
        ema = None if training.ema_decay is None else Ema(model, training.ema_decay)
        return cls(model, optimizer, ema, LossScaler() if device.precision == "fp16" else None)

    def weights(self) -> dict[str, Tensor]:
        """The weights that are validated and shipped: averaged where there is an average."""
        weights: dict[str, Tensor] = self.model.state_dict()
        return weights if self.ema is None else weights | self.ema.tensors()

    def snapshot(self, recipe: Recipe, *, num_samples: int, seconds: float) -> Snapshot:
        """Return all of it; the tensors are those in use, not copies."""
        generators, generator_tensors = random_state()
        tensors = prefixed("model", self.model.state_dict())
        tensors |= prefixed("optimizer", self.optimizer.tensors())
        tensors |= prefixed("random", generator_tensors)
        if self.ema is not None:
            tensors |= prefixed("ema", self.ema.tensors())
        state = {
            "recipe": recipe.model_dump(mode="json", by_alias=True),
            "num_samples": num_samples,
            "epoch": self.epoch,
            "position": self.position,
            "step": self.step,
            "optimizer_steps": self.optimizer.steps,
            "ema_updates": 0 if self.ema is None else self.ema.updates,
            "scaler": None if self.scaler is None else [self.scaler.scale, self.scaler.good_steps],
            "loss": [self.loss.total, self.loss.count],
            "history": [dict(row) for row in self.history],
            "seconds": seconds,
            "train_seconds": self.train_seconds,
            "train_samples": self.train_samples,
            "random": generators,
        }
        return Snapshot(state, tensors)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to what `snapshot` returned. The generators come last: nothing may draw after."""
        saved = snapshot.state
        self.model.load_state_dict(snapshot.part("model"))
        self.optimizer.load(snapshot.part("optimizer"), saved["optimizer_steps"])
        if self.ema is not None:
            self.ema.load(snapshot.part("ema"), saved["ema_updates"])
        if self.scaler is not None:
            self.scaler.scale, self.scaler.good_steps = saved["scaler"]
        self.epoch, self.position, self.step = saved["epoch"], saved["position"], saved["step"]
        self.loss = LossSum(*saved["loss"])
        self.history = list(saved["history"])
        self.seconds = saved["seconds"]
        self.train_seconds = saved["train_seconds"]
        self.train_samples = saved["train_samples"]
        restore_random_state(saved["random"], snapshot.part("random"))


def check_same_run(snapshot: Snapshot, recipe: Recipe, *, num_samples: int) -> None:
    """Refuse to continue another run.

    Raises:
        RunError: names every key of the recipe that differs, with both values.
    """
    now = dict(_flat(recipe.model_dump(mode="json", by_alias=True)))
    then = dict(_flat(snapshot.state["recipe"]))
    differing = [
        f"  {key}: {then.get(key)!r} in the checkpoint, {now.get(key)!r} now"
        for key in sorted(now.keys() | then.keys())
        if now.get(key) != then.get(key) and key.partition(".")[0] not in FREE_KEYS
    ]
    if differing:
        raise RunError(
            "The checkpoint belongs to another recipe:\n"
            + "\n".join(differing)
            + "\nSet these keys back to resume, or start a new run with `maquette train RECIPE`."
        )
    if snapshot.state["num_samples"] != num_samples:
        raise RunError(
            f"The checkpoint was made with {snapshot.state['num_samples']} training samples and "
            f"the data has {num_samples} now. Restore the data to resume, or start a new run."
        )


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
