"""paraformer_asr's attention against PyTorch's kernel and module, forward and backward.

The package itself never imports either; both serve as references here.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from paraformer_asr.attention import MultiHeadAttention, SelfAttention, attend, split_heads
from paraformer_asr.relative import RelativeSelfAttention, shift_to_keys
from torch import Tensor, nn

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
SIZES = [(2, 5, 7, 12, 3), (1, 1, 1, 8, 2), (3, 40, 64, 32, 4), (2, 6, 33, 24, 1)]
"""B utterances, Q queries, T frames, D width, heads."""


def close(actual: Tensor, expected: Tensor) -> None:
    tolerance = TOLERANCE[expected.dtype]
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def leaf(*shape: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Random numbers, twice, so that both sides gather gradients of their own."""
    x = torch.randn(*shape, dtype=dtype)
    return x.clone().requires_grad_(), x.clone().requires_grad_()


def make_mask(kind: str, batch: int, queries: int, frames: int) -> Tensor | None:
    """None, (B, 1, T) from lengths or (B, Q, T) at random; each query may look somewhere."""
    if kind == "none":
        return None
    if kind == "lengths":
        lengths = torch.randint(1, frames + 1, (batch, 1, 1))
        return torch.arange(frames) < lengths
    mask = torch.rand(batch, queries, frames) < 0.5
    mask[..., frames // 2] = True
    return mask


def reference_of(query: nn.Linear, key_value: nn.Linear, out: nn.Linear, heads: int):
    """PyTorch's module with the same weights."""
    dim, dtype = out.in_features, out.weight.dtype
    reference = nn.MultiheadAttention(dim, heads, batch_first=True, dtype=dtype)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([query.weight, key_value.weight]))
        reference.in_proj_bias.copy_(torch.cat([query.bias, key_value.bias]))
    reference.out_proj.load_state_dict(out.state_dict())
    return reference


def randomise_biases(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)


def as_theirs(mask: Tensor | None, queries: int, heads: int) -> Tensor | None:
    """PyTorch's True forbids, and its masks come one for each head and query."""
    if mask is None:
        return None
    return (~mask).expand(-1, queries, -1).repeat_interleave(heads, dim=0)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("masked", ["none", "lengths", "pairs"])
