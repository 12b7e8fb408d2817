"""Tokens and grids, positions, and what a block and an encoder compute."""

from __future__ import annotations

import math

import pytest
import torch

from unet_seg.errors import SegError
from unet_seg.transformer import (
    FeedForward,
    TransformerBlock,
    TransformerEncoder,
    sincos_positions,
    to_grid,
    to_tokens,
)


@pytest.mark.parametrize("grid", [(3, 5), (1, 1), (1, 7), (6, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_tokens_and_grid_are_each_others_inverse(grid, layout):
    h, w = grid
    x = torch.arange(2.0 * 4 * h * w).reshape(2, 4, h, w).contiguous(memory_format=layout)
    tokens = to_tokens(x)
    assert tokens.shape == (2, h * w, 4)
    assert tokens.is_contiguous()
    assert torch.equal(to_grid(tokens, grid), x)
    for t in range(h * w):  # row by row
        assert torch.equal(tokens[:, t], x[:, :, t // w, t % w])


def test_tokens_of_channels_last_maps_are_not_copied():
    x = torch.randn(2, 4, 3, 5).contiguous(memory_format=torch.channels_last)
    assert to_tokens(x).data_ptr() == x.data_ptr()


def test_a_grid_of_another_size_is_refused():
    with pytest.raises(SegError, match=r"tokens has shape \(2, 6, 8\); axis 1 \(12\) is 6"):
        to_grid(torch.zeros(2, 6, 8), (3, 4))
    with pytest.raises(SegError, match=r"feature map has shape .* 3 axes; expected 4"):
        to_tokens(torch.zeros(2, 6, 8))


def test_positions_by_the_formula():
    h, w, dim = 3, 4, 8
    positions = sincos_positions(h, w, dim)
    assert positions.shape == (12, 8)
    for y in range(h):
        for x in range(w):
            omegas = [10000 ** (-k / 2) for k in range(2)]
            row = [math.sin(x * o) for o in omegas] + [math.cos(x * o) for o in omegas]
            row += [math.sin(y * o) for o in omegas] + [math.cos(y * o) for o in omegas]
            torch.testing.assert_close(positions[y * w + x], torch.tensor(row))


def test_positions_of_a_larger_grid_begin_with_those_of_a_smaller():
    small = sincos_positions(3, 4, 16).reshape(3, 4, 16)
    large = sincos_positions(20, 30, 16).reshape(20, 30, 16)
    torch.testing.assert_close(large[:3, :4], small)
    assert len(sincos_positions(20, 30, 16).unique(dim=0)) == 600


def test_positions_are_kept_and_serve_training_after_inference():
    with torch.inference_mode():
        kept = sincos_positions(5, 9, 4)
    assert sincos_positions(5, 9, 4) is kept
    assert not kept.is_inference()
    assert sincos_positions(5, 9, 4, dtype=torch.float64).dtype == torch.float64


def test_positions_need_a_width_divisible_by_4():
    with pytest.raises(SegError, match="dim=6 must be divisible by 4"):
        sincos_positions(2, 2, 6)


def test_feed_forward_treats_tokens_alone():
    torch.manual_seed(0)
    net = FeedForward(8, 16)
    tokens = torch.randn(2, 5, 8)
    torch.testing.assert_close(net(tokens)[1, 3], net(tokens[1, 3]))


def test_block_is_pre_norm_and_residual():
    torch.manual_seed(0)
    block = TransformerBlock(8, 2).eval()
    tokens = torch.randn(2, 6, 8)
    middle = tokens + block.attention(block.norm1(tokens))
    expected = middle + block.feed_forward(block.norm2(middle))
    torch.testing.assert_close(block(tokens, (2, 3)), expected)


@pytest.mark.parametrize("window", [None, 2, 3])
def test_a_token_reaches_its_window_or_without_windows_the_whole_grid(window):
    torch.manual_seed(0)
    block = TransformerBlock(8, 2, window=window).eval()
    tokens = torch.randn(1, 36, 8)
    changed = tokens.clone()
    changed[:, -1] = torch.randn(8)
    same = torch.isclose(block(tokens, (6, 6)), block(changed, (6, 6))).all(-1)[0]
    assert int((~same).sum()) == (36 if window is None else window**2)


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("grid", [(4, 4), (1, 1), (3, 7), (2, 5)])
def test_encoder_takes_any_grid(window, grid):
    net = TransformerEncoder(6, dim=8, depth=2, heads=2, window=window)
    x = torch.randn(2, 6, *grid)
    assert net(x).shape == x.shape


def test_every_second_block_is_shifted():
    net = TransformerEncoder(6, dim=8, depth=4, heads=2, window=2)
    assert [block.shifted for block in net.blocks] == [False, True, False, True]


def test_encoder_knows_where_a_pixel_is():
    """Two grids of the same pixels in another shape differ: tokens carry their actual (h, w)."""
    torch.manual_seed(0)
    net = TransformerEncoder(6, dim=8, depth=1, heads=2).eval()
    x = torch.randn(1, 6, 2, 6)
    wide, tall = net(x), net(x.reshape(1, 6, 6, 2))
    assert not torch.allclose(wide.flatten(2), tall.flatten(2), atol=1e-4)


def test_encoder_gives_the_same_in_both_memory_layouts():
    torch.manual_seed(0)
    net = TransformerEncoder(6, dim=8, depth=2, heads=2, window=2).eval()
    x = torch.randn(2, 6, 3, 5)
    torch.testing.assert_close(net(x.contiguous(memory_format=torch.channels_last)), net(x))


@torch.no_grad()
def test_stream_does_not_grow_with_depth():
    torch.manual_seed(0)
    for depth in (2, 16):
        net = TransformerEncoder(32, dim=32, depth=depth, heads=4)
        tokens = torch.randn(2, 64, 32)
        start = float(tokens.var())
        for block in net.blocks:
            tokens = block(tokens, (8, 8))
        assert float(tokens.var()) < 2 * start


def test_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    net = TransformerEncoder(6, dim=8, depth=2, heads=2)
    net(torch.randn(2, 6, 3, 4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_dropout_only_while_training():
    net = TransformerEncoder(6, dim=8, depth=1, heads=2, dropout=0.5)
    x = torch.randn(1, 6, 3, 3)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
