"""What this machine is, and what follows from it: device, precision, threads.

`choose_device` answers for a recipe; `describe` is what `maquette doctor` prints and every run
records. torch is imported inside the functions, so importing this module costs nothing.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from maquette.errors import UsageError

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where tensors live and in which precision the forward pass runs."""

    name: Literal["cpu", "cuda", "mps"]
    precision: Precision

    @property
    def torch_device(self) -> torch.device:
        import torch

        return torch.device(self.name)


def choose_device(wanted: str = "auto", precision: str = "auto") -> Device:
    """Pick the device and precision a recipe asks for.

    Args:
        wanted: auto, cpu, cuda or mps; auto takes cuda, then mps, then cpu.
        precision: auto, fp32, bf16 or fp16; auto is bf16 on CUDA cards that have it, else fp32.
    Raises:
        UsageError: the device is not present, or cannot compute in the wanted precision.
    """
    present = _present_devices()
    name = present[0] if wanted == "auto" else wanted
    if name not in present:
        raise UsageError(
            f"device is {wanted!r}, but this machine has {', '.join(present)}; "
            f"use device={present[0]} or device=auto."
        )
    if precision == "auto":
        precision = "bf16" if name == "cuda" and _cuda_has_bf16() else "fp32"
    if precision == "fp16" and name == "cpu":
        raise UsageError(
            "training.precision is 'fp16', which CPUs do not train in; use bf16 or fp32."
        )
    return Device(name=name, precision=precision)  # type: ignore[arg-type]


def _present_devices() -> list[str]:
    import torch

    present = []
    if torch.cuda.is_available():
        present.append("cuda")
    if torch.backends.mps.is_available():
        present.append("mps")
    return [*present, "cpu"]


def _cuda_has_bf16() -> bool:
    import torch

    return torch.cuda.get_device_capability() >= (8, 0)


def cpu_count() -> int:
    """Cores this process may use (a container's limit, not the machine's total)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory() -> int:
    """Bytes this process may still take without pushing anything out; a guess of 4 GiB at worst."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as file:
            facts = dict(line.split(":", 1) for line in file)
        free = int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 4 * 2**30
    return int(min(free, _container_memory()))


def _container_memory() -> float:
    """What a container's own limit (cgroup v2) leaves; infinite where there is none."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text())
        return max(limit - int((folder / "memory.current").read_text()), 0)
    except (OSError, ValueError):  # no such file, or the word "max"
        return float("inf")


def describe() -> dict[str, str]:
    """Return what a reader needs to repeat a number: hardware, precision, threads, versions."""
    import numpy
    import torch

    from maquette import __version__

    device = choose_device()
    facts = {
        "maquette": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor_name(),
        "cores": str(cpu_count()),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "device": device.name,
        "precision": device.precision,
        "torch threads": str(torch.get_num_threads()),
    }
    if device.name == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
        facts["gpu memory"] = f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.1f} GiB"
    return facts


def _processor_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
