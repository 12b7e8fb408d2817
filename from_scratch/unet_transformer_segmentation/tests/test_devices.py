"""Devices: which one is taken, what is refused, random states, memory.

Accelerators are imitated.
"""

from __future__ import annotations

import sys

import pytest
import torch

from unet_seg.devices import peak_memory_mb, pick_device, random_state, restore_random_state
from unet_seg.errors import SegError


@pytest.fixture
def machine(monkeypatch):
    """A function that makes this machine look as if it had so many CUDA devices, and MPS."""

    def make(*, cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: cuda > 0)
        monkeypatch.setattr("torch.cuda.device_count", lambda: cuda)
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)

    return make


@pytest.mark.parametrize(
    ("has", "name", "device"),
    [
        ({}, "auto", "cpu"),
        ({"mps": True}, "auto", "mps"),
        ({"cuda": 1, "mps": True}, "auto", "cuda"),
        ({"cuda": 2}, "cuda:1", "cuda:1"),
        ({"cuda": 2}, "cpu", "cpu"),
        ({"mps": True}, "mps", "mps"),
    ],
)
def test_the_device_of_a_name(machine, has, name, device):
    machine(**has)
    assert pick_device(name) == torch.device(device)


@pytest.mark.parametrize(
    ("has", "name", "message"),
    [
        ({}, "gpu", "device='gpu' is unknown; use auto, cpu, cuda, cuda:1 or mps."),
        ({}, "cuda", "device='cuda' is not there on this machine; use auto or cpu."),
        ({"cuda": 1}, "mps", "device='mps' is not there on this machine; use auto or cpu."),
        ({}, "meta", "device='meta' is not there on this machine; use auto or cpu."),
        ({"cuda": 2}, "cuda:2", "device='cuda:2' is not there; the last CUDA device is cuda:1."),
    ],
)
def test_a_device_that_is_not_there_is_refused(machine, has, name, message):
    machine(**has)
    with pytest.raises(SegError) as error:
        pick_device(name)
    assert str(error.value) == message


def test_the_random_state_is_put_back():
    state = random_state()
    drawn = torch.rand(3)
    restore_random_state(state)
    assert torch.equal(torch.rand(3), drawn)


def test_random_states_of_accelerators_are_kept_where_they_are(machine, monkeypatch):
    restored = []
    monkeypatch.setattr("torch.cuda.get_rng_state_all", lambda: ["of cuda"])
    monkeypatch.setattr("torch.cuda.set_rng_state_all", restored.append)
    monkeypatch.setattr("torch.mps.get_rng_state", lambda: "of mps")
    monkeypatch.setattr("torch.mps.set_rng_state", restored.append)
    machine(cuda=1, mps=True)
    state = random_state()
    assert (state["cuda"], state["mps"]) == (["of cuda"], "of mps")
    restore_random_state(state)
    assert restored == [["of cuda"], "of mps"]
    machine()
    restore_random_state(state)  # resumed on a machine without them
    assert len(restored) == 2


def test_peak_memory_is_that_of_the_allocator_or_of_the_process(monkeypatch):
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda _device: 3 * 2**20)
    assert peak_memory_mb(torch.device("cuda")) == 3
    cpu = torch.device("cpu")
    if sys.platform == "linux":
        megabytes = peak_memory_mb(cpu)
        assert 50 < megabytes < 100_000  # PyTorch alone is more than 50
        monkeypatch.setattr(sys, "platform", "darwin")  # where the system counts bytes
        assert peak_memory_mb(cpu) == pytest.approx(megabytes / 1024, rel=0.1)
    monkeypatch.setattr(sys, "platform", "win32")
    assert peak_memory_mb(cpu) == 0
