"""Which device and precision a recipe gets.

torch is imported inside the functions, so importing this module costs nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from maquette.device import apple
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
        precision: auto, fp32, bf16 or fp16; auto is bf16 on CUDA cards and Apple chips that are
            faster with it, else fp32.
    Raises:
        UsageError: the device is not present, or cannot compute in the wanted precision.
    """
    present = _present_devices()
    name = present[0] if wanted == "auto" else wanted
    if name not in present:
        raise UsageError(
            f"device is {wanted!r}, but this machine has {', '.join(present)}; "
            f"use device={present[0]} or device=auto.{_why_not(name)}"
        )
    if precision == "auto":
        precision = _best_precision(name)
    if precision == "fp16" and name == "cpu":
        raise UsageError(
            "training.precision is 'fp16', which CPUs do not train in; use bf16 or fp32."
        )
    if precision == "bf16" and name == "mps" and not apple.knows_bf16(apple.read_chip()):
        raise UsageError(
            "training.precision is 'bf16', which MPS has from macOS 14 on; "
            "use training.precision=fp32 or fp16, or update macOS."
        )
    return Device(name=name, precision=precision)  # type: ignore[arg-type]


def cpu_count() -> int:
    """Cores this process should use: its container's, or the performance cores of an Apple chip."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    chip = apple.read_chip()
    return (chip and chip.performance_cores) or os.cpu_count() or 1


def _present_devices() -> list[str]:
    import torch

    present = []
    if torch.cuda.is_available():
        present.append("cuda")
    if torch.backends.mps.is_available() and not apple.is_translated():
        present.append("mps")
    return [*present, "cpu"]


def _best_precision(name: str) -> str:
    if name == "cuda":
        return "bf16" if _cuda_has_bf16() else "fp32"
    return apple.best_precision(apple.read_chip()) if name == "mps" else "fp32"


def _cuda_has_bf16() -> bool:
    import torch

    return torch.cuda.get_device_capability() >= (8, 0)


def _why_not(name: str) -> str:
    if name == "mps" and apple.is_translated():
        return (
            " This Python is an Intel one translated by Rosetta, which has no access to MPS: "
            "install a Python for arm64."
        )
    return ""
