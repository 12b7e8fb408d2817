"""Watches a step for NaN and infinity, and names the module where they began.

Watching costs one comparison a step. Only when it trips is the step run again with a hook on every
module, which says where the first value that is not finite came from.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unet_seg.errors import SegError


class NotFinite(SegError):
    """The loss or a gradient became NaN or infinite; training stopped before the update."""


def first_bad_output(model: nn.Module, run: Callable[[], Any]) -> str | None:
    """Run a forward pass and name the first module whose output is not finite.

    Args:
        model: the network that `run` calls.
        run: runs the forward pass, such as `lambda: model(image)`.
    Returns:
        The module's dotted name and class, or None if all outputs are finite. A module is only
        named if its inputs were finite; if the very first input is not, the answer says "input".
    """
    found: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if found or _all_finite(output):
                return
            where = f"{name} ({type(module).__name__})" if name else type(module).__name__
            found.append(where if _all_finite(inputs) else f"the input of {where}")

        return hook

    # Inner modules finish before the modules that hold them, so the first to report is the culprit.
    handles = [m.register_forward_hook(look(name)) for name, m in model.named_modules()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def first_bad_gradient(model: nn.Module, run: Callable[[], Tensor]) -> str | None:
    """Run forward and backward and name the first module the backward pass breaks in.

    Args:
        model: the network; its gradients are overwritten.
        run: runs the forward pass and returns the scalar loss.
    Returns:
        The first leaf module, in the order of the backward pass, that got or made a gradient that
        is not finite, or "the loss" if its own gradient already is not; None if all are finite.
    """
    model.zero_grad(set_to_none=True)
    visited: list[tuple[str, Tensor]] = []

    def remember(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor) and output.requires_grad:
                where = f"{name} ({type(module).__name__})"
                remembered = functools.partial(_append, visited, where)
                output.register_hook(remembered)  # type: ignore[no-untyped-call]

        return hook

    leaves = [(n, m) for n, m in model.named_modules() if not any(m.children())]
    handles = [m.register_forward_hook(remember(n, m)) for n, m in leaves]
    try:
        run().backward()  # type: ignore[no-untyped-call]
    finally:
        for handle in handles:
            handle.remove()
    # A gradient arrives at a module's output before it leaves through its input, so the module that
    # broke it is the one visited just before the first bad one; its own parameters may show it too.
    for index, (where, gradient) in enumerate(visited):
        if not _all_finite(gradient):
            return "the loss" if index == 0 else f"{visited[index - 1][0]}, before {where}"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not _all_finite(parameter.grad):
            return f"the parameter {name}"
    return None


def check_step(
    model: nn.Module,
    *,
    loss: float,
    grad_norm: float,
    step: int,
    names: tuple[str, ...],
    run: Callable[[], Tensor],
    lr: float,
    precision: str,
) -> None:
    """Raise NotFinite if the loss or the gradient norm is NaN or infinite.

    `run` repeats the forward pass of the step and returns the loss; it is called only then.
    """
    if _is_finite(loss) and _is_finite(grad_norm):
        return
    with torch.no_grad():
        where = first_bad_output(model, run)
    if where is not None:
        what = f"the first output that is not finite comes from {where}"
    elif not _is_finite(loss):
        what = "all outputs are finite, so the loss function made it"
    else:
        what = f"the gradient broke at {first_bad_gradient(model, run) or 'an unknown place'}"
    subject = f"the loss is {loss}" if not _is_finite(loss) else f"the gradient norm is {grad_norm}"
    cure = "precision=bf16 or fp32" if precision == "fp16" else f"optim.lr below {lr:g}"
    raise NotFinite(
        f"step {step + 1}: {subject}; {what}. Images of the step: {', '.join(names[:8])}. The "
        f"weights were not updated. Try {cure}, a smaller optim.grad_clip, or look at these images."
    )


def _append(visited: list[tuple[str, Tensor]], where: str, gradient: Tensor) -> None:
    visited.append((where, gradient))


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")  # False for NaN too


def _all_finite(values: Any) -> bool:
    if isinstance(values, Tensor):
        return not values.is_floating_point() or bool(torch.isfinite(values).all())
    if isinstance(values, (list, tuple)):
        return all(_all_finite(value) for value in values)
    return True
