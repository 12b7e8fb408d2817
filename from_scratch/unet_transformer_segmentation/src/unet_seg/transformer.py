"""A transformer over the pixels of a feature map: tokens, positions, pre-norm blocks.

In: a feature map (B, C, h, w) as tokens (B, T, D), one for each pixel. Out: the same shape.

Letters: B batch, C channels, h, w grid, T = h w tokens, D width.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from unet_seg.attention import MultiHeadAttention, windowed_attention
from unet_seg.contracts import check_shape
from unet_seg.errors import SegError


def to_tokens(x_BChw: Tensor) -> Tensor:
    """Pixels become tokens, row by row: (B, C, h, w) -> (B, h w, C); token t is (t // w, t % w)."""
    check_shape(x_BChw, "B C h w", name="feature map")
    return x_BChw.flatten(2).transpose(1, 2).contiguous()  # free if x is channels_last


def to_grid(tokens_BTD: Tensor, grid: tuple[int, int]) -> Tensor:
    """The inverse of `to_tokens`: (B, h w, D) -> (B, D, h, w) for grid = (h, w)."""
    h, w = grid
    size = check_shape(tokens_BTD, f"B {h * w} D", name="tokens")
    return tokens_BTD.transpose(1, 2).reshape(size["B"], size["D"], h, w)


def sincos_positions(
    h: int,
    w: int,
    dim: int,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Fixed positions of a grid's tokens, (h w, dim).

    Of a token at (y, x): [sin xω, cos xω, sin yω, cos yω] with ω_k = 10000^(-k / (dim/4)) and
    k = 0 .. dim/4 - 1; the column x comes first, as in MAE and MoCo v3. A function of the grid
    itself, not learned for one size, so images of any size work.

    Raises:
        SegError: dim is not divisible by 4.
    """
    if dim % 4:
        raise SegError(f"dim={dim} must be divisible by 4: sine and cosine of x and of y.")
    return _sincos_positions(h, w, dim, str(device), dtype)


@lru_cache(maxsize=32)
def _sincos_positions(h: int, w: int, dim: int, device: str, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # what is kept may be needed in training later
        omega = 10000 ** (-torch.arange(dim // 4) / (dim // 4))
        angles_wK = torch.arange(w)[:, None] * omega
        angles_hK = torch.arange(h)[:, None] * omega
        x_wD = torch.cat([angles_wK.sin(), angles_wK.cos()], dim=1)
        y_hD = torch.cat([angles_hK.sin(), angles_hK.cos()], dim=1)
        x_hwD, y_hwD = x_wD.expand(h, -1, -1), y_hD[:, None].expand(-1, w, -1)
        return torch.cat([x_hwD, y_hwD], dim=-1).flatten(0, 1).to(device=device, dtype=dtype)


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, for each token alone: (..., D) -> (..., D)."""

    def __init__(self, dim: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.widen = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.narrow = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        output_BTD: Tensor = self.narrow(self.dropout(self.act(self.widen(tokens_BTD))))
        return output_BTD


class TransformerBlock(nn.Module):
    """Attention, then feed-forward; each normalises its input and adds to it (pre-norm).

    Args:
        window: attend within windows of this many tokens a side; None attends over the whole grid.
        shifted: move the windows by half.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        attention: str = "explicit",
        window: int | None = None,
        shifted: bool = False,
    ) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.norm1 = nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, heads, dropout=dropout, attention=attention)
        self.norm2 = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, max(1, round(dim * mlp_ratio)), dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens_BTD: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, h w, D) -> (B, h w, D) for grid = (h, w)."""
        mixed_BTD = self._attend(self.norm1(tokens_BTD), grid)
        tokens_BTD = tokens_BTD + self.dropout(mixed_BTD)
        output_BTD: Tensor = tokens_BTD + self.dropout(self.feed_forward(self.norm2(tokens_BTD)))
        return output_BTD

    def _attend(self, tokens_BTD: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.window is None or max(grid) <= self.window:
            mixed_BTD: Tensor = self.attention(tokens_BTD)
            return mixed_BTD
        return windowed_attention(
            self.attention, tokens_BTD, grid, self.window, shifted=self.shifted
        )


class TransformerEncoder(nn.Module):
    """A feature map mixed by `depth` transformer blocks: (B, C, h, w) -> (B, C, h, w).

    A 1x1 convolution brings the map to the width D and another one back; what the blocks add up to
    is added to the map. With windows every second block is shifted by half.
    """

    def __init__(
        self,
        channels: int,
        *,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        window: int | None = None,
        attention: str = "explicit",
    ) -> None:
        super().__init__()
        self.project_in = nn.Linear(channels, dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                dim,
                heads,
                mlp_ratio=mlp_ratio,
                dropout=dropout,
                attention=attention,
                window=window,
                shifted=i % 2 == 1,
            )
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.project_out = nn.Linear(dim, channels)
        init_transformer(self, depth)

    def forward(self, x_BChw: Tensor) -> Tensor:
        h, w = x_BChw.shape[-2:]
        tokens_BTD = self.project_in(to_tokens(x_BChw))
        tokens_BTD = tokens_BTD + sincos_positions(
            h, w, tokens_BTD.shape[-1], device=tokens_BTD.device, dtype=tokens_BTD.dtype
        )
        for block in self.blocks:
            tokens_BTD = block(tokens_BTD, (h, w))
        return x_BChw + to_grid(self.project_out(self.norm(tokens_BTD)), (h, w))


def init_transformer(encoder: TransformerEncoder, depth: int) -> None:
    """Glorot weights, bias 0; the 2 depth layers that add to the stream by √(2 depth) smaller.

    So the variance of the stream does not grow with depth (Radford et al. 2019, section 2.3).
    """
    for name, part in encoder.named_modules():
        if isinstance(part, nn.Linear):
            adds = name.endswith(("attention.out", "feed_forward.narrow"))
            nn.init.xavier_uniform_(part.weight, gain=(2 * depth) ** -0.5 if adds else 1.0)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
