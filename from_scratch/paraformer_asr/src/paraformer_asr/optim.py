"""Optimiser, learning rate and the moving average of the weights.

Letters: s steps counted from 1, w = optim.warmup_steps, p progress of the run from 0 to 1.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn

from paraformer_asr.config import OptimConfig
from paraformer_asr.errors import AsrError

NOT_DECAYED = (
    nn.Embedding,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._BatchNorm,
)


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser of `optim.name` over two groups: decayed and not decayed.

    Decay makes matrices and filters smaller and so the function smoother. Biases, norms and token
    embeddings are left out: shrinking them only moves or scales features, and a rare token's
    embedding would fade between its gradients. Parameters that ask for no gradient are in neither.

    Returns:
        The optimiser; its first group decays. Fused kernels are used where all parameters are on
        the CPU or CUDA: one pass over the memory instead of ten.
    """
    spared = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, NOT_DECAYED)
        for parameter in module.parameters(recurse=False)
    }
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():  # names a shared matrix once
        if not parameter.requires_grad:
            continue
        is_bias = parameter.ndim < 2 or "bias" in name.rpartition(".")[2]
        (kept if is_bias or id(parameter) in spared else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in decayed + kept) or None
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr, betas=config.betas, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give all groups the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def learning_rate(config: OptimConfig, step: int, progress: float) -> float:
    """The learning rate of a step; `optim.schedule` says which curve.

    cosine        lr (f + (1 - f) (1 + cos pi p) / 2) with f = optim.final_lr
    inverse_sqrt  lr w^0.5 min(s^-0.5, s w^-1.5), FunASR's WarmupLR: highest, lr, at s = w
    constant      lr

    cosine and constant are multiplied by min(1, s / w), so that the first step moves a little too.

    Args:
        config: peak, schedule and warm-up.
        step: updates done before, from 0: s = step + 1.
        progress: p, the part of the run that is done; values outside of [0, 1] are cut.
    """
    s, w = step + 1, max(config.warmup_steps, 1)
    if config.schedule == "inverse_sqrt":
        return config.lr * math.sqrt(w) * min(1 / math.sqrt(s), s / math.sqrt(w) ** 3)
    lr = config.lr * min(1.0, s / w)
    if config.schedule == "cosine":
        p = min(max(progress, 0.0), 1.0)
        low = config.final_lr
        lr *= low + (1 - low) * (1 + math.cos(math.pi * p)) / 2
    return lr


class Average:
    """A copy of a model that follows it slowly: a moving average of its weights and buffers.

    average <- d average + (1 - d) weights after each step, with d = min(decay, (1 + n) / (10 + n))
    after n steps: at the start the average is short, or it would remember the random weights.
    Whole numbers (counters) and booleans are copied as they are.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.copy = copy.deepcopy(model).eval().requires_grad_(False)
        """The averaged model, in evaluation mode: validated and shipped."""
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Follow the model after one of its steps."""
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        mine, theirs = self.copy.state_dict(), model.state_dict()
        floats = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in floats], [theirs[n] for n in floats], weight)
        for name in mine.keys() - set(floats):
            mine[name].copy_(theirs[name])

    def state_dict(self) -> dict[str, Any]:
        """Weights and counter, for a checkpoint."""
        return {"steps": self.steps, "weights": self.copy.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave.

        Raises:
            AsrError: the weights are another model's, or the state is none.
        """
        try:
            self.copy.load_state_dict(state["weights"])
            self.steps = int(state["steps"])
        except (KeyError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise AsrError(
                f"the averaged weights do not fit the model ({reason}); resume with the "
                "configuration that the checkpoint was made with."
            ) from None