def test_attend_equals_the_fused_kernel(sizes, dtype, masked):
    torch.manual_seed(0)
    b, q, t, d, heads = sizes
    query, their_query = leaf(b, q, d, dtype=dtype)
    key, their_key = leaf(b, t, d, dtype=dtype)
    value, their_value = leaf(b, t, d, dtype=dtype)
    mask = make_mask(masked, b, q, t)

    output, weights = attend(query, key, value, mask, heads=heads, dropout=0.0)
    theirs = (
        x.view(b, -1, heads, d // heads).transpose(1, 2)
        for x in (their_query, their_key, their_value)
    )
    their_mask = None if mask is None else mask[:, None]
    expected = F.scaled_dot_product_attention(*theirs, attn_mask=their_mask)
    expected = expected.transpose(1, 2).flatten(2)
    close(output, expected)
    close(weights.sum(dim=-1), torch.ones(b, heads, q, dtype=dtype))

    gradient = torch.randn_like(output) / output.shape[1]  # weights sum it over all rows
    output.backward(gradient)
    expected.backward(gradient)
    for own, their in [(query, their_query), (key, their_key), (value, their_value)]:
        close(own.grad, their.grad)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("masked", ["none", "lengths", "pairs"])
def test_cross_attention_equals_pytorchs_module(sizes, dtype, masked):
    torch.manual_seed(0)
    b, q, t, d, heads = sizes
    attention = MultiHeadAttention(dim=d, heads=heads, dropout=0.0).to(dtype)
    randomise_biases(attention)
    reference = reference_of(attention.query, attention.key_value, attention.out, heads)
    query, their_query = leaf(b, q, d, dtype=dtype)
    memory, their_memory = leaf(b, t, d, dtype=dtype)
    mask = make_mask(masked, b, q, t)

    output, weights = attention.attend(query, memory, mask)
    expected, their_weights = reference(
        their_query,
        their_memory,
        their_memory,
        attn_mask=as_theirs(mask, q, heads),
        average_attn_weights=False,
    )
    close(output, expected)
    close(weights, their_weights)

    gradient = torch.randn_like(output) / output.shape[1]  # weights sum it over all rows
    output.backward(gradient)
    expected.backward(gradient)
    close(query.grad, their_query.grad)
    close(memory.grad, their_memory.grad)
    weight = torch.cat([attention.query.weight.grad, attention.key_value.weight.grad])
    bias = torch.cat([attention.query.bias.grad, attention.key_value.bias.grad])
    close(weight, reference.in_proj_weight.grad)
    close(bias, reference.in_proj_bias.grad)
    close(attention.out.weight.grad, reference.out_proj.weight.grad)
    close(attention.out.bias.grad, reference.out_proj.bias.grad)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("masked", ["none", "lengths", "pairs"])
def test_self_attention_equals_pytorchs_module(sizes, dtype, masked):
    torch.manual_seed(0)
    b, _, t, d, heads = sizes
    attention = SelfAttention(dim=d, heads=heads, dropout=0.0).to(dtype)
    randomise_biases(attention)
    fused = attention.query_key_value
    query, key_value = nn.Linear(d, d, dtype=dtype), nn.Linear(d, 2 * d, dtype=dtype)
    with torch.no_grad():
        for part, rows in ((query, slice(0, d)), (key_value, slice(d, 3 * d))):
            part.weight.copy_(fused.weight[rows])
            part.bias.copy_(fused.bias[rows])
    reference = reference_of(query, key_value, attention.out, heads)
    x, their_x = leaf(b, t, d, dtype=dtype)
    mask = make_mask(masked, b, t, t)

    output = attention(x, mask)
    expected, _ = reference(
        their_x, their_x, their_x, attn_mask=as_theirs(mask, t, heads), need_weights=False
    )
    close(output, expected)

    gradient = torch.randn_like(output) / output.shape[1]  # weights sum it over all rows
    output.backward(gradient)
    expected.backward(gradient)
    close(x.grad, their_x.grad)
    close(fused.weight.grad, reference.in_proj_weight.grad)
    close(fused.bias.grad, reference.in_proj_bias.grad)
    close(attention.out.weight.grad, reference.out_proj.weight.grad)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["latest", "legacy"])
@pytest.mark.parametrize("frames", [1, 2, 17])
def test_relative_attention_equals_the_fused_kernel_with_a_bias(kind, dtype, frames):
    """The position scores are a bias to the fused kernel; only `latest` has them in closed form."""
    torch.manual_seed(0)
    attention = RelativeSelfAttention(dim=12, heads=3, dropout=0.0, kind=kind).to(dtype)
    randomise_biases(attention)
    nn.init.zeros_(attention.position_bias)
    if kind == "legacy":
        nn.init.zeros_(attention.position.weight)  # no position scores at all
    x, their_x = leaf(2, frames, 12, dtype=dtype)
    output = attention(x)

    query, key, value = attention.query_key_value(their_x).chunk(3, dim=-1)
    distance = torch.arange(frames - 1, -frames, -1, dtype=torch.float64)[:, None]
    angle = distance / 10000 ** (torch.arange(0, 12, 2, dtype=torch.float64) / 12)
    table = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).to(dtype)
    place = split_heads(attention.position(table)[None], 3).repeat(2, 1, 1)
    by_distance = shift_to_keys(split_heads(query, 3) @ place.mT).view(2, 3, frames, frames)
    expected = F.scaled_dot_product_attention(
        *(
            split_heads(x, 3).view(2, 3, frames, 4)
            for x in (query + attention.content_bias.flatten(), key, value)
        ),
        attn_mask=by_distance / 2,
    )
    expected = attention.out(expected.transpose(1, 2).flatten(2))
    close(output, expected)

    gradient = torch.randn_like(output) / output.shape[1]  # weights sum it over all rows
    output.backward(gradient, retain_graph=True)
    expected.backward(gradient)
    close(x.grad, their_x.grad)
