"""Attention: the formula, masks, queries that may look at nothing, dropout, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from paraformer_asr.attention import MultiHeadAttention, SelfAttention, attend, mask_bias, xavier
from paraformer_asr.errors import AsrError


def loops(query, key, value, mask, heads):
    """The formula, one utterance, head and query at a time."""
    B, Q, D = query.shape
    P = D // heads
    output = torch.zeros(B, Q, D, dtype=query.dtype)
    for b in range(B):
        for h in range(heads):
            part = slice(h * P, (h + 1) * P)
            for i in range(Q):
                scores = key[b, :, part] @ query[b, i, part] / math.sqrt(P)
                seen = mask[b, i if mask.shape[1] > 1 else 0]
                if seen.any():
                    weights = scores[seen].softmax(dim=0)
                    output[b, i, part] = weights @ value[b, seen][:, part]
    return output


@pytest.mark.parametrize("rows", [1, 5])
def test_attend_is_the_formula_one_query_at_a_time(rows):
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 5, 12), torch.randn(2, 7, 12), torch.randn(2, 7, 12)
    mask = torch.rand(2, rows, 7) < 0.6
    mask[..., 0] = True
    mixed, weights = attend(query, key, value, mask, heads=3, dropout=0.0)
    torch.testing.assert_close(mixed, loops(query, key, value, mask, 3), atol=1e-6, rtol=1e-5)
    assert weights.shape == (2, 3, 5, 7)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 5))
    assert weights.masked_select(~mask[:, None].expand_as(weights)).eq(0).all()


def test_self_attention_is_attention_with_itself_as_memory():
    torch.manual_seed(0)
    own, cross = (
        SelfAttention(dim=8, heads=2, dropout=0.0),
        MultiHeadAttention(dim=8, heads=2, dropout=0.0),
    )
    with torch.no_grad():
        cross.query.weight.copy_(own.query_key_value.weight[:8])
        cross.key_value.weight.copy_(own.query_key_value.weight[8:])
        cross.out.weight.copy_(own.out.weight)
    x, mask = torch.randn(2, 6, 8), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])[:, None]
    torch.testing.assert_close(own(x, mask), cross(x, x, mask))


def test_widths_of_queries_and_memory_may_differ():
    attention = MultiHeadAttention(dim=8, heads=2, dropout=0.0, query_dim=6, memory_dim=10)
    assert attention(torch.randn(2, 3, 6), torch.randn(2, 4, 10)).shape == (2, 3, 8)


def test_no_queries_give_no_rows():
    attention = MultiHeadAttention(dim=8, heads=2, dropout=0.0)
    mask = torch.ones(2, 1, 4, dtype=torch.bool)
    output, weights = attention.attend(torch.randn(2, 0, 8), torch.randn(2, 4, 8), mask)
    assert output.shape == (2, 0, 8)
    assert weights.shape == (2, 2, 0, 4)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_query_that_may_look_at_nothing_gives_zero_and_no_gradient(rows):
    torch.manual_seed(0)
    attention = MultiHeadAttention(dim=8, heads=2, dropout=0.0)
    nn.init.ones_(attention.out.bias)
    query = torch.randn(2, 3, 8, requires_grad=True)
    memory = torch.randn(2, 5, 8, requires_grad=True)
    mask = torch.ones(2, rows, 5, dtype=torch.bool)
    mask[1] = False
    output, weights = attention.attend(query, memory, mask)
    assert output[1].eq(0).all()
    assert weights[1].eq(0).all()
    assert output[0].abs().min() > 0
    torch.testing.assert_close(attention(query, memory, mask), output)
    (output.square().sum() + weights.square().sum()).backward()
    for tensor in (query, memory):
        assert tensor.grad.isfinite().all()
        assert tensor.grad[1].eq(0).all()
    assert all(p.grad.isfinite().all() for p in attention.parameters())


def test_masked_memory_changes_nothing_however_large_it_is():
    torch.manual_seed(0)
    attention = MultiHeadAttention(dim=8, heads=2, dropout=0.0)
    query, memory = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    mask = torch.tensor([True, True, False, True, False])[None, None]
    expected = attention(query, memory[:, mask[0, 0]])
    memory[:, ~mask[0, 0]] = 1e6
    torch.testing.assert_close(attention(query, memory, mask), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_mask_is_finite_in_every_precision(dtype):
    bias = mask_bias(torch.tensor([[[True, False]]]), 1, dtype)
    assert (bias - 100).isfinite().all()
    assert bias[0, 0, 0] == 0
    assert torch.softmax(bias.float(), dim=-1)[0, 0, 1] == 0


def test_attention_works_under_autocast():
    attention = SelfAttention(dim=8, heads=2, dropout=0.0)
    mask = torch.tensor([[True, True, False], [False] * 3])[:, None]
    with torch.autocast("cpu", torch.bfloat16):
        output = attention(torch.randn(2, 3, 8), mask)
    assert output.isfinite().all()
    assert output[1].eq(0).all()


def test_weights_are_dropped_in_training_only():
    torch.manual_seed(0)
    attention, x = SelfAttention(dim=8, heads=2, dropout=0.5), torch.randn(1, 6, 8)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))


def test_fused_weights_start_as_separate_ones_would():
    torch.manual_seed(0)
    linear = xavier(nn.Linear(64, 192), parts=3)
    bound = math.sqrt(6 / 128)
    for part in linear.weight.chunk(3):
        assert 0.95 * bound < part.abs().max() <= bound
    assert linear.bias.eq(0).all()


def test_shapes_that_do_not_fit_are_named():
    attention = MultiHeadAttention(dim=8, heads=2, dropout=0.0)
    query, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    with pytest.raises(AsrError, match=r"mask is \[2, 1, 4\]: axis 2 should be T=5 as in memory"):
        attention(query, memory, torch.ones(2, 1, 4, dtype=torch.bool))
    with pytest.raises(AsrError, match=r"mask is \[2, 5\]; expected 3 axes \(B, Q, T\)"):
        attention(query, memory, torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(AsrError, match=r"memory is \[3, 5, 8\]: axis 0 should be B=2 as in query"):
        attention(query, torch.randn(3, 5, 8))
    with pytest.raises(AsrError, match=r"mask is torch.float32; expected torch.bool"):
        attention(query, memory, torch.ones(2, 1, 5))
