"""What one training step needs, and the step itself. The loop around it is in `train.py`.

Start reading at `update`. In: a batch. Out: its loss and gradient norm as numbers, and a trainer
whose weights have moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from unet_seg import checkpoints
from unet_seg.config import Config, config_to_dict
from unet_seg.data.batches import Batch
from unet_seg.devices import pick_device, random_state, restore_random_state
from unet_seg.errors import SegError
from unet_seg.losses import Loss, build_loss, supervised
from unet_seg.models import build_model
from unet_seg.optim import WeightAverage, build_optimizer
from unet_seg.seed import seed_everything, set_deterministic
from unet_seg.watch import NotFinite, check_step

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Trainer:
    """The state of a run: what a checkpoint holds and a resume restores."""

    config: Config
    device: torch.device
    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    scaler: torch.amp.GradScaler
    loss: Loss
    step: int = 0
    """Optimiser steps done."""
    seconds: float = 0.0
    """Wall-clock time of the run, validation included, over all resumptions."""
    best_step: int = 0
    """Step of the best validation so far; 0 before the first."""
    best_scores: dict[str, float] = field(default_factory=dict)
    """Its row of metrics.csv."""
    recent_losses: list[float] = field(default_factory=list)
    """Losses of the steps since the last row of metrics.csv, which holds their mean."""

    @property
    def progress(self) -> float:
        """Part of the run that is done, by steps or by time, whichever is further."""
        limit, share = self.config.train.max_minutes, self.step / self.config.train.steps
        return share if limit is None else max(share, self.seconds / (60 * limit))

    @property
    def shipped(self) -> nn.Module:
        """The network that is validated and saved as the best: the average where there is one."""
        return self.average.model if self.average else self.model

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs for an exact resume."""
        return {
            "config": config_to_dict(self.config),
            "step": self.step,
            "seconds": self.seconds,
            "best_step": self.best_step,
            "best_scores": self.best_scores,
            "recent_losses": self.recent_losses,
            "model": self.model.state_dict(),
            "ema": self.average.model.state_dict() if self.average else None,
            "ema_updates": self.average.num_updates if self.average else 0,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": random_state(),
        }

    def restore(self, state: dict[str, Any], *, source: str) -> None:
        """Take over what `state` returned, in this or another process.

        Args:
            state: from a checkpoint.
            source: where it is from, for the message of an error.
        Raises:
            SegError: it lacks something, or holds the weights of another architecture.
        """
        missing = [name for name in self.state() if name not in state]
        if missing:
            raise SegError(
                f"{source}: lacks {', '.join(missing)}, so training cannot go on from it: best.pt "
                "holds weights alone, and earlier versions saved less. Start the run again."
            )
        checkpoints.fill(self.model, state["model"], source=source)
        if self.average:
            checkpoints.fill(self.average.model, state["ema"], source=source)
            self.average.num_updates = state["ema_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.best_step, self.best_scores = state["best_step"], state["best_scores"]
        self.recent_losses = state["recent_losses"]
        restore_random_state(state["random"])  # last: whatever ran before may have drawn


def make_trainer(config: Config) -> Trainer:
    """Build everything from a configuration, with the weights its seed gives.

    Raises:
        SegError: the device is not there, or model or loss is unknown.
    """
    train = config.train
    device = pick_device(train.device)
    if train.threads is not None:
        torch.set_num_threads(train.threads)
    set_deterministic(train.deterministic)
    seed_everything(config.seed)
    model = build_model(config).to(device)
    if train.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    decay = config.optim.ema_decay
    return Trainer(
        config=config,
        device=device,
        model=model.train(),
        optimizer=build_optimizer(model, config.optim),
        average=WeightAverage(model, decay) if decay is not None else None,
        scaler=torch.amp.GradScaler(device.type, enabled=train.precision == "fp16"),
        loss=build_loss(config.loss, len(config.data.classes)),
    )


def update(trainer: Trainer, batch: Batch) -> tuple[float, float]:
    """One optimiser step on one batch; returns its loss and gradient norm.

    Raises:
        NotFinite: the loss or a gradient is NaN or infinite; the weights are left as they were.
    """
    batch = batch.to(trainer.device)
    loss, grad_norm = forward_backward(trainer, batch)
    _watch(trainer, batch, loss, grad_norm)
    trainer.scaler.step(trainer.optimizer)  # skips the step if fp16 gradients overflowed
    trainer.scaler.update()
    trainer.optimizer.zero_grad(set_to_none=True)
    if trainer.average:
        trainer.average.update(trainer.model)
    return loss, grad_norm


def forward_backward(trainer: Trainer, batch: Batch) -> tuple[float, float]:
    """Gradients of one batch, computed in `accumulate` parts and clipped.

    A loss is a mean over images, so part losses weighted by their images add up to the whole
    batch's loss and gradient exactly (but for batch norm, whose statistics are each part's own).

    Returns:
        The batch's loss, and the norm of its gradient before clipping.
    """
    config = trainer.config
    total = torch.zeros((), device=trainer.device)
    parts = min(config.train.accumulate, len(batch.image))
    for image, mask, valid in zip(
        batch.image.tensor_split(parts),
        batch.mask.tensor_split(parts),
        batch.valid.tensor_split(parts),
        strict=True,
    ):
        loss = compute_loss(trainer, image, mask, valid) * (len(image) / len(batch.image))
        trainer.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()

    trainer.scaler.unscale_(trainer.optimizer)  # before clipping: the limit is on true gradients
    parameters = [p for p in trainer.model.parameters() if p.grad is not None]
    if config.optim.grad_clip is not None:
        norm = clip_grad_norm_(parameters, config.optim.grad_clip)
    else:
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    loss_value, norm_value = torch.stack([total, norm]).tolist()  # one wait for the device
    return loss_value, norm_value


def compute_loss(trainer: Trainer, image: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """The mean loss of some images, with the forward pass in the run's precision."""
    levels = forward_levels(trainer, image)
    return supervised(trainer.loss, [logits.float() for logits in levels], mask, valid)


def forward_levels(trainer: Trainer, image: Tensor) -> list[Tensor]:
    """Logits of every supervised level, finest first, in the run's precision and layout."""
    train = trainer.config.train
    if train.channels_last:
        image = image.contiguous(memory_format=torch.channels_last)
    dtype = PRECISIONS.get(train.precision)
    with torch.autocast(trainer.device.type, dtype=dtype, enabled=dtype is not None):
        levels: list[Tensor] = trainer.model.forward_all(image)  # type: ignore[operator]
    return levels


def _watch(trainer: Trainer, batch: Batch, loss: float, grad_norm: float) -> None:
    """Stop at a value that is not finite; under fp16 an infinite gradient only lowers the scale."""
    precision = trainer.config.train.precision
    if precision == "fp16":
        if trainer.scaler.get_scale() < 1:
            raise NotFinite(
                f"step {trainer.step + 1}: the fp16 loss scale fell below 1, so nearly every step "
                "overflows; use train.precision=bf16 or fp32."
            )
        grad_norm = 0.0
    check_step(
        trainer.model,
        loss=loss,
        grad_norm=grad_norm,
        step=trainer.step,
        names=batch.names,
        run=lambda: compute_loss(trainer, batch.image, batch.mask, batch.valid),
        lr=trainer.optimizer.param_groups[0]["lr"],
        precision=precision,
    )
