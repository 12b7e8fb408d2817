"""Which device and precision a recipe gets, on this machine and on pretended ones."""

import os

import pytest
import torch
from fake_mac import M3_PRO, named

from maquette.device import Device, choose_device, cpu_count
from maquette.errors import UsageError


@pytest.fixture
def cuda(monkeypatch):
    """A CUDA card of a given capability."""

    def pretend(capability):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)

    return pretend


def test_the_cpu_computes_in_float32():
    assert choose_device("cpu") == Device(name="cpu", precision="fp32")
    assert choose_device("cpu").torch_device == torch.device("cpu")
    assert choose_device("cpu", "bf16").precision == "bf16"


def test_fp16_is_not_for_cpus():
    with pytest.raises(UsageError, match="'fp16', which CPUs do not train in; use bf16 or fp32"):
        choose_device("cpu", "fp16")


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"'cuda', but this machine has cpu; use device=cpu or "):
        choose_device("cuda")
    with pytest.raises(UsageError, match=r"device=auto\.$"):
        choose_device("mps")


@pytest.mark.parametrize(("capability", "precision"), [((8, 0), "bf16"), ((7, 5), "fp32")])
def test_cuda_takes_bf16_where_the_card_has_it(cuda, capability, precision):
    cuda(capability)
    assert choose_device() == Device(name="cuda", precision=precision)
    assert choose_device(precision="fp16").precision == "fp16"


def test_a_mac_follows_its_chip(mac):
    assert choose_device() == Device(name="mps", precision="bf16")
    mac(named("Apple M1"))
    assert choose_device() == Device(name="mps", precision="fp32")
    # M1 emulates bf16: slow, but it is the user's to ask for.
    assert choose_device("mps", "bf16").precision == "bf16"
    assert choose_device("mps", "fp16").precision == "fp16"


def test_bf16_needs_macos_14(mac):
    mac(macos="13.6")
    assert choose_device("mps").precision == "fp32"
    with pytest.raises(UsageError, match=r"'bf16', which MPS has from macOS 14 on; use .*=fp32"):
        choose_device("mps", "bf16")


def test_rosetta_has_no_mps_and_the_error_says_why(mac):
    mac(M3_PRO | {"sysctl.proc_translated": "1"})
    assert choose_device().name == "cpu"
    with pytest.raises(UsageError, match=r"translated by Rosetta.*install a Python for arm64"):
        choose_device("mps")


def test_cores_are_the_containers_or_the_performance_cores(mac, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert cpu_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cpu_count() == 6
    mac({"machdep.cpu.brand_string": "Apple M1"})
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert cpu_count() == 8
