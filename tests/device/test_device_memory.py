"""What a training may take, what it takes, and noticing that there is no more."""

import sys
import time
import weakref
from types import SimpleNamespace

import numpy
import psutil
import pytest
import torch

from maquette.device import Device, available_memory, memory
from maquette.device.memory import (
    PeakMemory,
    empty_cache,
    is_out_of_memory,
    memory_budget,
    used_memory,
)
from maquette.errors import DataError, UsageError

CPU = Device(name="cpu", precision="fp32")
CUDA = Device(name="cuda", precision="bf16")
MPS = Device(name="mps", precision="fp32")

MIB, GIB = 2**20, 2**30


@pytest.fixture
def card(monkeypatch):
    """A CUDA card with 10 of 16 GiB free, of which this process reserved 3 and uses 2."""
    state = SimpleNamespace(allocated=2 * GIB, peak=5 * GIB, calls=[])

    def reset():
        state.calls.append("reset")
        state.peak = state.allocated

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10 * GIB, 16 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: state.allocated)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: state.peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: state.calls.append("empty"))
    return state


def test_available_memory_is_a_plausible_number_of_bytes():
    assert 2**26 < available_memory() < 2**46


def test_a_containers_limit_counts(monkeypatch):
    monkeypatch.setattr(memory, "_container_memory", lambda: 12345.0)
    assert available_memory() == 12345


def write_group(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_cgroup_version_2(tmp_path):
    files = {"memory.max": "1000\n", "memory.current": "700\n"}
    folder = write_group(tmp_path, files)
    assert memory._left_in(folder, "memory.max", "memory.current") == 300
    # Files read long ago are dropped when memory is short.
    write_group(tmp_path, {"memory.stat": "anon 500\ninactive_file 150\n"})
    assert memory._left_in(folder, "memory.max", "memory.current") == 450
    write_group(tmp_path, {"memory.stat": "nonsense\n"})
    assert memory._left_in(folder, "memory.max", "memory.current") == 300
    write_group(tmp_path, {"memory.current": "1200\n"})
    assert memory._left_in(folder, "memory.max", "memory.current") == 0
    write_group(tmp_path, {"memory.max": "max\n"})
    assert memory._left_in(folder, "memory.max", "memory.current") == float("inf")


def test_cgroup_version_1_counts_its_children(tmp_path):
    files = {"limit": "1000", "usage": "700", "memory.stat": "inactive_file 1\n"}
    files["memory.stat"] += "total_inactive_file 100\n"
    assert memory._left_in(write_group(tmp_path, files), "limit", "usage") == 400


def test_no_group_no_limit(tmp_path):
    assert memory._left_in(tmp_path, "memory.max", "memory.current") == float("inf")


def test_the_cpus_budget_is_what_is_held_and_what_is_left(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 3 * GIB)
    monkeypatch.setattr(memory, "_resident_memory", lambda: 1 * GIB)
    assert memory_budget(CPU) == 4 * GIB
    assert memory_budget(CPU, 2.5) == 2.5 * GIB


def test_a_budget_above_what_there_is(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: int(3.38 * GIB))
    monkeypatch.setattr(memory, "_resident_memory", lambda: 1 * GIB)
    with pytest.raises(UsageError) as caught:
        memory_budget(CPU, 64)
    assert str(caught.value) == (
        "training.memory_budget is 64 GiB, but the cpu has 4.3 GiB for this process at present; "
        "use training.memory_budget=4.3 or less, or remove it."
    )
    assert memory_budget(CPU, 4.3) < 4.38 * GIB


@pytest.mark.parametrize("gib", [0, -1, float("nan")])
def test_a_budget_without_sense(gib):
    with pytest.raises(UsageError, match=r"memory_budget is .* GiB, expected more than 0"):
        memory_budget(CPU, gib)


def test_cuda_counts_what_is_free_or_reserved_by_us(card):
    assert memory_budget(CUDA) == 13 * GIB
    assert used_memory(CUDA) == 2 * GIB


def test_mps_follows_the_rule_for_unified_memory(mac):
    # 0.7 · (9 + 1) is below 0.8 · 12 and 18 - 2.
    assert memory_budget(MPS) == 7 * GIB
    assert used_memory(MPS) == 1 * GIB


def test_mps_without_a_chip_that_is_known(mac, monkeypatch):
    mac({"machdep.cpu.brand_string": "Virtual machine"})
    assert memory_budget(MPS) == 7 * GIB


def test_the_cpu_uses_what_the_process_holds():
    before = used_memory(CPU)
    block = numpy.ones(32 * MIB, dtype=numpy.uint8)
    assert used_memory(CPU) - before > 24 * MIB
    assert used_memory(CPU) == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    del block


def test_the_peak_on_the_cpu_is_seen_though_it_is_over():
    with PeakMemory(CPU) as peak:
        block = numpy.ones(64 * MIB, dtype=numpy.uint8)
        time.sleep(0.1)
        del block
    before = used_memory(CPU)
    assert peak.bytes - before > 48 * MIB
    # Another block starts anew: the old peak is forgotten.
    with PeakMemory(CPU) as again:
        pass
    assert again.bytes < peak.bytes - 32 * MIB


def test_the_peak_of_an_error_is_kept_and_its_thread_ends():
    peak = PeakMemory(CPU)
    with pytest.raises(RuntimeError, match="on purpose"), peak:
        raise RuntimeError("on purpose")
    assert peak.bytes > 0
    assert peak._thread is None


def test_cuda_keeps_its_own_peak(card):
    with PeakMemory(CUDA) as peak:
        assert card.calls == ["reset"]
        card.peak = 4 * GIB
    assert peak.bytes == 4 * GIB


def test_cuda_peaks_of_nested_blocks(card):
    """The inner block restarts the counter; the outer one remembers what it said."""
    with PeakMemory(CUDA) as outer:
        card.peak = 9 * GIB
        with PeakMemory(CUDA) as inner:
            card.peak = 4 * GIB
        assert (inner.bytes, outer.bytes) == (4 * GIB, 9 * GIB)
        with PeakMemory(CUDA) as second:
            card.peak = 11 * GIB
    assert (second.bytes, outer.bytes) == (11 * GIB, 11 * GIB)
    assert PeakMemory._on_cuda == []


def test_mps_is_sampled(mac, monkeypatch):
    readings = iter([1 * GIB, 6 * GIB])
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: next(readings, 2 * GIB))
    with PeakMemory(MPS) as peak:
        time.sleep(0.05)
    assert peak.bytes == 6 * GIB


def test_empty_cache_of_each_device(card, mac, monkeypatch):
    empty_cache(CUDA)
    assert card.calls == ["empty"]
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: card.calls.append("mps"))
    empty_cache(MPS)
    assert card.calls == ["empty", "mps"]


def test_empty_cache_of_the_cpu_collects_cycles(monkeypatch):
    class Node:
        pass

    node = Node()
    node.itself = node
    gone = weakref.ref(node)
    del node
    empty_cache(CPU)
    assert gone() is None
    # Elsewhere the C library has no such call.
    monkeypatch.setattr(sys, "platform", "darwin")
    empty_cache(CPU)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: SimpleNamespace())
    empty_cache(CPU)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.89 GB, other: 1.2 MB)"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 4000000000000 bytes. Error code 12"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError("Unable to allocate 8.00 TiB for an array"),
    ],
)
def test_errors_that_say_the_memory_is_used_up(error):
    assert is_out_of_memory(error)


def test_the_allocator_itself_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
        DataError("disk full: out of memory cards"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_do_not(error):
    assert not is_out_of_memory(error)
