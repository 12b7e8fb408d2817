"""Apple chips: which one this is, and the precision, memory and settings that suit it.

A chip's name comes from `sysctl`; what follows from it are rules that can be read, and tested,
without the hardware. Names that are not known yet are taken for the newest generation that is.
"""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

NEWEST_GENERATION = 5
"""The newest generation this file was written for, M5."""

FIRST_FAST_BF16 = 3
"""M1 and M2 emulate bfloat16: it saves memory there, but no time."""

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Chip:
    """What the system says about an Apple chip."""

    name: str
    """As the system writes it, "Apple M2 Pro"."""
    generation: int
    """2 for an M2; `NEWEST_GENERATION` where the name has no number."""
    tier: str
    """base, Pro, Max or Ultra."""
    memory: int
    """Bytes, shared by CPU and GPU; 0: not known."""
    performance_cores: int
    """0: not known."""
    macos: tuple[int, int]
    """Version, (14, 5); (0, 0): not known."""
    is_translated: bool
    """Whether this process is an Intel one under Rosetta, for which MPS does not exist."""


@lru_cache(maxsize=1)
def read_chip() -> Chip | None:
    """Ask the system which Apple chip this is; None on any other machine, Intel Macs included."""
    if platform.system() != "Darwin":
        return None
    name = _sysctl("machdep.cpu.brand_string")
    if "Apple" not in name:
        return None
    generation, tier = parse_name(name)
    return Chip(
        name=name,
        generation=generation,
        tier=tier,
        memory=_number(_sysctl("hw.memsize")),
        performance_cores=_number(_sysctl("hw.perflevel0.physicalcpu")),
        macos=_macos_version(platform.mac_ver()[0]),
        is_translated=is_translated(),
    )


def parse_name(name: str) -> tuple[int, str]:
    """Return generation and tier: "Apple M2 Pro" -> (2, "Pro").

    A name without "M" and a number, as virtual machines have, counts as the newest generation.
    """
    found = re.search(r"\bM(\d+)(?:\s+(Pro|Max|Ultra))?", name)
    if found is None:
        return NEWEST_GENERATION, "base"
    return int(found[1]), found[2] or "base"


def is_translated() -> bool:
    """Return whether this is an Intel process that Rosetta translates on an Apple chip."""
    return platform.system() == "Darwin" and _sysctl("sysctl.proc_translated") == "1"


def knows_bf16(chip: Chip | None) -> bool:
    """Return whether MPS has bfloat16 at all: from macOS 14 on; a version not known counts."""
    return chip is None or chip.macos == (0, 0) or chip.macos >= (14, 0)


def best_precision(chip: Chip | None) -> Literal["fp32", "bf16"]:
    """Return bf16 where it is both there and faster, M3 and later on macOS 14; else fp32."""
    if chip is None or chip.generation < FIRST_FAST_BF16 or not knows_bf16(chip):
        return "fp32"
    return "bf16"


def memory_budget(*, recommended: int, available: int, allocated: int, total: int) -> int:
    """Return the bytes of unified memory a training may take.

    The same memory holds the system, the data and the page cache, so it is the smallest of 0.8 of
    what Metal recommends, 0.7 of what is free or already ours, and all but 2 GiB.

    Args:
        recommended: Metal's recommendedMaxWorkingSetSize.
        available: what the system can still give.
        allocated: what the driver holds for this process.
        total: the machine's memory; 0: not known.
    """
    rules = [0.8 * recommended, 0.7 * (available + allocated)]
    if total:
        rules.append(total - 2 * GIB)
    return max(0, int(min(rules)))


def environment() -> dict[str, str]:
    """Return the settings that torch reads when it is imported; none on other machines.

    An operation that MPS lacks runs on the CPU instead of failing. And the allocator stops at the
    memory that Metal recommends: by default it goes on to 1.7 times that, into swap, where a
    training crawls for hours instead of halving its batch. The lower mark must come down with it.
    """
    if platform.system() != "Darwin":
        return {}
    return {
        "PYTORCH_ENABLE_MPS_FALLBACK": "1",
        "PYTORCH_MPS_HIGH_WATERMARK_RATIO": "1.0",
        "PYTORCH_MPS_LOW_WATERMARK_RATIO": "0.9",
    }


def _sysctl(key: str) -> str:
    """Return a value of the system's, "" where there is none."""
    try:
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _macos_version(text: str) -> tuple[int, int]:
    found = re.match(r"(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)
