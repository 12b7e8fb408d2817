"""`training.memory_budget`: a training that takes more than it may goes on in smaller pieces.

A GPU's allocator is told the limit and refuses more, which is met like any other shortage. The
memory of a process has no such limit, so there each step is watched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from maquette.device import Device
from maquette.device.memory import PeakMemory, memory_budget


class Budget:
    """The bytes that a training may take."""

    def __init__(self, device: Device, gib: float | None) -> None:
        """Take the limit of a recipe; None is none.

        Raises:
            UsageError: more than there is.
        """
        self.bytes = None if gib is None else memory_budget(device, gib)
        self.device = device
        if self.bytes is not None:
            _tell_allocator(device, self.bytes)

    @contextmanager
    def watch(self) -> Iterator[list[int]]:
        """Give a list that holds, after the block, the bytes it took if those were too many."""
        excess: list[int] = []
        if self.bytes is None or self.device.name == "cuda":
            yield excess
            return
        with PeakMemory(self.device) as peak:
            yield excess
        if peak.bytes > self.bytes:
            excess.append(peak.bytes)


def _tell_allocator(device: Device, limit: int) -> None:
    import torch

    if device.name == "cuda":
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / whole))
    elif device.name == "mps":
        recommended = torch.mps.recommended_max_memory()
        torch.mps.set_per_process_memory_fraction(float(min(2.0, limit / recommended)))
