"""Watches the steps of a training for NaN and infinity, and says where they began.

Looking at the loss and at the norm of the gradient costs nothing, and no value that is not finite
can hide from both. Only when one of them is not finite is the step repeated with a look at every
module: at its outputs on the way forward, at the gradients of its outputs and inputs on the way
back.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paraformer_asr.errors import AsrError

NAMED = 5
"""Utterances a message lists."""


class NotFinite(AsrError):
    """The loss or the gradient of a step is NaN or infinite; the weights are those before it."""


def check_step(
    model: nn.Module,
    *,
    step: int,
    loss: float,
    grad_norm: float,
    names: Sequence[str],
    repeat: Callable[[], Tensor],
    lr: float,
    precision: str = "fp32",
) -> None:
    """Raise NotFinite unless the loss and the norm of the gradient are finite.

    Call it after the backward pass and before the optimiser's step. In fp16 a norm that is not
    finite is the gradient scaler's business; give grad_norm=0 there.

    Args:
        model: whose modules are searched; its gradients are lost if anything is wrong.
        step: steps done before this one.
        loss, grad_norm: of the step.
        names: utterances of the step.
        repeat: runs the step's forward pass again and returns the loss; called only if needed.
        lr: learning rate of the step, for the advice.
        precision: train.precision, for the advice.
    """
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient norm is {grad_norm}"
    where = find_not_finite(model, repeat) or (
        "a repetition of the step was finite everywhere, so it depends on random numbers (dropout)"
    )
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    advice = (
        "train.precision=bf16 or fp32"
        if precision == "fp16"
        else f"optim.lr={lr / 2:.2g} or a longer optim.warmup_steps"
    )
    raise NotFinite(
        f"step {step + 1}: {what}; {where}. Utterances: {', '.join(names[:NAMED])}{more}. "
        f"The weights were not updated. Try {advice}, or listen to these utterances."
    )


def find_not_finite(model: nn.Module, repeat: Callable[[], Tensor]) -> str | None:
    """Say where in a step the first value that is not finite was made.

    Args:
        model: the network that `repeat` runs.
        repeat: forward pass; returns the scalar loss, whose backward pass is run here.
    Returns:
        A clause such as "the first output that is not finite is that of decoder.norm (LayerNorm)",
        or None if all outputs, gradients and parameters are finite.
    """
    model.zero_grad(set_to_none=True)
    try:
        with _watching(model) as seen:
            loss = repeat()
            if seen.forward is None and bool(torch.isfinite(loss).all()):
                loss.backward()  # type: ignore[no-untyped-call]
        if seen.forward is not None:
            return seen.forward
        if not bool(torch.isfinite(loss).all()):
            return "all modules gave finite outputs, so a loss term made of them is not finite"
        return seen.backward or _bad_parameter(model)
    finally:
        model.zero_grad(set_to_none=True)


class _Passage:
    """A tensor on its way between modules: which one made it and which ones take it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor  # held, or another tensor might get its id
        self.maker: str | None = None
        self.takers: list[str] = []

    def blame(self) -> str:
        """Where its gradient, the sum over all takers, was made."""
        if not self.takers:
            return f"the gradient broke in what is computed from the output of {self.maker}"
        return f"the gradient broke in {' or '.join(self.takers)}"


class _Seen:
    """What the hooks have found: the first finding of each direction is kept."""

    def __init__(self) -> None:
        self.forward: str | None = None
        self.backward: str | None = None
        self.passages: dict[int, _Passage] = {}

    def output(self, where: str, module: nn.Module, inputs: Any, output: Any) -> None:
        """Forward hook of a module; modules inside of it have been here before."""
        if self.forward is None and not _finite(output):
            if _finite(inputs):
                self.forward = f"the first output that is not finite is that of {where}"
            else:
                self.forward = f"the input of {where} is already not finite"
        if any(module.children()):
            return  # gradients are watched where the work is done
        for tensor in _tensors(inputs):
            if tensor.requires_grad:
                self._passage(tensor).takers.append(where)
        for tensor in _tensors(output):
            if tensor.requires_grad:
                self._passage(tensor).maker = where

    def _passage(self, tensor: Tensor) -> _Passage:
        passage = self.passages.get(id(tensor))
        if passage is None:
            passage = self.passages[id(tensor)] = _Passage(tensor)
            hook = functools.partial(self._gradient, passage)
            tensor.register_hook(hook)  # type: ignore[no-untyped-call]
        return passage

    def _gradient(self, passage: _Passage, gradient: Tensor) -> None:
        if self.backward is None and not _finite(gradient):
            self.backward = passage.blame()


@contextmanager
def _watching(model: nn.Module) -> Iterator[_Seen]:
    seen = _Seen()
    handles = []
    for name, module in model.named_modules():
        kind = type(module).__name__
        hook = functools.partial(seen.output, f"{name} ({kind})" if name else kind)
        handles.append(module.register_forward_hook(hook))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _bad_parameter(model: nn.Module) -> str | None:
    for name, parameter in model.named_parameters():
        if not _finite(parameter.grad):
            return f"the gradient of the parameter {name} is not finite"
    return None


def _finite(values: Any) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(values))


def _tensors(values: Any) -> Iterator[Tensor]:
    """The float tensors in nested outputs: tuples, lists, dicts and dataclasses."""
    if isinstance(values, Tensor):
        if values.is_floating_point():
            yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif is_dataclass(values) and not isinstance(values, type):
        yield from _tensors([getattr(values, field.name) for field in fields(values)])
