"""Multi-head attention written out, and attention within windows of a token grid.

In and out: tokens, float (B, T, D). Vaswani et al. 2017, section 3.2; windows as in Liu et al. 2021
(Swin), section 3.2.

Letters: B batch, T tokens, D width, H heads, K width of a head (D = H K), h, w token grid with
T = h w, M tokens along a window's side, R windows of a grid.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unet_seg.contracts import check_dtype, check_shape
from unet_seg.errors import SegError


class MultiHeadAttention(nn.Module):
    """Each token becomes a mixture of all tokens, with weights that `heads` heads compute.

        scores  = Q Kᵀ / √K,  weights = softmax(scores),  output = (weights V) Wₒ

    Args:
        dim: D, divisible by heads.
        heads: H.
        dropout: probability that a weight is set to 0 while training.
        attention: `explicit` computes the lines above one by one; `fused` gives them to PyTorch's
            kernel, which never stores the T x T scores. Both give the same up to rounding.
    """

    def __init__(
        self, dim: int, heads: int, *, dropout: float = 0.0, attention: str = "explicit"
    ) -> None:
        super().__init__()
        if dim % heads:
            raise SegError(f"dim={dim} must be divisible by heads={heads}.")
        if attention not in ("explicit", "fused"):
            raise SegError(f"attention={attention!r} is unknown; expected explicit or fused.")
        self.heads, self.dropout, self.attention = heads, dropout, attention
        self.query = nn.Linear(dim, dim)
        # A bias of the keys would add one number to all scores of a query: softmax ignores that.
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens_BTD: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix tokens, (B, T, D) -> (B, T, D).

        Args:
            mask: bool (T, T) or (B, T, T), True where the token of the row may attend to the token
                of the column; each row needs at least one True. None allows everything.
        Raises:
            SegError: another shape or dtype.
        """
        sizes = check_shape(tokens_BTD, f"B T {self.query.in_features}", name="tokens")
        if mask is not None:
            check_dtype(mask, torch.bool, name="mask")
            check_shape(mask, "T T" if mask.ndim == 2 else "B T T", name="mask", sizes=sizes)
            mask = mask[..., None, :, :]  # the same for every head

        q_BHTK = self._split_heads(self.query(tokens_BTD))
        k_BHTK = self._split_heads(self.key(tokens_BTD))
        v_BHTK = self._split_heads(self.value(tokens_BTD))
        dropout = self.dropout if self.training else 0.0
        if self.attention == "fused":
            mixed_BHTK = F.scaled_dot_product_attention(
                q_BHTK, k_BHTK, v_BHTK, attn_mask=mask, dropout_p=dropout
            )
        else:
            mixed_BHTK = attend(q_BHTK, k_BHTK, v_BHTK, mask=mask, dropout=dropout)
        mixed_BTD = mixed_BHTK.transpose(1, 2).flatten(2)  # heads side by side again
        output_BTD: Tensor = self.out(mixed_BTD)
        return output_BTD

    def _split_heads(self, x_BTD: Tensor) -> Tensor:
        b, t, d = x_BTD.shape
        return x_BTD.reshape(b, t, self.heads, d // self.heads).transpose(1, 2).contiguous()


def attend(
    q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, *, mask: Tensor | None, dropout: float
) -> Tensor:
    """softmax(Q Kᵀ / √K) V with the steps in plain sight.

    Args:
        mask: bool, broadcast to (B, H, T, T); True = may attend.
        dropout: probability that a weight is set to 0; 0 when not training.
    Returns:
        (B, H, T, K).
    """
    scale = q_BHTK.shape[-1] ** -0.5
    scores_BHTT = (q_BHTK * scale) @ k_BHTK.transpose(-2, -1)  # scaled first: safe in fp16
    if mask is not None:
        # The lowest finite number: its exponential is 0, and no row can become 0 / 0.
        scores_BHTT = scores_BHTT.masked_fill(~mask, torch.finfo(scores_BHTT.dtype).min)
    weights_BHTT = scores_BHTT.softmax(dim=-1)
    if dropout > 0:
        weights_BHTT = F.dropout(weights_BHTT, dropout)
    mixed_BHTK: Tensor = weights_BHTT.to(v_BHTK.dtype) @ v_BHTK
    return mixed_BHTK


def window_partition(grid_BhwD: Tensor, window: int) -> Tensor:
    """Cut a grid into M x M windows: (B, h, w, D) -> (B R, M M, D); M divides h and w.

    The windows of an image follow each other row by row, and so do the tokens of a window.
    """
    b, h, w, d = grid_BhwD.shape
    rows, columns = h // window, w // window
    blocks = grid_BhwD.reshape(b, rows, window, columns, window, d)
    return blocks.transpose(2, 3).reshape(b * rows * columns, window * window, d)


def window_reverse(windows_BRTD: Tensor, window: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of `window_partition`: (B R, M M, D) -> (B, h, w, D)."""
    h, w = grid
    rows, columns = h // window, w // window
    blocks = windows_BRTD.reshape(-1, rows, columns, window, window, windows_BRTD.shape[-1])
    return blocks.transpose(2, 3).reshape(-1, h, w, windows_BRTD.shape[-1])


def windowed_attention(
    attention: MultiHeadAttention,
    tokens_BTD: Tensor,
    grid: tuple[int, int],
    window: int,
    *,
    shifted: bool = False,
) -> Tensor:
    """Attention within windows, (B, h w, D) -> (B, h w, D), at a cost linear in the grid.

    Args:
        grid: (h, w) of any size; it is padded to whole windows, and no token attends to padding.
        window: M, tokens along a window's side.
        shifted: move the windows by half a window, so that a block after an unshifted one carries
            information across its borders. An axis that fits in one window is not shifted.
    """
    (h, w), (b, _, d) = grid, tokens_BTD.shape
    padded = (-(-h // window) * window, -(-w // window) * window)
    shift = tuple(window // 2 if shifted and size > window else 0 for size in grid)
    x_BhwD = F.pad(tokens_BTD.reshape(b, h, w, d), (0, 0, 0, padded[1] - w, 0, padded[0] - h))
    x_BhwD = x_BhwD.roll((-shift[0], -shift[1]), dims=(1, 2))

    mask = None
    if padded != grid or any(shift):
        mask = region_mask(grid, window, (shift[0], shift[1]), str(tokens_BTD.device))
        mask = mask.repeat(b, 1, 1)  # (R, T, T) -> (B R, T, T), images outermost
    windows = attention(window_partition(x_BhwD, window), mask)

    x_BhwD = window_reverse(windows, window, padded).roll(shift, dims=(1, 2))
    return x_BhwD[:, :h, :w].reshape(b, h * w, d)


@lru_cache(maxsize=32)
@torch.inference_mode(mode=False)  # what is kept may be needed in training later
def region_mask(grid: tuple[int, int], window: int, shift: tuple[int, int], device: str) -> Tensor:
    """Which tokens of a window may attend to each other, bool (R, M M, M M).

    Rolling a grid brings tokens of opposite edges into one window. A token's region is the window
    it would lie in had the grid gone on instead; only tokens of one region attend to each other.
    Padding is a region of its own, in which it attends to itself.
    """
    regions = []
    for size, offset in zip(grid, shift, strict=True):
        position = torch.arange(-(-size // window) * window)
        regions.append(torch.div(position - offset, window, rounding_mode="floor") + 1)
    row, column = regions
    region_hw = row[:, None] * (len(column) + 1) + column[None, :] + 1
    region_hw[grid[0] :] = 0
    region_hw[:, grid[1] :] = 0
    region_hw = region_hw.roll((-shift[0], -shift[1]), dims=(0, 1))
    region_RT = window_partition(region_hw[None, :, :, None], window)[..., 0]
    return (region_RT[:, :, None] == region_RT[:, None, :]).to(device)
