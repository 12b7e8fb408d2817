"""Which attention is chosen, and the reason given."""

import pytest
import torch

from maquette.nn.attention_choice import choose_attention, free_bytes_of

MIB = 2**20


def choose(tokens, device_type="mps", *, free=1000 * MIB, **facts):
    usual = {"batch": 8, "heads": 8, "head_dim": 64, "dtype": torch.float32, "needs_grad": True}
    return choose_attention(
        queries=tokens, keys=tokens, device_type=device_type, free_bytes=free, **(usual | facts)
    )


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
@pytest.mark.parametrize("tokens", [50, 257, 5000])
def test_kernels_without_scores_are_taken_at_every_length(device_type, tokens):
    chosen = choose(tokens, device_type, free=1)
    assert chosen.impl == "fused"
    assert chosen.reason == (
        f"{tokens} tokens on {device_type}, whose kernel never holds their scores"
    )


def test_training_a_cpu_in_half_precision_takes_the_formula_while_it_is_short():
    chosen = choose(257, "cpu", dtype=torch.bfloat16)
    assert chosen.impl == "explicit"
    assert chosen.reason == "257 tokens in half precision on cpu, whose kernel is slow backwards"
    for facts in ({"needs_grad": False}, {"tokens": 577}, {"device_type": "cuda"}):
        usual = {"tokens": 257, "device_type": "cpu", "dtype": torch.bfloat16}
        assert choose(**(usual | facts)).impl == "fused"


@pytest.mark.parametrize("facts", [{"head_dim": 512}, {"dtype": torch.float64}])
def test_cuda_without_such_a_kernel_counts_its_scores(facts):
    assert choose(4000, "cuda", **facts).impl == "chunked"


def test_short_sequences_stay_whole_while_they_fit():
    # 64 · 577² · 4 bytes · 3
    chosen = choose(577, free=500 * MIB)
    assert chosen == (
        "fused",
        "the scores of 577 tokens take 244 MiB of 500 MiB that they may take",
    )
    assert choose(577, free=200 * MIB).impl == "chunked"


def test_long_ones_may_take_a_quarter():
    chosen = choose(2048, free=4 * 3000 * MIB)
    assert chosen.impl == "chunked"
    assert chosen.reason == (
        "the scores of 2048 tokens take 3072 MiB of 3000 MiB that they may take, "
        "so they are never held whole"
    )
    assert choose(2048, free=4 * 3100 * MIB).impl == "fused"


def test_without_gradients_there_are_fewer_scores():
    assert choose(2048, free=4 * 2100 * MIB, needs_grad=False).impl == "fused"


def test_memory_that_is_not_known_is_taken_for_enough():
    assert choose(5000, free=None) == ("fused", "the scores of 5000 tokens take 18311 MiB")


def test_a_fused_kernel_that_is_not_trusted_is_not_used():
    assert choose(50, "cpu", trusted="explicit").impl == "explicit"
    assert choose(5000, "cuda", trusted="explicit").impl == "chunked"


def test_free_memory_of_each_device(monkeypatch):
    assert free_bytes_of(torch.device("cpu")) is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (123, 456))
    assert free_bytes_of(torch.device("cuda")) == 123
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 100)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 30)
    assert free_bytes_of(torch.device("mps")) == 70
