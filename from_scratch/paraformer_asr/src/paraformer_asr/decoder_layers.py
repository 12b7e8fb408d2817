"""The layers of both decoders. Every layer turns (B, K, D) into (B, K, D).

All are pre-norm and bidirectional: all tokens of an utterance are decoded at once, so no mask hides
the later ones, and each token has its place by its acoustic vector, without positions.

    SanLayer   x = x + self_attention(norm(x));  x = x + cross_attention(norm(x), frames)
               x = x + feed_forward(norm(x))                                 Vaswani et al. 2017

    SanmLayer  x = x + memory(norm(feed_forward(norm(x))))
               x = x + cross_attention(norm(x), frames)                      SAN-M

SAN-M is Gao et al. 2020 (arXiv 2006.01713); the order and the single residual around the first two
parts are those of FunASR's ParaformerSANMDecoder, whose weights load. Dropout follows each sum's
second part and is inside the feed-forward layers; attention weights are not dropped, as in the
encoders. Linear layers start Xavier-uniform with biases 0.

Letters: B utterances, K tokens, T encoder frames, D width, H heads, U hidden width (ffn).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from paraformer_asr.attention import MultiHeadAttention, SelfAttention, xavier
from paraformer_asr.fsmn import MemoryBlock
from paraformer_asr.transformer import FeedForward


class NormedFeedForward(nn.Module):
    """Two linear layers with a norm of the hidden values between; the second has no bias.

    Args:
        dim: D.
        hidden: U.
        dropout: after the ReLU, in training.
        eps: added to the variance.
    """

    def __init__(self, dim: int, hidden: int, *, dropout: float, eps: float) -> None:
        super().__init__()
        self.up = xavier(nn.Linear(dim, hidden))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden, eps)
        self.down = xavier(nn.Linear(hidden, dim, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, K, D) -> (B, K, D)."""
        output: Tensor = self.down(self.norm(self.dropout(F.relu(self.up(x)))))
        return output


class SanLayer(nn.Module):
    """A transformer decoder layer without a causal mask."""

    def __init__(self, *, dim: int, heads: int, ffn: int, dropout: float, norm_eps: float) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(dim, norm_eps)
        self.self_attention = SelfAttention(dim=dim, heads=heads, dropout=0.0)
        self.norm_cross = nn.LayerNorm(dim, norm_eps)
        self.cross_attention = MultiHeadAttention(dim=dim, heads=heads, dropout=0.0)
        self.norm_ffn = nn.LayerNorm(dim, norm_eps)
        self.ffn = FeedForward(dim, ffn, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None, memory: Tensor, memory_mask: Tensor | None
    ) -> Tensor:
        """Let tokens look at each other and at the encoder frames.

        Args:
            x: (B, K, D) float, K >= 1.
            mask: (B, K) bool, True where a token is real; None: all are.
            memory: (B, T, D) float encoder frames, finite also in the padding.
            memory_mask: (B, T) bool; None: all frames are real.
        """
        x = self._among_tokens(x, mask)
        seen = None if memory_mask is None else memory_mask[:, None]
        x = x + self.dropout(self.cross_attention(self.norm_cross(x), memory, seen))
        return self._alone(x)

    def attend(
        self, x: Tensor, mask: Tensor | None, memory: Tensor, memory_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, and also the weights of the cross-attention, (B, H, K, T)."""
        x = self._among_tokens(x, mask)
        seen = None if memory_mask is None else memory_mask[:, None]
        mixed, weights = self.cross_attention.attend(self.norm_cross(x), memory, seen)
        return self._alone(x + self.dropout(mixed)), weights

    def _among_tokens(self, x: Tensor, mask: Tensor | None) -> Tensor:
        seen = None if mask is None else mask[:, None]
        change: Tensor = self.dropout(self.self_attention(self.norm_self(x), seen))
        return x + change

    def _alone(self, x: Tensor) -> Tensor:
        change: Tensor = self.dropout(self.ffn(self.norm_ffn(x)))
        return x + change


class SanmLayer(nn.Module):
    """Feed-forward first, then an FSMN memory in the place of self-attention."""

    def __init__(
        self, *, dim: int, heads: int, ffn: int, kernel: int, dropout: float, norm_eps: float
    ) -> None:
        super().__init__()
        self.norm_ffn = nn.LayerNorm(dim, norm_eps)
        self.ffn = NormedFeedForward(dim, ffn, dropout=dropout, eps=norm_eps)
        self.norm_memory = nn.LayerNorm(dim, norm_eps)
        self.memory = MemoryBlock(dim, kernel)
        self.norm_cross = nn.LayerNorm(dim, norm_eps)
        self.cross_attention = MultiHeadAttention(dim=dim, heads=heads, dropout=0.0)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None, memory: Tensor, memory_mask: Tensor | None
    ) -> Tensor:
        """Arguments as `SanLayer.forward`."""
        x = self._among_tokens(x, mask)
        seen = None if memory_mask is None else memory_mask[:, None]
        change: Tensor = self.dropout(self.cross_attention(self.norm_cross(x), memory, seen))
        return x + change

    def attend(
        self, x: Tensor, mask: Tensor | None, memory: Tensor, memory_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, and also the weights of the cross-attention, (B, H, K, T)."""
        x = self._among_tokens(x, mask)
        seen = None if memory_mask is None else memory_mask[:, None]
        mixed, weights = self.cross_attention.attend(self.norm_cross(x), memory, seen)
        return x + self.dropout(mixed), weights

    def _among_tokens(self, x: Tensor, mask: Tensor | None) -> Tensor:
        inner = self.norm_memory(self.ffn(self.norm_ffn(x)))
        change: Tensor = self.dropout(self.memory(inner, mask))
        return x + change


class FfnLayer(nn.Module):
    """The last layer of the `sanm` decoder: feed-forward alone, and nothing added to it."""

    def __init__(self, *, dim: int, ffn: int, dropout: float, norm_eps: float) -> None:
        super().__init__()
        self.norm_ffn = nn.LayerNorm(dim, norm_eps)
        self.ffn = NormedFeedForward(dim, ffn, dropout=dropout, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K, D) -> (B, K, D)."""
        output: Tensor = self.ffn(self.norm_ffn(x))
        return output
