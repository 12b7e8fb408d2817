"""Seconds of a training step: unet_seg against MONAI's BasicUNet and smp's Unet (resnet34).

    .venv-peers/bin/python benchmarks/segmentation_step.py
    .venv-peers/bin/python benchmarks/segmentation_step.py --cases basic --sizes 128 --rounds 5

Runs where the peers are installed; unet_seg is taken from this checkout. A step is forward,
cross-entropy, backward and AdamW on a batch of random images, fp32. All networks of a comparison
run in one process, one after the other in every round, and a ratio is taken within its round, so
that whatever else the machine does falls on both; the median over rounds is reported with its
quartiles.

Each comparison runs twice: with the C library's allocator as it is, and with large pages
(THP_MEM_ALLOC_ENABLE=1), which the peers then get too. The peers run in both memory layouts; the
ratio is against the layout named. With one thread the CPU clock is read, which a busy machine does
not disturb; with more, or on a GPU, the wall clock.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 6
PEERS = {"basic": "MONAI BasicUNet", "smp": "smp Unet resnet34"}
OURS: dict[str, dict[str, dict[str, Any]]] = {
    # Widths keep our parameters within 5 % of the peer's; the first entry has the peer's levels.
    "basic": {
        "unet, same levels": {"widths": (32, 32, 64, 128, 268)},
        "unet, stem_stride 2": {"widths": (32, 64, 128, 272), "stem_stride": 2},
    },
    "smp": {
        "unet, same coarsest level": {"widths": (32, 64, 128, 448, 1064), "stem_stride": 2},
        "unet, one level more": {"widths": (32, 64, 128, 256, 512, 784), "stem_stride": 2},
    },
}


def main() -> int:
    arguments = _arguments()
    if arguments.worker:
        print(json.dumps(_measure(arguments)))
        return 0
    for case in arguments.cases:
        for allocator in arguments.allocators:
            environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
            environment |= {"THP_MEM_ALLOC_ENABLE": "1" if allocator == "thp" else "0"}
            for size in arguments.sizes:
                _report(case, allocator, size, _run_worker(arguments, case, size, environment))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256])
    parser.add_argument("--allocators", nargs="+", choices=["default", "thp"], default=None)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    on_cpu = arguments.device == "cpu"
    arguments.allocators = arguments.allocators or (["default", "thp"] if on_cpu else ["default"])
    return arguments


def _run_worker(
    arguments: argparse.Namespace, case: str, size: int, environment: dict[str, str]
) -> dict[str, Any]:
    """Measure in a process of its own: the allocator is chosen when torch is imported."""
    command = [sys.executable, __file__, "--worker", "--cases", case, "--sizes", str(size)]
    for name in ("batch", "rounds", "threads", "device"):
        command += [f"--{name}", str(getattr(arguments, name))]
    process = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def _report(case: str, allocator: str, size: int, result: dict[str, Any]) -> None:
    print(f"\n{PEERS[case]}, {size}x{size}, allocator {allocator}, {result['setting']}")
    print(f"{'network':<34}{'parameters':>12}{'ms/step':>10}{'images/s':>10}", end="")
    layouts = [name for name in result["seconds"] if name.startswith(PEERS[case])]
    print("".join(f"{'x ' + name.rpartition(', ')[2]:>24}" for name in layouts))
    for name, seconds in result["seconds"].items():
        middle = statistics.median(seconds)
        row = f"{name:<34}{result['parameters'][name]:>12,}{1e3 * middle:>10.0f}"
        row += f"{result['batch'] / middle:>10.1f}"
        for peer in layouts:
            row += f"{_ratio(result['seconds'][peer], seconds):>24}"
        print(row, flush=True)


def _ratio(peer: list[float], ours: list[float]) -> str:
    """How many times faster, as "median (quartiles)" over rounds."""
    ratios = [theirs / own for theirs, own in zip(peer, ours, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.set_num_threads(arguments.threads)
    steps, parameters = _steps(arguments, arguments.cases[0], arguments.sizes[0])
    cpu_clock = arguments.device == "cpu" and arguments.threads == 1
    clock = time.process_time if cpu_clock else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    gc.disable()
    for turn in range(arguments.rounds + 1):
        for name, step in steps.items():
            start = clock()
            step()
            if turn:  # the first round chooses algorithms and fills caches
                seconds[name].append(clock() - start)
        gc.collect()
    kind = "CPU clock" if cpu_clock else "wall clock"
    setting = f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads, {kind}"
    return {
        "seconds": seconds,
        "parameters": parameters,
        "batch": arguments.batch,
        "setting": f"{setting}, batch {arguments.batch}, {arguments.rounds} rounds",
    }


def _steps(
    arguments: argparse.Namespace, case: str, size: int
) -> tuple[dict[str, Callable[[], None]], dict[str, int]]:
    """Name -> one training step of that network, and name -> its number of parameters."""
    sys.path.insert(0, str(ROOT / "from_scratch/unet_transformer_segmentation/src"))
    import torch
    from unet_seg.models import build_model

    networks: dict[str, tuple[Any, torch.memory_format]] = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        label = "channels_last" if layout is torch.channels_last else "contiguous"
        networks[f"{PEERS[case]}, {label}"] = (_peer(case), layout)
    for name, settings in OURS[case].items():
        config = {"in_channels": 3, "num_classes": CLASSES, **settings}
        networks[name] = (build_model(config), torch.channels_last)

    generator = torch.Generator().manual_seed(0)
    image = torch.randn(arguments.batch, 3, size, size, generator=generator)
    target = torch.randint(CLASSES, (arguments.batch, size, size), generator=generator)
    image, target = image.to(arguments.device), target.to(arguments.device)

    def step_of(network: Any, layout: torch.memory_format) -> Callable[[], None]:
        network.to(arguments.device, memory_format=layout).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        own_image = image.contiguous(memory_format=layout)

        def step() -> None:
            loss = torch.nn.functional.cross_entropy(network(own_image), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if arguments.device.startswith("cuda"):
                torch.cuda.synchronize()

        return step

    steps = {name: step_of(*pair) for name, pair in networks.items()}
    counts = {name: sum(p.numel() for p in pair[0].parameters()) for name, pair in networks.items()}
    theirs = counts[next(iter(counts))]
    for name, count in counts.items():
        if abs(count / theirs - 1) > 0.05:
            raise SystemExit(f"{name} has {count:,} parameters, not within 5 % of {theirs:,}.")
    return steps, counts


def _peer(case: str) -> Any:
    import warnings

    warnings.simplefilter("ignore")  # what the peers' imports deprecate does not concern us
    if case == "basic":
        from monai.networks.nets import BasicUNet

        return BasicUNet(spatial_dims=2, in_channels=3, out_channels=CLASSES)
    sys.path.insert(0, str(ROOT / "tests/parity"))
    from torchvision_shim import import_torchvision

    import_torchvision()
    import segmentation_models_pytorch as smp

    return smp.Unet("resnet34", encoder_weights=None, classes=CLASSES)


if __name__ == "__main__":
    sys.exit(main())
