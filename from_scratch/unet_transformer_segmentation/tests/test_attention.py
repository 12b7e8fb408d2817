"""Attention: what it computes, who may attend to whom, windows of any grid, messages."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unet_seg.attention import (
    MultiHeadAttention,
    attend,
    region_mask,
    window_partition,
    window_reverse,
    windowed_attention,
)
from unet_seg.errors import SegError


@pytest.fixture(params=["explicit", "fused"])
def attention(request) -> MultiHeadAttention:
    torch.manual_seed(0)
    return MultiHeadAttention(12, 3, attention=request.param).eval()


def identity_attention() -> MultiHeadAttention:
    """Equal scores everywhere and values as they come: a token becomes the mean of what it sees."""
    attention = MultiHeadAttention(4, 1)
    for layer in (attention.query, attention.key):
        nn.init.zeros_(layer.weight)
    for layer in (attention.value, attention.out):
        nn.init.eye_(layer.weight)
    for layer in (attention.query, attention.value, attention.out):
        nn.init.zeros_(layer.bias)
    return attention


def test_attend_by_hand():
    q = torch.tensor([[[[2.0, 0.0]]]])
    k = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    v = torch.tensor([[[[1.0], [3.0]]]])
    weight = torch.sigmoid(torch.tensor(2 / 2**0.5))  # scores 2/sqrt(2) and 0
    torch.testing.assert_close(
        attend(q, k, v, mask=None, dropout=0.0).squeeze(), weight + 3 * (1 - weight)
    )


def test_explicit_equals_fused_with_and_without_a_mask():
    torch.manual_seed(0)
    explicit = MultiHeadAttention(12, 3).double().eval()
    fused = MultiHeadAttention(12, 3, attention="fused").double().eval()
    fused.load_state_dict(explicit.state_dict())
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    mask = torch.rand(2, 7, 7) < 0.5
    mask |= torch.eye(7, dtype=torch.bool)
    for allowed in (None, mask[0], mask):
        torch.testing.assert_close(explicit(tokens, allowed), fused(tokens, allowed))


def test_a_token_sees_only_what_the_mask_allows(attention):
    tokens = torch.randn(2, 5, 12)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    before = attention(tokens, mask)
    changed = tokens.clone()
    changed[:, 3:] = 100.0
    after = attention(changed, mask)
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3:], before[:, 3:])


def test_each_image_has_its_own_mask(attention):
    tokens = torch.randn(2, 4, 12)
    mask = torch.stack([torch.ones(4, 4), torch.eye(4)]).bool()
    both = attention(tokens, mask)
    torch.testing.assert_close(both[:1], attention(tokens[:1]))
    torch.testing.assert_close(both[1:], attention(tokens[1:], torch.eye(4).bool()))


def test_order_of_tokens_does_not_matter(attention):
    tokens, order = torch.randn(1, 6, 12), torch.randperm(6)
    torch.testing.assert_close(attention(tokens)[:, order], attention(tokens[:, order]))


def test_dropout_only_while_training(attention):
    attention.dropout = 0.5
    tokens = torch.randn(1, 6, 12)
    assert torch.equal(attention(tokens), attention(tokens))
    attention.train()
    assert not torch.equal(attention(tokens), attention(tokens))


def test_dropout_keeps_the_mean():
    torch.manual_seed(0)
    q = k = torch.zeros(1, 1, 64, 4)
    v = torch.ones(1, 1, 64, 4)
    mean = torch.stack([attend(q, k, v, mask=None, dropout=0.3).mean() for _ in range(50)]).mean()
    assert float(mean) == pytest.approx(1, abs=0.02)


def test_large_fp16_scores_do_not_overflow():
    q = torch.full((1, 1, 2, 64), 40.0, dtype=torch.float16)  # q.k = 102400 > 65504, / 8 is not
    assert torch.isfinite(attend(q, q, q, mask=None, dropout=0.0)).all()


def test_gradient_reaches_every_parameter(attention):
    attention(torch.randn(2, 5, 12)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in attention.parameters())


@pytest.mark.parametrize("window", [1, 2, 3])
def test_partition_holds_whole_windows_and_reverses(window):
    grid = torch.arange(2 * 6 * 12).reshape(2, 6, 12, 1)
    windows = window_partition(grid, window)
    assert windows.shape == (2 * 72 // window**2, window**2, 1)
    assert torch.equal(windows[1, :, 0], grid[0, :window, window : 2 * window].flatten())
    assert torch.equal(window_reverse(windows, window, (6, 12)), grid)


def sees(grid: tuple[int, int], window: int, *, shifted: bool) -> Tensor:
    """bool (T, T): whose value reaches whom, found by sending one token's value at a time."""
    tokens = torch.eye(grid[0] * grid[1])[..., None].expand(-1, -1, 4).contiguous()
    with torch.no_grad():
        out = windowed_attention(identity_attention(), tokens, grid, window, shifted=shifted)
    return (out[..., 0] > 0).T  # [receiver, sender]


