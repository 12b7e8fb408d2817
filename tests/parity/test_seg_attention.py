"""unet_seg's attention against PyTorch's kernel and module, forward and backward.

The package itself never imports `nn.MultiheadAttention`; here the module serves as the reference.
It has a bias of the keys, which ours leaves out: softmax is blind to it, so any value must do.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "from_scratch/unet_transformer_segmentation/src"))

from unet_seg.attention import MultiHeadAttention, attend, windowed_attention  # noqa: E402

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SHAPES = [(2, 7, 12, 3), (1, 1, 8, 2), (3, 64, 32, 4), (2, 33, 24, 1)]  # B, T, D, heads


def close(actual: Tensor, expected: Tensor) -> None:
    tolerance = TOLERANCE[expected.dtype]
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def random_mask(batch: int, tokens: int) -> Tensor:
    """Half of the pairs allowed, and every token itself."""
    return (torch.rand(batch, tokens, tokens) < 0.5) | torch.eye(tokens, dtype=torch.bool)


def reference_of(attention: MultiHeadAttention) -> nn.MultiheadAttention:
    """PyTorch's module with the same weights, and some bias of the keys."""
    dim = attention.query.in_features
    dtype = attention.query.weight.dtype
    reference = nn.MultiheadAttention(dim, attention.heads, batch_first=True, dtype=dtype)
    parts = (attention.query, attention.key, attention.value)
    key_bias = torch.randn(dim, dtype=dtype)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.copy_(
            torch.cat([attention.query.bias, key_bias, attention.value.bias])
        )
        reference.out_proj.weight.copy_(attention.out.weight)
        reference.out_proj.bias.copy_(attention.out.bias)
    return reference


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_attend_equals_the_fused_kernel(shape, dtype, masked):
    torch.manual_seed(0)
    b, t, d, heads = shape
    ours = [torch.randn(b, heads, t, d // heads, dtype=dtype, requires_grad=True) for _ in "qkv"]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    mask = random_mask(b, t)[:, None] if masked else None

    output = attend(*ours, mask=mask, dropout=0.0)
    expected = F.scaled_dot_product_attention(*theirs, attn_mask=mask)
    close(output, expected)

    gradient = torch.randn_like(output)
    output.backward(gradient)
    expected.backward(gradient)
    for own, their in zip(ours, theirs, strict=True):
        close(own.grad, their.grad)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["explicit", "fused"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_module_equals_pytorchs(shape, kind, dtype, masked):
    torch.manual_seed(0)
    b, t, d, heads = shape
    attention = MultiHeadAttention(d, heads, attention=kind).to(dtype)
    reference = reference_of(attention)
    tokens = torch.randn(b, t, d, dtype=dtype, requires_grad=True)
    twin = tokens.detach().clone().requires_grad_()
    mask = random_mask(b, t) if masked else None
    # PyTorch's True forbids, and its masks come one for each head.
    forbidden = None if mask is None else (~mask).repeat_interleave(heads, dim=0)

    output = attention(tokens, mask)
    expected = reference(twin, twin, twin, attn_mask=forbidden, need_weights=False)[0]
    close(output, expected)

    gradient = torch.randn_like(output)
    output.backward(gradient)
    expected.backward(gradient)
    close(tokens.grad, twin.grad)
    query, key, value = reference.in_proj_weight.grad.chunk(3)
    close(attention.query.weight.grad, query)
    close(attention.key.weight.grad, key)
    close(attention.value.weight.grad, value)
    close(attention.query.bias.grad, reference.in_proj_bias.grad[:d])
    close(attention.value.bias.grad, reference.in_proj_bias.grad[2 * d :])
    close(attention.out.weight.grad, reference.out_proj.weight.grad)
    close(attention.out.bias.grad, reference.out_proj.bias.grad)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("grid", [(4, 8), (5, 7), (3, 9)])
def test_windows_equal_one_masked_attention_over_the_grid(grid, shifted):
    """Rolling, padding and cutting give what the plain mask "same window" gives."""
    torch.manual_seed(0)
    window, (h, w) = 4, grid
    attention = MultiHeadAttention(12, 3).double()
    tokens = torch.randn(2, h * w, 12, dtype=torch.float64, requires_grad=True)
    twin = tokens.detach().clone().requires_grad_()
    shift = [window // 2 if shifted and size > window else 0 for size in grid]
    row = (torch.arange(h) + window - shift[0]) // window
    column = (torch.arange(w) + window - shift[1]) // window
    home = (row[:, None] * (w + window) + column).flatten()
    forbidden = home[:, None] != home[None, :]

    output = windowed_attention(attention, tokens, grid, window, shifted=shifted)
    reference = reference_of(attention)
    expected = reference(twin, twin, twin, attn_mask=forbidden, need_weights=False)[0]
    close(output, expected)

    gradient = torch.randn_like(output)
    output.backward(gradient)
    expected.backward(gradient)
    close(tokens.grad, twin.grad)
