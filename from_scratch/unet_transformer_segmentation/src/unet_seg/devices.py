"""Which device a run uses, its peak memory, and the random states of all devices."""

from __future__ import annotations

import sys
from typing import Any

import torch

from unet_seg.errors import SegError


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name: auto takes CUDA, else Apple's MPS, else the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SegError(f"device={name!r} is unknown; use auto, cpu, cuda, cuda:1 or mps.") from None
    absent = (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if absent or device.type not in ("cpu", "cuda", "mps"):
        raise SegError(f"device={name!r} is not there on this machine; use auto or cpu.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise SegError(f"device={name!r} is not there; the last CUDA device is cuda:{last}.")
    return device


def random_state() -> dict[str, Any]:
    """The state of PyTorch's generators; nothing else in this package draws from a global one."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` returned; states of devices that are not here are left out."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory in MiB: of the allocator on CUDA, else of the whole process (0 on Windows)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def explain_out_of_memory(error: BaseException) -> str | None:
    """What to do about an error if it says that memory ran out, else None.

    CUDA, MPS, the CPU and NumPy each say it in their own way, and none of them what would help. Of
    a worker process that the system has killed, only its end is known.
    """
    text = str(error).split("\n", 1)[0]
    if text.startswith("DataLoader worker") and ("killed" in text or "exited" in text):
        return (
            f"{text} A process that loads images has died, most often because memory ran out. Use "
            "a smaller train.num_workers; 0 loads in the main process."
        )
    ran_out = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        sign in text for sign in ("DefaultCPUAllocator", "out of memory")
    )
    if not ran_out:
        return None
    return (
        f"out of memory ({text or type(error).__name__}). To train with less: train.accumulate=2 "
        "or more computes a batch in parts with the same gradient; a smaller train.batch_size or "
        "data.augment.crop. To segment or evaluate a large image: --window 256."
    )
