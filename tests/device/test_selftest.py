"""The self-test: it passes where the device is right, and notices where it is not."""

import time

import pytest
import torch
from torch.nn import functional as F

from maquette.device import Device, selftest
from maquette.device.selftest import self_test

CPU = Device(name="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def _asked_anew():
    self_test.cache_clear()
    yield
    self_test.cache_clear()


@pytest.fixture
def on_mps(monkeypatch):
    """A device called mps whose tensors lie on the CPU."""
    monkeypatch.setattr(Device, "torch_device", property(lambda self: torch.device("cpu")))
    return Device(name="mps", precision="bf16")


def wrong_kernel(
    monkeypatch, when=lambda q: q.dtype != torch.float64, change=lambda out: out * 1.1
):
    right = F.scaled_dot_product_attention

    def wrong(q, *others, **options):
        out = right(q, *others, **options)
        return change(out) if when(q) else out

    monkeypatch.setattr(F, "scaled_dot_product_attention", wrong)


def test_the_cpu_agrees_with_itself_in_no_time():
    self_test(CPU)  # whatever torch sets up on its first call
    self_test.cache_clear()
    started = time.perf_counter()
    found = self_test(CPU)
    assert time.perf_counter() - started < 1
    assert (found.device, found.attention, found.passed, found.warning) == (
        CPU,
        "fused",
        True,
        None,
    )
    assert [line.partition(":")[0] for line in found.lines] == [
        "training step, fp32",
        "fused attention of 50 tokens, fp32",
        "fused attention of 77 tokens, fp32",
    ]
    assert all("agrees, relative error" in line for line in found.lines)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_devices_own_precision_is_tested_too(precision):
    found = self_test(Device(name="cpu", precision=precision))
    assert found.passed
    assert found.attention == "fused"
    assert f"fused attention of 77 tokens, {precision}: agrees" in found.lines[-1]


def test_the_random_state_is_left_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    self_test(CPU)
    assert torch.equal(torch.rand(3), wanted)


def test_asked_twice_it_answers_from_memory():
    assert self_test(CPU) is self_test(CPU)


def test_a_wrong_fused_kernel_is_replaced(on_mps, monkeypatch):
    wrong_kernel(monkeypatch)
    found = self_test(on_mps)
    assert (found.device, found.attention, found.passed) == (on_mps, "explicit", True)
    assert found.warning == (
        "The fused attention of mps does not agree with the CPU, so the explicit one is used, "
        "which takes more memory. A newer torch may have it right."
    )
    assert "fused attention of 50 tokens, fp32: DIFFERS" in found.lines[1]
    assert "explicit attention of 77 tokens, bf16: agrees" in found.lines[-1]


def test_a_kernel_wrong_only_in_half_precision(on_mps, monkeypatch):
    wrong_kernel(monkeypatch, when=lambda q: q.dtype == torch.bfloat16)
    assert self_test(on_mps).attention == "explicit"


def test_a_kernel_wrong_only_for_the_second_shape(on_mps, monkeypatch):
    wrong_kernel(monkeypatch, when=lambda q: q.shape[-1] == 64)
    assert self_test(on_mps).attention == "explicit"


def test_a_kernel_that_gives_nan(on_mps, monkeypatch):
    wrong_kernel(monkeypatch, change=lambda out: out * torch.nan)
    found = self_test(on_mps)
    assert found.attention == "explicit"
    assert "relative error nan" in found.lines[1]


def test_a_kernel_that_is_missing(on_mps, monkeypatch):
    def missing(*_, **__):
        raise NotImplementedError("The operator is not implemented for MPS.\nMore text")

    monkeypatch.setattr(F, "scaled_dot_product_attention", missing)
    found = self_test(on_mps)
    assert found.attention == "explicit"
    assert found.lines[1] == (
        "fused attention of 50 tokens, fp32: failed, The operator is not implemented for MPS."
    )


def test_nothing_agrees_so_the_cpu_is_used(on_mps, monkeypatch):
    right = selftest._attend

    def wrong(impl, inputs, is_causal):
        return [x + (x.dtype != torch.float64) for x in right(impl, inputs, is_causal)]

    monkeypatch.setattr(selftest, "_attend", wrong)
    found = self_test(on_mps)
    assert (found.device, found.attention, found.passed) == (CPU, "fused", False)
    assert found.warning.startswith(
        "mps does not compute what the CPU computes (explicit attention of 50 tokens, fp32: DIFFERS"
    )
    assert found.warning.endswith("so the CPU is used. A newer torch may have it right.")


def test_a_wrong_optimiser_step_rules_the_device_out(on_mps, monkeypatch):
    """Like the Adam steps of MPS that went nowhere for weights that were not contiguous."""
    right = torch._foreach_addcdiv_

    def lazy(weights, *others):
        if weights[0].dtype == torch.float64:
            right(weights, *others)

    monkeypatch.setattr(torch, "_foreach_addcdiv_", lazy)
    found = self_test(on_mps)
    assert (found.device, found.passed) == (CPU, False)
    assert len(found.lines) == 1
    assert "training step, fp32: DIFFERS" in found.warning


def test_an_error_without_words(on_mps, monkeypatch):
    def silent(*_):
        raise RuntimeError

    monkeypatch.setattr(torch, "_foreach_addcdiv_", silent)
    assert self_test(on_mps).lines == ("training step, fp32: failed, RuntimeError",)
