"""A Mac for machines that are none: what `sysctl` says, and what torch says about MPS."""

import platform

import torch

from maquette.device import apple, memory

GIB = 2**30

READ_CHIP = apple.read_chip.__wrapped__

M3_PRO = {
    "machdep.cpu.brand_string": "Apple M3 Pro",
    "hw.memsize": str(18 * GIB),
    "hw.perflevel0.physicalcpu": "6",
}


def fake_mac(monkeypatch, sysctl=M3_PRO, *, macos="14.5", has_mps=True):
    """Pretend until the test ends."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "mac_ver", lambda: (macos, ("", "", ""), "arm64"))
    monkeypatch.setattr(apple, "_sysctl", lambda key: sysctl.get(key, ""))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 * GIB)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 1 * GIB)
    monkeypatch.setattr(memory, "available_memory", lambda: 9 * GIB)
    # A process remembers its chip; a pretended one may change.
    monkeypatch.setattr(apple, "read_chip", READ_CHIP)


def named(brand):
    return M3_PRO | {"machdep.cpu.brand_string": brand}
