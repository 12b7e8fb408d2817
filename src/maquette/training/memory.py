"""How many samples fit in memory: measured with real training steps before the training.

`find_batch_size` is the search, `untouched` undoes what its steps did, and `release_memory` gives
back what a step that failed still holds. The memory of a step grows with its samples b as

    M(b) = M_0 + k b,

M_0 being weights, gradients and the optimiser's state, k what the backward pass keeps of a sample.
Two steps give both; the rest of the search checks that the line holds further up.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from maquette.device import Device
from maquette.device.memory import empty_cache, is_out_of_memory
from maquette.errors import RunError
from maquette.training.optim import Optimizer
from maquette.training.seeding import random_state, restore_random_state

SHARE = 0.85
"""Of the budget is what a batch may take: memory is lost between tensors, and captions differ."""
SMALLEST_GROWTH = 1 / 64
"""Of the free room: less is noise (the process's memory grows in steps of its own)."""
LARGEST_JUMP = 8
"""Times as many samples; by this the growth above stays in the room even if it is quadratic."""
WORTHWHILE = 1.1
"""Times as many samples: fewer more are not worth another step of the search."""
MULTIPLE = 8
"""Larger batches are a multiple of this, which matrix kernels prefer."""


class Peak(AbstractContextManager[Any], Protocol):
    """Measures the most memory in use inside its block."""

    @property
    def bytes(self) -> int:
        """All that was in use at the peak, not only what the block added."""
        ...


@dataclass(frozen=True)
class Probe:
    """One step that was tried."""

    batch_size: int
    """Samples at once."""
    bytes: int
    """Memory in use at the step's peak."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the search found."""

    batch_size: int
    """Samples at once: a step with so many, or a few more, was seen to fit."""
    probes: tuple[Probe, ...]
    """The steps that fitted, from small to large."""
    lines: tuple[str, ...]
    """The same for people."""


def find_batch_size(
    try_step: Callable[[int], None],
    *,
    budget: int,
    peak: Callable[[], Peak],
    largest: int,
    smallest: int = 1,
    careful: bool = True,
    release: Callable[[], object] = gc.collect,
) -> Found:
    """Return how many samples a training step can take at once.

    A step with the smallest batch and one with twice as many give M_0 and k; the batch that the
    line puts at 0.85 of the budget is tried, and halved until a step fits. Every step is a real
    one and changes the model: call this inside `untouched`.

    Args:
        try_step: forward, backward and update with this many samples of the largest shape.
        budget: bytes that may be in use, those in use already included.
        peak: makes a new measure of what is in use, for example `lambda: PeakMemory(device)`.
        largest: never more samples than this (the effective batch, or the data).
        smallest: fewest samples of a step: 2 for a network with batch normalisation.
        careful: for memory whose exhaustion kills the process instead of raising (the CPU's, and
            an Apple GPU's): grow only so far at a time that memory quadratic in b, as a matrix of
            all pairs is, would still be in the budget. The steps together then cost about three
            times the last of them.
        release: called after each step.
    Raises:
        RunError: not even the smallest batch fits.
    """
    assert 1 <= smallest <= largest
    with (at_rest := peak()):
        pass
    idle = at_rest.bytes
    # Libraries and the optimiser allocate what they keep in their first step: measure the second.
    taken = _measure(try_step, smallest, peak, release)
    if taken is not None:
        taken = _measure(try_step, smallest, peak, release)
    if taken is None or taken > budget:
        raise RunError(_does_not_fit(smallest, taken, budget))

    probes, lines, ceiling = [Probe(smallest, taken)], [_line(smallest, taken)], largest
    while True:
        size = min(_propose(probes, idle=idle, budget=budget, careful=careful), ceiling)
        last = probes[-1].batch_size
        if size <= last or size < WORTHWHILE * _rounded(last):
            break
        taken = _measure(try_step, size, peak, release)
        lines.append(_line(size, taken))
        if taken is not None and taken <= budget:
            probes.append(Probe(size, taken))
        else:
            ceiling = size // 2
    best = probes[-1].batch_size
    found = best if best == largest else _rounded(best)
    enough = "; more are not needed" if best == largest else ""
    lines.append(
        f"{_samples(found)} at once fit in the {_size(budget)} that the training may take{enough}"
    )
    return Found(batch_size=found, probes=tuple(probes), lines=tuple(lines))


def _measure(
    try_step: Callable[[int], None],
    batch_size: int,
    peak: Callable[[], Peak],
    release: Callable[[], object],
) -> int | None:
    """Return the bytes in use at the peak of a step; None if the memory did not hold it."""
    watch = peak()
    fitted = True
    try:
        with watch:
            try_step(batch_size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        fitted = False
    # Only here, outside the handler, are the tensors free that the traceback held.
    release()
    return watch.bytes if fitted else None


def _propose(probes: Sequence[Probe], *, idle: int, budget: int, careful: bool) -> int:
    """Return the batch to try next; one that is not larger than the last ends the search."""
    last, least = probes[-1], SMALLEST_GROWTH * (budget - idle)
    if len(probes) == 1:
        doubled = idle + 2 * (last.bytes - idle)
        return 2 * last.batch_size if doubled <= budget or not careful else last.batch_size
    fixed = min(max(idle, _line_through(*probes[:2])[0]), probes[0].bytes)
    grown = last.bytes - fixed
    base, slope = _line_through(*probes[-2:])
    wanted: float = LARGEST_JUMP * last.batch_size
    if grown >= least and slope > 0:
        wanted = (SHARE * budget - base) / slope
    size = _rounded(math.floor(wanted))
    if careful:
        room = (budget - fixed) / max(grown, least)
        size = min(size, math.floor(last.batch_size * math.sqrt(room)))
    return size


def _rounded(size: int) -> int:
    return size if size < MULTIPLE else size // MULTIPLE * MULTIPLE


def _line_through(one: Probe, other: Probe) -> tuple[float, float]:
    """Return M_0 and k of the line through two probes."""
    slope = (other.bytes - one.bytes) / (other.batch_size - one.batch_size)
    return one.bytes - slope * one.batch_size, slope


def _line(batch_size: int, taken: int | None) -> str:
    result = "out of memory" if taken is None else f"{_size(taken)} in use"
    return f"a step with {_samples(batch_size)}: {result}"


def _samples(number: int) -> str:
    return "1 sample" if number == 1 else f"{number} samples"


def _size(number: float) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def _does_not_fit(smallest: int, taken: int | None, budget: int) -> str:
    what = "runs out of memory" if taken is None else f"has {_size(taken)} in use"
    return (
        f"training.batch_size is auto, and a step with {_samples(smallest)} already {what}; the "
        f"training may take {_size(budget)}. Allow more with training.memory_budget, or use a "
        "smaller image size or model; image_text: "
        "model.architecture.activation_checkpointing=true needs less."
    )


@contextmanager
def untouched(model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Undo, bit for bit, what the steps inside the block do to a training.

    Put back are trainable weights, buffers, training modes, the optimiser's state and every random
    generator; gradients are forgotten. Until then copies lie in the memory of the host, where on
    the CPU they count as in use.
    """
    modes = {module: module.training for module in model.modules()}
    generators = random_state()
    steps = optimizer.steps
    copies = {name: tensor.to("cpu", copy=True) for name, tensor in _changing(model, optimizer)}
    try:
        yield
    finally:
        optimizer.zero_grad()
        optimizer.steps = steps
        with torch.no_grad():
            for name, tensor in _changing(model, optimizer):
                tensor.copy_(copies[name])
        for module, mode in modes.items():
            module.training = mode
        restore_random_state(*generators)


def _changing(model: nn.Module, optimizer: Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor that a training step writes."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield f"parameter/{name}", parameter.detach()
    for name, buffer in model.named_buffers():
        yield f"buffer/{name}", buffer
    for name, tensor in optimizer.tensors().items():
        yield f"optimizer/{name}", tensor


def release_memory(device: torch.device) -> None:
    """Give back what nothing holds any more, after a step that ran out of memory.

    Call it outside the `except` block: until that is left, the traceback holds the step's tensors.
    """
    empty_cache(Device(name=device.type, precision="fp32"))  # type: ignore[arg-type]
