"""Which device a run uses, how its products are computed, and what to do when memory runs out."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paraformer_asr.errors import AsrError

EXACT = 2e-6
"""Largest relative error of a product that still counts as fp32; bf16 inside gives about 3e-3."""
WORTH = 1.05
"""How many times faster the other products must be to be taken; below is noise."""
ROUNDS = 11


def pick_device(name: str = "auto") -> torch.device:
    """The device that a name stands for.

    Args:
        name: auto (CUDA if there is one, else Apple's MPS, else the CPU), cpu, cuda, cuda:N, mps.
    Raises:
        AsrError: no such device in this machine, or no such name.
    """
    here = _present()
    if name == "auto":
        return torch.device(here[0])
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise AsrError(f"train.device={name!r} is no device; use auto, cpu, cuda, cuda:1 or mps.")
    if kind not in here:
        raise AsrError(
            f"train.device={name!r}: this machine has no {kind} that PyTorch can use; "
            f"it has {', '.join(here)}. Use train.device=auto."
        )
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if number and int(number) >= count:
        raise AsrError(
            f"train.device={name!r}: the machine has {count} {kind} device(s), numbered from 0; "
            f"use {kind}:{count - 1}."
        )
    return torch.device(name)


def _present() -> list[str]:
    """Kinds of devices here, the fastest first."""
    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, "cpu"]


def peak_memory_mib(device: torch.device) -> float:
    """Most memory used so far: tensors on CUDA, else the whole process (0 where not told)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource  # not on Windows
    except ImportError:
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10


def explain_out_of_memory(error: BaseException) -> str | None:
    """What helps if an error says that memory ran out; None if it says something else.

    CUDA, MPS, the CPU's allocator, Python and NumPy each have their own words for it.
    """
    said = str(error).strip().partition("\n")[0]
    words = ("out of memory", "can't allocate memory", "Unable to allocate", "not enough memory")
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if not known and not any(word in said for word in words):
        return None
    return (
        f"memory ran out ({said or type(error).__name__}). In training, set data.batch_frames to "
        "half and train.accumulate to twice its value: the gradient stays the same. One very long "
        "recording needs memory of its own: cut it at pauses, or transcribe it with a model that "
        "was trained with model.stream."
    )


@dataclass(frozen=True, kw_only=True)
class MatmulChoice:
    """How fp32 products are computed from now on, and the measurement behind it."""

    precision: str
    """What torch.set_float32_matmul_precision was given."""
    speedup: float | None = None
    """Time of an exact product by that of a "medium" one; None if nothing was measured."""
    error: float | None = None
    """Largest relative error of "medium" products against float64."""

    def __str__(self) -> str:
        if self.speedup is None or self.error is None:
            return f"fp32 products: {self.precision}"
        return (
            f"fp32 products: {self.precision} (medium is {self.speedup:.2f} x as fast here, "
            f"relative error {self.error:.1e})"
        )


def use_fast_matmul(device: torch.device | None = None) -> MatmulChoice:
    """Let the CPU compute fp32 products by "medium" where that is faster and still fp32.

    On some CPUs PyTorch then takes another library that computes in fp32 all the same, on others
    products are rounded to bf16. Which of them cannot be asked, hence it is measured, once in a
    process. A rerun may choose otherwise on another machine: runs record the choice, and a resumed
    run gives it to `set_matmul`.

    Args:
        device: of the run. Anything but a CPU is left alone: there, "high" and "medium" round.
    Returns:
        The choice, which is in force.
    """
    if device is not None and device.type != "cpu":
        return set_matmul("highest")
    speedup, error = _measured(torch.get_num_threads())
    good = speedup >= WORTH and error < EXACT
    chosen = set_matmul("medium" if good else "highest")
    return MatmulChoice(precision=chosen.precision, speedup=speedup, error=error)


def set_matmul(precision: str) -> MatmulChoice:
    """Use this precision ("highest" or "medium") for fp32 products, without measuring."""
    if precision not in ("highest", "medium"):
        raise AsrError(f"matmul precision {precision!r} is unknown; use highest or medium.")
    torch.set_float32_matmul_precision(precision)
    return MatmulChoice(precision=precision)


@functools.cache
def _measured(threads: int) -> tuple[float, float]:  # noqa: ARG001
    """How many times faster "medium" is, and its largest relative error; for a thread count.

    The error is measured for shapes that libraries have different kernels for: a square, a thin
    and a batched product. The time is that of the square one.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    square = (draw(512, 512), draw(512, 512))
    pairs = [square, (draw(8, 512), draw(512, 512)), (draw(4, 64, 64), draw(4, 64, 64))]
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        error = max(_relative_error(a, b) for a, b in pairs)
        seconds: dict[str, list[float]] = {"highest": [], "medium": []}
        for turn in range(ROUNDS + 1):
            for precision, times in seconds.items():
                torch.set_float32_matmul_precision(precision)
                taken = _seconds(lambda: square[0] @ square[1])
                if turn:  # the first round warms up
                    times.append(taken)
    finally:
        torch.set_float32_matmul_precision(before)
    exact, medium = (min(times) for times in seconds.values())  # what a busy machine left alone
    return exact / max(medium, 1e-9), error


def _relative_error(a: Tensor, b: Tensor) -> float:
    exact = a.double() @ b.double()
    return float(((a @ b) - exact).norm() / exact.norm())


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    run()
    return time.perf_counter() - start
