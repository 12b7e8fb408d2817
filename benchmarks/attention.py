"""The four attentions beside each other: time and memory, forward and backward.

    python benchmarks/attention.py                          50 to 2048 tokens, on this device
    python benchmarks/attention.py --tokens 1024 --rounds 9

Each runs with several budgets where it takes one. Turns alternate; printed are medians of the
processor's time (of the clock on a GPU), the most memory above what was in use before, and the
time beside that of the fused kernel. The thresholds in `nn/attention_choice.py` and the default
budgets come from here.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from maquette.device import Device, choose_device
from maquette.device.memory import PeakMemory, empty_cache, used_memory
from maquette.nn.attention import attention

MIB = 2**20
CASES: tuple[tuple[str, int | None], ...] = (
    ("explicit", None),
    ("fused", None),
    *(("sliced", size * MIB) for size in (4, 16, 64)),
    *(("chunked", size * MIB) for size in (1, 2, 8, 32)),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    lengths = [50, 257, 577, 1024, 2048]
    parser.add_argument("--tokens", type=int, nargs="+", default=lengths)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--width", type=int, default=64, help="of one head")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    device = choose_device(precision="fp32")
    for tokens in given.tokens:
        shape = (given.batch, given.heads, tokens, given.width)
        scores = given.batch * given.heads * tokens**2 * 4 / MIB
        print(f"{tokens} tokens on {device.name}, {shape}, scores {scores:.1f} MiB")
        print(f"  {'':<9}{'budget MiB':>11}{'ms':>10}{'peak MiB':>10}{'× fused':>9}")
        _compare(device, shape, given.rounds)
    return 0


def _compare(device: Device, shape: tuple[int, ...], rounds: int) -> None:
    inputs = [torch.randn(shape, device=device.torch_device, requires_grad=True) for _ in range(3)]
    peaks = {case: _peak(device, inputs, *case) for case in CASES}
    times: dict[tuple[str, int | None], list[float]] = {case: [] for case in CASES}
    for _ in range(rounds):
        for case in CASES:
            started = _now(device)
            _step(inputs, *case)
            times[case].append(_now(device) - started)
    fused = statistics.median(times["fused", None])
    for case in CASES:
        impl, budget = case
        median = statistics.median(times[case])
        print(
            f"  {impl:<9}{budget // MIB if budget else '':>11}{median * 1e3:>10.1f}"
            f"{peaks[case] / MIB:>10.0f}{median / fused:>9.2f}"
        )


def _step(inputs: list[torch.Tensor], impl: str, budget: int | None) -> None:
    attention(*inputs, impl=impl, budget=budget).sum().backward()
    for x in inputs:
        x.grad = None


def _peak(device: Device, inputs: list[torch.Tensor], impl: str, budget: int | None) -> int:
    _step(inputs, impl, budget)
    empty_cache(device)
    before = used_memory(device)
    with PeakMemory(device) as peak:
        _step(inputs, impl, budget)
    return peak.bytes - before


def _now(device: Device) -> float:
    """Seconds: of this process on the CPU, where others share the machine; else of the clock."""
    if device.name == "cpu":
        return time.process_time()
    (torch.cuda if device.name == "cuda" else torch.mps).synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    raise SystemExit(main())
