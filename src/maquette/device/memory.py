"""Memory: what a training may take, what it takes, its peak, and running out of it.

Every number is bytes. On the CPU they are of this process (resident set size), on CUDA of the
tensors of this process, on MPS of the driver's allocations for it.

torch is imported inside the functions, so importing this module costs nothing.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from pathlib import Path
from typing import ClassVar, Self

from maquette.device import apple
from maquette.device.choose import Device
from maquette.errors import UsageError

GIB = 2**30

SAMPLE_SECONDS = 0.01
"""How often `PeakMemory` looks where the device keeps no peak of its own."""

OUT_OF_MEMORY_TEXTS = (
    "out of memory",  # CUDA, MPS
    "can't allocate memory",  # the CPU's allocator
    "not enough memory",  # the CPU's allocator on Windows and in newer versions
    "CUBLAS_STATUS_ALLOC_FAILED",  # CUDA's libraries
    "CUDNN_STATUS_ALLOC_FAILED",
)


def memory_budget(device: Device, gib: float | None = None) -> int:
    """Return how much a training on `device` may take in all, what it already holds included.

    CUDA: what is free on the card or reserved by this process. MPS: the rule for unified memory
    (`apple.memory_budget`). CPU: what this process holds and what it may still get, within its
    container's limit.

    Args:
        device: where the training runs.
        gib: the recipe's training.memory_budget, a cap; None: none.
    Raises:
        UsageError: `gib` is not above zero, or more than there is.
    """
    there = _most_memory(device)
    if gib is None:
        return there
    if not gib > 0:
        raise UsageError(f"training.memory_budget is {gib:g} GiB, expected more than 0.")
    if gib * GIB > there:
        # Rounded down, so that the value suggested is one that fits.
        fits = int(there / GIB * 10) / 10
        raise UsageError(
            f"training.memory_budget is {gib:g} GiB, but the {device.name} has {fits:g} GiB for "
            f"this process at present; use training.memory_budget={fits:g} or less, or remove it."
        )
    return int(gib * GIB)


def used_memory(device: Device) -> int:
    """Return what this process holds on `device` now."""
    if device.name == "cuda":
        import torch

        return int(torch.cuda.memory_allocated())
    if device.name == "mps":
        import torch

        return int(torch.mps.driver_allocated_memory())
    return _resident_memory()


class PeakMemory:
    """The most memory in use inside a `with` block.

        with PeakMemory(device) as peak:
            step()
        print(peak.bytes)

    CUDA keeps the peak itself. Elsewhere a thread looks every 10 ms, so a peak shorter than that
    may be missed. (A process's own high-water mark, ru_maxrss, also counts what came before.)
    Blocks may lie inside each other.
    """

    _on_cuda: ClassVar[list[PeakMemory]] = []
    """Open blocks, which share CUDA's one counter."""

    def __init__(self, device: Device) -> None:
        self.bytes = 0
        self._device = device
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.bytes = used_memory(self._device)
        if self._device.name == "cuda":
            import torch

            self._note_cuda_peak()  # for the blocks around this one, before it is forgotten
            torch.cuda.reset_peak_memory_stats()
            self._on_cuda.append(self)
            return self
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name="peak memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            self._note_cuda_peak()
            self._on_cuda.remove(self)
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        self._look()

    def _note_cuda_peak(self) -> None:
        import torch

        for block in self._on_cuda:
            block.bytes = max(block.bytes, int(torch.cuda.max_memory_allocated()))

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        self.bytes = max(self.bytes, used_memory(self._device))


def empty_cache(device: Device) -> None:
    """Give back what nobody uses: garbage, and what the allocators keep for later."""
    gc.collect()
    if device.name == "cuda":
        import torch

        torch.cuda.empty_cache()
    elif device.name == "mps":
        import torch

        torch.mps.empty_cache()
    else:
        _trim_heap()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of a device, or of the machine, is used up."""
    if isinstance(error, MemoryError):
        return True
    # torch.OutOfMemoryError is a RuntimeError too, and its text says so.
    return isinstance(error, RuntimeError) and any(
        text in str(error) for text in OUT_OF_MEMORY_TEXTS
    )


def available_memory() -> int:
    """Bytes this process may still take without pushing anything out."""
    import psutil

    return int(min(psutil.virtual_memory().available, _container_memory()))


def _most_memory(device: Device) -> int:
    if device.name == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info()
        return int(free + torch.cuda.memory_reserved())
    if device.name == "mps":
        import torch

        chip = apple.read_chip()
        return apple.memory_budget(
            recommended=int(torch.mps.recommended_max_memory()),
            available=available_memory(),
            allocated=int(torch.mps.driver_allocated_memory()),
            total=chip.memory if chip else 0,
        )
    return available_memory() + _resident_memory()


def _resident_memory() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _container_memory() -> float:
    """What a container's own limit (cgroup v2, then v1) leaves; infinite where there is none."""
    return min(
        _left_in(Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
        _left_in(Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
    )


def _left_in(folder: Path, limit_file: str, usage_file: str) -> float:
    try:
        limit = int((folder / limit_file).read_text())
        usage = int((folder / usage_file).read_text())
    except (OSError, ValueError):  # no such file, or the word "max"
        return float("inf")
    return max(limit - (usage - _page_cache(folder)), 0)


def _page_cache(folder: Path) -> int:
    """Bytes of files read long ago, which count as used but are dropped when memory is short."""
    try:
        with (folder / "memory.stat").open(encoding="ascii") as file:
            facts = dict(line.split() for line in file)
        return int(facts.get("total_inactive_file", facts.get("inactive_file", 0)))
    except (OSError, ValueError):
        return 0


def _trim_heap() -> None:
    """Return freed memory to the system, so that the resident size says what is in use."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
        if trim is not None:
            trim(0)
