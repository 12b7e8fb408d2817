"""Looks at what torch does in a guarded program: optimiser steps, and numbers that are not finite.

guard.py loads it by its path, in the project's interpreter, once the program has imported torch.
Standard library only, and the torch that is handed in.

Each optimiser step looks at every gradient before it is applied, and `backward()` at the value it
begins from, until something is not finite. Both wait for the device once. Optimisers that do not
come from `torch.optim.Optimizer`, and steps that a GradScaler skips, are not seen.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import sys
import time
from itertools import islice
from typing import Any

FIRST = 8
"""How many bad numbers are listed; a thousand say no more."""

SECONDS = 1.0
"""How often the number of steps is reported, for the case that the program is killed."""


def observe(torch: Any, guard: Any) -> None:
    """Look at what `torch` does from now on.

    Args:
        guard: `tell(**facts)` adds to the report, `check(event, path)` refuses a path.
    """
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    watch = Watch(torch, guard)
    register_optimizer_step_pre_hook(watch.before_step)
    torch.autograd.backward = watch.watched_backward(torch.autograd.backward)
    torch.save = torch.serialization.save = watched_save(torch.save, guard)
    atexit.register(watch.tell)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=watch.forget)


class Watch:
    """Counts the steps of this process and looks at their gradients."""

    def __init__(self, torch: Any, guard: Any) -> None:
        self.torch = torch
        self.guard = guard
        self.steps = 0
        self.told = time.monotonic()
        self.bad_gradient = False
        self.bad_losses = 0

    def forget(self) -> None:
        """A forked child counts its own steps."""
        self.steps = 0

    def tell(self) -> None:
        """Report how far it came, and the memory of its tensors on CUDA devices."""
        self.told = time.monotonic()
        cuda, peak = self.torch.cuda, None
        if cuda.is_initialized():
            peak = sum(cuda.max_memory_allocated(device) for device in range(cuda.device_count()))
        self.guard.tell(steps=self.steps, gpu_peak_bytes=peak)

    def before_step(self, optimizer: Any, *_: Any) -> None:
        """Count a step, and look at its gradients unless an earlier one was bad."""
        self.steps += 1
        if not self.bad_gradient and (bad := self.not_finite(optimizer)):
            self.bad_gradient = True
            names = self.names(optimizer)
            for parameter in bad:
                what = f"{self.what(parameter.grad)} in {names[id(parameter)]}"
                self.guard.tell(bad_gradient=f"step {self.steps}: {what}")
        if time.monotonic() - self.told > SECONDS:
            self.tell()

    def watched_backward(self, backward: Any) -> Any:
        """Return `torch.autograd.backward` that looks at the values it begins from."""

        @functools.wraps(backward)
        def watched(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            for tensor in [tensors] if isinstance(tensors, self.torch.Tensor) else tensors:
                if self.bad_losses < FIRST and not bool(self.torch.isfinite(tensor).all()):
                    self.bad_losses += 1
                    self.guard.tell(bad_loss=f"step {self.steps + 1}: {self.what(tensor)}")
            return backward(tensors, *args, **kwargs)

        return watched

    def not_finite(self, optimizer: Any) -> list[Any]:
        """Return the first few parameters whose gradients are not finite.

        A finite sum has finite parts, and is ten times faster than a look at each of them; a sum
        that is not may have overflowed, so its parts are looked at. All sums are gathered before
        they are read, so that the device is waited for once.
        """
        parameters = [
            parameter
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if not parameters:
            return []
        isfinite = self.torch.isfinite
        flags = [isfinite(_values(parameter.grad).sum()) for parameter in parameters]
        finite = self.torch.stack([flag.to(flags[0].device) for flag in flags]).tolist()
        suspects = (found for found, good in zip(parameters, finite, strict=True) if not good)
        bad = (found for found in suspects if not bool(isfinite(_values(found.grad)).all()))
        return list(islice(bad, FIRST))

    def what(self, tensor: Any) -> str:
        """Say how a tensor is not finite."""
        return "nan" if bool(self.torch.isnan(_values(tensor)).any()) else "inf"

    def names(self, optimizer: Any) -> dict[int, str]:
        """Return id -> name of an optimiser's parameters: where it holds them, or the longest
        name that a module has for them, which is that of the outermost."""
        names = {
            id(parameter): f"parameter {index} of group {number}"
            for number, group in enumerate(optimizer.param_groups)
            for index, parameter in enumerate(group["params"])
        }
        depth = dict.fromkeys(names, -1)
        for thing in gc.get_objects():
            # A constructor that has not come so far has no parameters to name.
            if issubclass(type(thing), self.torch.nn.Module) and "_modules" in vars(thing):
                for name, parameter in thing.named_parameters(remove_duplicate=False):
                    if name.count(".") > depth.get(id(parameter), sys.maxsize):
                        depth[id(parameter)], names[id(parameter)] = name.count("."), name
        return names


def watched_save(save: Any, guard: Any) -> Any:
    """Return `torch.save` that asks the guard first: it writes in C++, where no hook looks."""

    @functools.wraps(save)
    def watched(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(f, str | os.PathLike):
            guard.check("torch.save", os.fspath(f))
        return save(obj, f, *args, **kwargs)

    return watched


def _values(tensor: Any) -> Any:
    return tensor.coalesce().values() if tensor.is_sparse else tensor
