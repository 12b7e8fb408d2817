"""The layers of both decoders. Every layer turns (B, K, D) into (B, K, D).

All are pre-norm and bidirectional: all tokens of an utterance are decoded at once, so no mask hides
the later ones, and each token has its place by its acoustic vector, without positions.

    SanLayer   x + self-attention, + cross-attention, + feed-forward      Vaswani et al. 2017
    SanmLayer  feed-forward, then x + memory of neighbours, + cross-attention; Gao et al. 2020
               (SAN-M, arXiv 2006.01713): the order and the single residual around the first two
               are those of FunASR's ParaformerSANMDecoder, whose weights load

Linear layers start with PyTorch's default weights, except in attention (see `attention.py`).

Letters: B utterances, K tokens, T encoder frames, D width, H heads, N hidden width (ffn).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from paraformer_asr.attention import MultiHeadAttention, SelfAttention
from paraformer_asr.fsmn import MemoryBlock


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between, for each token alone.

    Args:
        dim: D.
        hidden: N.
        dropout: after the ReLU.
        eps: of the inner layer norm.
        inner_norm: normalise the N hidden values and leave out the second bias, as SAN-M does.
    """

    def __init__(
        self, *, dim: int, hidden: int, dropout: float, eps: float, inner_norm: bool
    ) -> None:
        super().__init__()
        self.widen = nn.Linear(dim, hidden)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden, eps=eps) if inner_norm else nn.Identity()
        self.narrow = nn.Linear(hidden, dim, bias=not inner_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        hidden: Tensor = self.norm(self.dropout(F.relu(self.widen(x))))
        narrowed: Tensor = self.narrow(hidden)
        return narrowed


class SanLayer(nn.Module):
    """A transformer decoder layer without a causal mask."""

    def __init__(self, *, dim: int, heads: int, ffn: int, dropout: float, eps: float) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(dim, eps=eps)
        self.self_attention = SelfAttention(dim=dim, heads=heads, dropout=dropout)
        self.cross_norm = nn.LayerNorm(dim, eps=eps)
        self.cross_attention = MultiHeadAttention(dim=dim, heads=heads, dropout=dropout)
        self.ffn_norm = nn.LayerNorm(dim, eps=eps)
        self.ffn = FeedForward(dim=dim, hidden=ffn, dropout=dropout, eps=eps, inner_norm=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Let tokens look at each other and at the encoder frames.

        Args:
            x: (B, K, D) float, K >= 1.
            mask: (B, K) bool, True where a token is real.
            memory: (B, T, D) float encoder frames, finite also in the padding.
            memory_mask: (B, T) bool.
        """
        x = self.among_tokens(x, mask)
        x = x + self.dropout(self.cross_attention(self.cross_norm(x), memory, memory_mask[:, None]))
        return self.after(x)

    def attend(
        self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, and also the weights of the cross-attention, (B, H, K, T)."""
        x = self.among_tokens(x, mask)
        mixed, weights = self.cross_attention.attend(
            self.cross_norm(x), memory, memory_mask[:, None]
        )
        return self.after(x + self.dropout(mixed)), weights

    def among_tokens(self, x: Tensor, mask: Tensor) -> Tensor:
        mixed: Tensor = self.dropout(self.self_attention(self.self_norm(x), mask[:, None]))
        return x + mixed

    def after(self, x: Tensor) -> Tensor:
        change: Tensor = self.dropout(self.ffn(self.ffn_norm(x)))
        return x + change


class SanmLayer(nn.Module):
    """Feed-forward first, then an FSMN memory in the place of self-attention."""

    def __init__(
        self, *, dim: int, heads: int, ffn: int, kernel: int, dropout: float, eps: float
    ) -> None:
        super().__init__()
        self.ffn_norm = nn.LayerNorm(dim, eps=eps)
        self.ffn = FeedForward(dim=dim, hidden=ffn, dropout=dropout, eps=eps, inner_norm=True)
        self.memory_norm = nn.LayerNorm(dim, eps=eps)
        self.memory = MemoryBlock(dim, kernel)
        self.cross_norm = nn.LayerNorm(dim, eps=eps)
        self.cross_attention = MultiHeadAttention(dim=dim, heads=heads, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Arguments as `SanLayer.forward`."""
        x = self.among_tokens(x, mask)
        mixed = self.cross_attention(self.cross_norm(x), memory, memory_mask[:, None])
        change: Tensor = self.dropout(mixed)
        return x + change

    def attend(
        self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, and also the weights of the cross-attention, (B, H, K, T)."""
        x = self.among_tokens(x, mask)
        mixed, weights = self.cross_attention.attend(
            self.cross_norm(x), memory, memory_mask[:, None]
        )
        return x + self.dropout(mixed), weights

    def among_tokens(self, x: Tensor, mask: Tensor) -> Tensor:
        """One residual around both parts: x + drop(memory(norm(ffn(norm(x)))))."""
        inner = self.memory_norm(self.ffn(self.ffn_norm(x)))
        change: Tensor = self.dropout(self.memory(inner, mask))
        return x + change


class FfnLayer(nn.Module):
    """The last layer of the `sanm` decoder: feed-forward alone, without a residual."""

    def __init__(self, *, dim: int, ffn: int, dropout: float, eps: float) -> None:
        super().__init__()
        self.ffn_norm = nn.LayerNorm(dim, eps=eps)
        self.ffn = FeedForward(dim=dim, hidden=ffn, dropout=dropout, eps=eps, inner_norm=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K, D) -> (B, K, D)."""
        output: Tensor = self.ffn(self.ffn_norm(x))
        return output
