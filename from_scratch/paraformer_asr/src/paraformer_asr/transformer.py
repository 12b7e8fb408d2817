"""Transformer encoder (Vaswani et al. 2017), with norms before the sublayers (Xiong et al. 2020).

In: feats, float (B, T, F), and their lengths. Out: hidden, float (B, T, D), 0 in the padding.

    x = Linear(feats) * sqrt(D) + positions
    each layer:  x = x + attention(norm(x));  x = x + feed_forward(norm(x))
    hidden = norm(x)

Dropout follows the input and each sublayer and is inside the feed-forward layer. Attention weights
are not dropped, as in FunASR's AISHELL recipe: T x T random numbers for each head cost more than
the attention. Linear layers start Xavier-uniform with biases 0.

Letters: B utterances, T frames, F features, D width, U hidden width of the feed-forward layer.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer_asr.attention import SelfAttention, xavier
from paraformer_asr.chunked import (
    EncoderState,
    Windows,
    check_step,
    encode_chunks,
    encode_step,
    start_state,
    windowed_attention,
)
from paraformer_asr.config import StreamConfig
from paraformer_asr.contracts import expect
from paraformer_asr.dropout import Dropout
from paraformer_asr.masks import length_mask, zero_padding
from paraformer_asr.positions import positions


class FeedForward(nn.Module):
    """Two linear layers on each frame: (B, T, D) -> (B, T, U) -> (B, T, D).

    Args:
        dim: D.
        hidden: U.
        dropout: after the activation, in training.
        swish: x sigmoid(x) between the layers (conformer) instead of max(x, 0).
    """

    def __init__(self, dim: int, hidden: int, *, dropout: float, swish: bool = False) -> None:
        super().__init__()
        self.up = xavier(nn.Linear(dim, hidden))
        self.down = xavier(nn.Linear(hidden, dim))
        self.dropout, self.swish = Dropout(dropout), swish

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.up(x)
        hidden = F.silu(hidden) if self.swish else F.relu(hidden, inplace=True)
        output: Tensor = self.down(self.dropout(hidden))
        return output


class TransformerLayer(nn.Module):
    """Self-attention, then a feed-forward layer, each on the norm of its input and added to it."""

    def __init__(
        self, *, dim: int, heads: int, ffn: int, dropout: float, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim, norm_eps)
        self.attention = SelfAttention(dim=dim, heads=heads, dropout=0.0)
        self.norm_ffn = nn.LayerNorm(dim, norm_eps)
        self.ffn = FeedForward(dim, ffn, dropout=dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D); mask (B, 1, T) or (B, T, T) bool, True = may be looked at."""
        return self._add(x, self.attention(self.norm_attention(x), mask))

    def windowed(self, x: Tensor, windows: Windows, cache: Tensor) -> tuple[Tensor, Tensor]:
        """The same on windows, (N, W, D) -> (N, W, D); see `chunked.py`."""
        mixed, cache = windowed_attention(self.attention, self.norm_attention(x), windows, cache)
        return self._add(x, mixed), cache

    @property
    def cache_dim(self) -> int:
        """A key and a value of each frame."""
        return 2 * self.attention.dim

    def _add(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + self.dropout(mixed)
        output: Tensor = x + self.dropout(self.ffn(self.norm_ffn(x)))
        return output


class TransformerEncoder(nn.Module):
    """The whole encoder; with `stream`, in chunks.

    Args:
        input_dim: F.
        dim: D, even and divisible by `heads`.
        heads: attention heads.
        ffn: U.
        layers: number of layers.
        dropout: see the module's text.
        norm_eps: added to the variance in layer norms.
        stream: sizes of chunks, or None: every frame sees the whole utterance.
    """

    def __init__(
        self,
        *,
        input_dim: int,
        dim: int,
        heads: int,
        ffn: int,
        layers: int,
        dropout: float,
        norm_eps: float = 1e-5,
        stream: StreamConfig | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.input_dim, self.stream = dim, input_dim, stream
        self.input = xavier(nn.Linear(input_dim, dim))
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(dim=dim, heads=heads, ffn=ffn, dropout=dropout, norm_eps=norm_eps)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim, norm_eps)

    def forward(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode utterances.

        Args:
            feats: (B, T, F) float, T >= 1; padding is not read.
            feat_lens: (B,) int64, 1 <= length <= T.
        Returns:
            hidden (B, T, D), 0 in the padding, and its lengths (B,).
        """
        expect(("feats", feats, f"B T {self.input_dim}"), ("feat_lens", feat_lens, "B"))
        mask = padding_mask(feat_lens, feats.shape[1])
        x = self._embed(without_padding(feats, mask), first=0)
        if self.stream is not None:
            x = encode_chunks(self.layers, x, feat_lens, self.stream)
        else:
            for layer in self.layers:
                x = layer(x, None if mask is None else mask[:, None])
        return without_padding(self.norm(x), mask), feat_lens

    def output_lengths(self, feat_lens: Tensor) -> Tensor:
        """Frames of `hidden` for frames of `feats`: as many."""
        return feat_lens

    def start(self, batch: int = 1) -> EncoderState:
        """The state of a stream before its first frame."""
        return start_state(self.layers, batch, self.input.weight)

    def step(
        self, feats_window: Tensor, window_len: int, state: EncoderState, *, last: bool
    ) -> tuple[Tensor, EncoderState]:
        """Encode the next chunk of a stream.

        Args:
            feats_window: (B, chunk + right, F): the chunk and the frames after it, padded.
            window_len: real frames in it; all, unless the recording ends in this window.
            state: of `start` or of the previous step.
            last: the recording ends in this window. The chunk's successor still needs its own
                step if window_len > chunk.
        Returns:
            hidden (B, min(window_len, chunk), D) and the next state.
        """
        stream = check_step(self.stream, feats_window, self.input_dim, window_len, last)
        x = self._embed(feats_window[:, :window_len], first=state.start)
        x = F.pad(x, (0, 0, 0, feats_window.shape[1] - window_len))
        x, state = encode_step(self.layers, x, window_len, state, stream)
        return self.norm(x), state

    def _embed(self, feats: Tensor, first: int) -> Tensor:
        x = self.input(feats)
        places = positions("interleaved", first, x.shape[1], self.dim, like=feats)
        output: Tensor = self.dropout(torch.add(places, x, alpha=math.sqrt(self.dim)))
        return output


def padding_mask(lens: Tensor, size: int) -> Tensor | None:
    """(B, size) bool, True where real, or None if no utterance has padding.

    Only the CPU is asked: on other devices the answer would have to be waited for.
    """
    if lens.device.type == "cpu" and bool((lens == size).all()):
        return None
    return length_mask(lens, size)


def without_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """Set padded frames of (B, T, X) to 0; None: there are none."""
    return x if mask is None else zero_padding(x, mask)
