"""Update rules: Adam, AdamW, SGD and RMSprop over all parameters of a model at once.

`Optimizer.step` is all the trainer calls. The rules are written out below on lists of tensors;
where PyTorch has one fused kernel for the same formula (Adam and SGD, CPU and CUDA), `step` calls
it directly. `torch.optim` reaches the same kernel through bookkeeping in Python (hooks, parameter
groups, state by tensor), the same for every model; where a model is small, so is the rest of its
step. The tests hold rules, kernels and `torch.optim` equal.

Parameters may learn at different rates: each has a factor on the common rate, 1 by default, and
those of one factor are a group. A rule or kernel runs once per group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

BETA_1, BETA_2 = 0.9, 0.999
EPSILON = 1e-8
RMSPROP_DECAY = 0.99

Tensors = list[Tensor]
Slots = dict[str, Tensors]
"""What a rule remembers: for each name, one tensor per parameter."""


def adam(
    params: Tensors, grads: Tensors, slots: Slots, *, step: int, lr: float, **_: float
) -> None:
    """Adam (Kingma and Ba 2015, algorithm 1); `step` counts from 1."""
    first, second = slots["first_moment"], slots["second_moment"]
    torch._foreach_lerp_(first, grads, 1 - BETA_1)
    torch._foreach_mul_(second, BETA_2)
    torch._foreach_addcmul_(second, grads, grads, 1 - BETA_2)
    deviations = torch._foreach_sqrt(second)
    torch._foreach_div_(deviations, math.sqrt(1 - BETA_2**step))
    torch._foreach_add_(deviations, EPSILON)
    torch._foreach_addcdiv_(params, first, deviations, -lr / (1 - BETA_1**step))


def sgd(
    params: Tensors, grads: Tensors, slots: Slots, *, step: int, lr: float, momentum: float
) -> None:
    """SGD with heavy-ball momentum: v = momentum v + g, θ = θ - lr v (Sutskever et al. 2013)."""
    del step
    velocity = slots["velocity"]
    torch._foreach_mul_(velocity, momentum)
    torch._foreach_add_(velocity, grads)
    torch._foreach_add_(params, velocity, alpha=-lr)


def rmsprop(
    params: Tensors, grads: Tensors, slots: Slots, *, step: int, lr: float, momentum: float
) -> None:
    """RMSprop (Tieleman and Hinton 2012, lecture 6.5), momentum on the scaled gradient."""
    del step
    second, velocity = slots["second_moment"], slots["velocity"]
    torch._foreach_mul_(second, RMSPROP_DECAY)
    torch._foreach_addcmul_(second, grads, grads, 1 - RMSPROP_DECAY)
    deviations = torch._foreach_sqrt(second)
    torch._foreach_add_(deviations, EPSILON)
    torch._foreach_mul_(velocity, momentum)
    torch._foreach_addcdiv_(velocity, grads, deviations)
    torch._foreach_add_(params, velocity, alpha=-lr)


RULES: Mapping[str, tuple[Callable[..., None], Sequence[str]]] = {
    "adam": (adam, ("first_moment", "second_moment")),
    "adamw": (adam, ("first_moment", "second_moment")),
    "sgd": (sgd, ("velocity",)),
    "rmsprop": (rmsprop, ("second_moment", "velocity")),
}
"""Name in a recipe -> rule and its slots."""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """The parameters that learn at one rate: views of what the optimiser holds of all."""

    factor: float
    """Times the common rate."""
    indices: list[int]
    """Their places among all parameters."""
    values: Tensors
    slots: Slots
    decayed: list[int]
    """Places, within the group, of those that weight decay shrinks."""
    decayed_values: Tensors


class Optimizer:
    """Applies one rule to the trainable parameters of a model."""

    def __init__(
        self,
        model: nn.Module,
        *,
        name: Literal["adam", "adamw", "sgd", "rmsprop"],
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        """Make empty slots.

        Args:
            weight_decay: λ of `decayed_parameters`. Decoupled (θ shrinks by lr·λ, Loshchilov and
                Hutter 2019) for all rules but sgd, whose gradient gains λθ.
            momentum: sgd and rmsprop.
            rates: parameter name -> factor on the learning rate; 1 where a name is absent.
                Those of frozen parameters are not used.
        Raises:
            ValueError: a rate belongs to no parameter of the model, or is not above 0.
        """
        self.rule, slot_names = RULES[name]
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.steps = 0
        trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.parameters = list(trainable.values())
        self._names = list(trainable)
        self._values = [parameter.detach() for parameter in self.parameters]
        self._slots: Slots = {
            slot: [torch.zeros_like(value) for value in self._values] for slot in slot_names
        }
        factors = _checked_rates(model, rates or {})
        self._groups = self._make_groups(factors, decayed_parameters(model))
        self._fused = bool(self._values) and self._values[0].device.type in ("cpu", "cuda")
        self._step_tensor = torch.zeros((), device=self._values[0].device if self._values else None)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def gradients(self) -> Tensors:
        """Return the gradients; a parameter that had no part in the loss has gradient 0."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [p.grad for p in self.parameters if p.grad is not None]

    def step(self, grads: Tensors, learning_rate: float) -> None:
        """Update every parameter in place; `grads` are as `gradients` returned them."""
        self.steps += 1
        for group in self._groups:
            mine = grads if len(self._groups) == 1 else [grads[i] for i in group.indices]
            self._update(group, mine, learning_rate * group.factor)

    def tensors(self) -> dict[str, Tensor]:
        """Everything remembered, as "slot/parameter name"."""
        return {
            f"{slot}/{name}": tensor
            for slot, tensors in self._slots.items()
            for name, tensor in zip(self._names, tensors, strict=True)
        }

    def load(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Continue from what `tensors` and `steps` held."""
        self.steps = steps
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    def _make_groups(self, factors: Mapping[str, float], decayed: set[str]) -> list[_Group]:
        """One group for each factor that occurs, in the order in which they do."""
        members: dict[float, list[int]] = {}
        for i, name in enumerate(self._names):
            members.setdefault(factors.get(name, 1.0), []).append(i)
        groups = []
        for factor, indices in members.items():
            values = [self._values[i] for i in indices]
            chosen = [place for place, i in enumerate(indices) if self._names[i] in decayed]
            groups.append(
                _Group(
                    factor=factor,
                    indices=indices,
                    values=values,
                    slots={s: [all_[i] for i in indices] for s, all_ in self._slots.items()},
                    decayed=chosen,
                    decayed_values=[values[place] for place in chosen],
                )
            )
        return groups

    def _update(self, group: _Group, grads: Tensors, learning_rate: float) -> None:
        self._decay(group, grads, learning_rate)
        if self._fused and self.rule is adam:
            self._fused_adam(group, grads, learning_rate)
        elif self._fused and self.rule is sgd:
            self._fused_sgd(group, grads, learning_rate)
        else:
            self.rule(
                group.values,
                grads,
                group.slots,
                step=self.steps,
                lr=learning_rate,
                momentum=self.momentum,
            )

    def _decay(self, group: _Group, grads: Tensors, learning_rate: float) -> None:
        if not self.weight_decay or not group.decayed:
            return
        if self.rule is sgd:
            chosen = [grads[i] for i in group.decayed]
            torch._foreach_add_(chosen, group.decayed_values, alpha=self.weight_decay)
        else:
            torch._foreach_mul_(group.decayed_values, 1 - learning_rate * self.weight_decay)

    def _fused_adam(self, group: _Group, grads: Tensors, learning_rate: float) -> None:
        torch._fused_adam_(
            group.values,
            grads,
            group.slots["first_moment"],
            group.slots["second_moment"],
            [],
            [self._step_tensor.fill_(self.steps)] * len(grads),
            lr=learning_rate,
            beta1=BETA_1,
            beta2=BETA_2,
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def _fused_sgd(self, group: _Group, grads: Tensors, learning_rate: float) -> None:
        torch._fused_sgd_(
            group.values,
            grads,
            group.slots["velocity"] if self.momentum else [],
            weight_decay=0.0,
            momentum=self.momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )


def _checked_rates(model: nn.Module, rates: Mapping[str, float]) -> Mapping[str, float]:
    unknown = sorted(rates.keys() - {name for name, _ in model.named_parameters()})
    if unknown:
        raise ValueError(f"rates name {unknown[0]!r}, which is no parameter of the model")
    for name, rate in rates.items():
        if not 0 < rate < math.inf:
            raise ValueError(f"the rate of {name!r} is {rate:g}; expected a finite factor above 0")
    return rates


def decayed_parameters(model: nn.Module) -> set[str]:
    """Return the names of the parameters that weight decay may shrink.

    These are the weights of linear and convolution layers, whether a layer holds them or a module
    holds the matrix itself. Biases have one axis, as have the scales of most norms; a temperature
    has none. The rows of an embedding are looked up one at a time, and decay would shrink the rare
    ones that no sample asked for; so a matrix whose own name ends in "embedding" (a table of
    positions, say) is left alone as an `nn.Embedding` is.
    """
    undecayed = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)
    chosen = set()
    for module_name, module in model.named_modules():
        if isinstance(module, undecayed):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1 and not name.endswith("embedding"):
                chosen.add(f"{module_name}.{name}" if module_name else name)
    return chosen


def global_norm(tensors: Tensors) -> Tensor:
    """Return the Euclidean norm of all tensors taken as one vector, 0-d float32."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)).float())
    return norm


def clip_(grads: Tensors, norm: Tensor, largest: float) -> None:
    """Scale gradients of global norm `norm` down, in place, to one of at most `largest`.

    Pascanu et al. 2013, algorithm 1. Nothing waits for the device: within the limit they are
    multiplied by 1.
    """
    torch._foreach_mul_(grads, (largest / (norm + 1e-6)).clamp(max=1.0))
