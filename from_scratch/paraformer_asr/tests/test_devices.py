"""Devices by name, what to do when memory runs out, and products that stay fp32."""

import re

import numpy as np
import pytest
import torch

from paraformer_asr import devices
from paraformer_asr.devices import (
    MatmulChoice,
    explain_out_of_memory,
    peak_memory_mib,
    pick_device,
    set_matmul,
    use_fast_matmul,
)
from paraformer_asr.errors import AsrError


@pytest.fixture(autouse=True)
def _precision_is_put_back():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def only_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_auto_takes_the_cpu_where_there_is_nothing_faster(only_the_cpu):
    assert pick_device() == torch.device("cpu")
    assert pick_device("cpu") == torch.device("cpu")


def test_auto_takes_cuda_before_all(two_gpus):
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")


def test_auto_takes_mps_before_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("mps")


@pytest.mark.parametrize("name", ["gpu", "cuda:one", "", "xla", "cuda:-1"])
def test_a_name_that_is_none_is_refused(name):
    message = f"train.device={name!r} is no device; use auto, cpu, cuda, cuda:1 or mps."
    with pytest.raises(AsrError, match=re.escape(message)):
        pick_device(name)


def test_a_device_that_is_not_there_is_told_with_those_that_are(only_the_cpu):
    with pytest.raises(AsrError) as caught:
        pick_device("cuda")
    assert str(caught.value) == (
        "train.device='cuda': this machine has no cuda that PyTorch can use; it has cpu. "
        "Use train.device=auto."
    )


def test_a_number_too_high_is_told_with_the_highest(two_gpus):
    with pytest.raises(AsrError) as caught:
        pick_device("cuda:2")
    assert str(caught.value) == (
        "train.device='cuda:2': the machine has 2 cuda device(s), numbered from 0; use cuda:1."
    )


def test_memory_of_the_process_is_more_than_a_tensor_in_it():
    held = torch.ones(2**20)
    assert peak_memory_mib(torch.device("cpu")) > held.nbytes / 2**20


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB\nmore lines"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_running_out_of_memory_is_explained(error):
    text = explain_out_of_memory(error)
    assert text is not None
    assert text.startswith("memory ran out (")
    assert "set data.batch_frames to half and train.accumulate to twice its value" in text
    assert "\n" not in text


def test_real_allocations_that_are_too_large_are_recognised():
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**60, dtype=torch.float32)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(2**60, dtype=np.float32)
    assert explain_out_of_memory(of_torch.value) is not None
    assert explain_out_of_memory(of_numpy.value) is not None


def test_other_errors_are_not_explained():
    assert explain_out_of_memory(ValueError("shapes do not match")) is None
    assert explain_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


@pytest.mark.parametrize(
    ("speedup", "error", "expected"),
    [
        (2.0, 5e-7, "medium"),  # faster and fp32
        (2.0, 3e-3, "highest"),  # faster because it rounds to bf16
        (1.01, 5e-7, "highest"),  # not faster beyond noise
        (0.5, 3e-3, "highest"),
    ],
)
def test_the_faster_product_is_taken_only_if_it_is_exact(monkeypatch, speedup, error, expected):
    monkeypatch.setattr(devices, "_measured", lambda threads: (speedup, error))
    choice = use_fast_matmul()
    assert choice == MatmulChoice(precision=expected, speedup=speedup, error=error)
    assert torch.get_float32_matmul_precision() == expected


def test_what_was_measured_here_holds_for_the_products_that_follow():
    choice = use_fast_matmul(torch.device("cpu"))
    assert choice.speedup is not None
    assert choice.error is not None
    assert torch.get_float32_matmul_precision() == choice.precision
    assert choice == use_fast_matmul()  # measured once: a process does not change its mind
    a = torch.randn(300, 400, generator=torch.Generator().manual_seed(1))
    exact = a.double() @ a.double().T
    assert float(((a @ a.T) - exact).norm() / exact.norm()) < devices.EXACT


def test_a_gpu_is_left_at_full_precision_without_measuring(monkeypatch):
    monkeypatch.setattr(devices, "_measured", lambda threads: pytest.fail("measured"))
    for kind in ("cuda", "mps"):
        assert use_fast_matmul(torch.device(kind)) == MatmulChoice(precision="highest")
        assert torch.get_float32_matmul_precision() == "highest"


def test_a_resumed_run_sets_what_it_had():
    assert set_matmul("medium") == MatmulChoice(precision="medium")
    assert torch.get_float32_matmul_precision() == "medium"
    assert str(set_matmul("highest")) == "fp32 products: highest"


def test_an_unknown_precision_is_refused():
    with pytest.raises(AsrError, match="matmul precision 'high' is unknown; use highest or medium"):
        set_matmul("high")


def test_the_choice_reads_as_a_line_of_a_log():
    choice = MatmulChoice(precision="medium", speedup=2.125, error=5.7e-7)
    assert str(choice) == (
        "fp32 products: medium (medium is 2.12 x as fast here, relative error 5.7e-07)"
    )
