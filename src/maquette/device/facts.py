"""What this machine is, in words: for `maquette doctor` and for the record of a run."""

from __future__ import annotations

import platform
from pathlib import Path

from maquette.device import apple
from maquette.device.choose import Device, choose_device, cpu_count
from maquette.device.memory import GIB, available_memory, memory_budget
from maquette.device.selftest import self_test

CPU_FACTS = Path("/proc/cpuinfo")


def describe() -> dict[str, str]:
    """Return what a reader needs to repeat a number: hardware, precision, threads, versions."""
    import numpy
    import torch

    from maquette import __version__

    device = choose_device()
    return {
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
        **_gpu(device),
    }


def examine() -> dict[str, str]:
    """Return `describe`, and what can be said only by looking closer: memory and the self-test."""
    device = choose_device()
    tested = self_test(device)
    facts = describe() | {
        "memory free": f"{available_memory() / GIB:.1f} GiB",
        "memory budget": f"{memory_budget(device) / GIB:.1f} GiB on the {device.name}",
        "attention": tested.attention,
        "self-test": "passed" if tested.warning is None else "see the warning",
    }
    facts |= {f"self-test {number}": line for number, line in enumerate(tested.lines, 1)}
    if tested.warning is not None:
        facts["warning"] = tested.warning
    return facts


def _gpu(device: Device) -> dict[str, str]:
    if device.name == "cuda":
        import torch

        return {
            "gpu": torch.cuda.get_device_name(),
            "gpu memory": f"{torch.cuda.get_device_properties(0).total_memory / GIB:.1f} GiB",
        }
    chip = apple.read_chip()
    if chip is None:
        return {}
    facts = {
        "chip": f"{chip.name}, generation M{chip.generation} {chip.tier}",
        "unified memory": f"{chip.memory / GIB:.1f} GiB" if chip.memory else "unknown",
        "macos": ".".join(map(str, chip.macos)) if chip.macos != (0, 0) else "unknown",
    }
    if chip.is_translated:
        facts["rosetta"] = "this Python is an Intel one, which cannot use MPS: install an arm64 one"
    return facts


def _processor_name() -> str:
    try:
        with CPU_FACTS.open(encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    chip = apple.read_chip()
    return chip.name if chip else platform.processor() or platform.machine()