def expected_sees(grid: tuple[int, int], window: int, shift: tuple[int, int]) -> Tensor:
    """The same from the definition: tokens of one window of a grid laid out from -shift."""
    places = [(y, x) for y in range(grid[0]) for x in range(grid[1])]
    homes = [((y - shift[0]) // window, (x - shift[1]) // window) for y, x in places]
    return torch.tensor([[a == b for b in homes] for a in homes])


@pytest.mark.parametrize("grid", [(4, 4), (1, 1), (5, 7), (3, 8), (1, 9), (2, 3)])
@pytest.mark.parametrize("window", [2, 3, 4])
def test_tokens_see_their_window_and_nothing_else(grid, window):
    assert torch.equal(sees(grid, window, shifted=False), expected_sees(grid, window, (0, 0)))
    shift = tuple(window // 2 if size > window else 0 for size in grid)
    assert torch.equal(sees(grid, window, shifted=True), expected_sees(grid, window, shift))


def test_padding_takes_no_weight():
    tokens = torch.randn(2, 5 * 3, 4)
    out = windowed_attention(identity_attention(), tokens, (5, 3), 4)
    torch.testing.assert_close(out[:, 12:], tokens[:, 12:].mean(1, keepdim=True).expand(2, 3, 4))


def test_one_window_is_attention_over_the_whole_grid(attention):
    tokens = torch.randn(2, 6, 12)
    torch.testing.assert_close(
        windowed_attention(attention, tokens, (2, 3), 4, shifted=True), attention(tokens)
    )


def test_region_mask_lets_every_token_see_itself():
    mask = region_mask((5, 7), 4, (2, 2), "cpu")
    assert mask.shape == (4, 16, 16)
    assert mask.diagonal(dim1=1, dim2=2).all()
    assert torch.equal(mask, mask.transpose(1, 2))


def test_windows_train_after_inference(attention):
    tokens = torch.randn(2, 5 * 7, 12, requires_grad=True)
    with torch.inference_mode():
        expected = windowed_attention(attention, tokens, (5, 7), 4, shifted=True)
    output = windowed_attention(attention, tokens, (5, 7), 4, shifted=True)
    torch.testing.assert_close(output, expected)
    output.sum().backward()
    assert not region_mask((5, 7), 4, (2, 2), "cpu").is_inference()


def test_messages():
    with pytest.raises(SegError, match="dim=10 must be divisible by heads=4"):
        MultiHeadAttention(10, 4)
    with pytest.raises(SegError, match="attention='flash' is unknown; expected explicit or fused"):
        MultiHeadAttention(8, 4, attention="flash")
    attention = MultiHeadAttention(8, 2)
    with pytest.raises(
        SegError, match=r"tokens has shape \(2, 5, 6\); axis 2 \(8\) is 6, expected"
    ):
        attention(torch.zeros(2, 5, 6))
    with pytest.raises(SegError, match="mask has dtype float32, expected bool"):
        attention(torch.zeros(2, 5, 8), torch.ones(5, 5))
    with pytest.raises(SegError, match=r"mask has shape \(4, 4\); axis 0 \(T\) is 4, expected 5"):
        attention(torch.zeros(2, 5, 8), torch.ones(4, 4, dtype=torch.bool))
