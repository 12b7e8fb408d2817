"""SAN-M encoder: self-attention with an FSMN memory beside it, FunASR's `SANMEncoder`.

Gao et al. 2020 (arXiv 2006.01713); weights of Paraformer-large fit (`convert.py`).

In: feats, float (B, T, F), and their lengths. Out: hidden, float (B, T, D), 0 in the padding.

    x = feats * sqrt(D) + positions (all sines, all cosines; from 1)      width F
    each layer:  x = x + attention(norm(x)) + memory;  x = x + feed_forward(norm(x))
    hidden = norm(x)

The memory is taken of the attention's values before they are split into heads. The first layer goes
from width F to D; unless they are equal, nothing is added to its attention. Dropout follows both
sublayers and is inside the feed-forward layer; not on attention weights (see `transformer.py`), nor
on the input. Linear layers start Xavier-uniform with biases 0.

Letters: B utterances, T frames, F features, D width; N windows of W frames in chunks.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer_asr.attention import SelfAttention
from paraformer_asr.chunked import (
    EncoderState,
    Windows,
    check_step,
    encode_chunks,
    encode_step,
    start_state,
)
from paraformer_asr.config import StreamConfig
from paraformer_asr.contracts import expect
from paraformer_asr.dropout import Dropout
from paraformer_asr.fsmn import MemoryBlock
from paraformer_asr.masks import zero_padding
from paraformer_asr.positions import positions
from paraformer_asr.transformer import FeedForward, padding_mask, without_padding


class SanmAttention(nn.Module):
    """Attention plus memory: (B, T, input_dim) -> (B, T, D)."""

    def __init__(
        self, *, dim: int, heads: int, kernel: int, input_dim: int | None = None, shift: int = 0
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(dim=dim, heads=heads, dropout=0.0, input_dim=input_dim)
        self.memory = MemoryBlock(dim, kernel, shift)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix frames; mask (B, T) bool, True where real."""
        query, key, value = self.attention.query_key_value(x).chunk(3, dim=-1)
        key_mask = None if mask is None else mask[:, None]
        mixed = self.attention.mix(query, key, value, key_mask)
        output: Tensor = mixed + self.memory(value, mask)
        return output

    def windowed(self, x: Tensor, windows: Windows, cache: Tensor) -> tuple[Tensor, Tensor]:
        """The same on windows, (N, W, input_dim) -> (N, W, D); see `chunked.py`."""
        query, key, value = self.attention.query_key_value(x).chunk(3, dim=-1)
        key_value = torch.cat([key, zero_padding(value, windows.mask)], dim=-1)
        keep = max(windows.left, self.memory.left)
        key_value, cache = windows.with_left(key_value, cache, keep)
        key, value = key_value.chunk(2, dim=-1)

        context = key.shape[1] - x.shape[1]
        mixed = self.attention.mix(query, key, value, windows.key_mask(context))
        near = min(context, self.memory.left)
        memory = self.memory(value[:, context - near :], context=near)
        return mixed + zero_padding(memory, windows.mask), cache


class SanmLayer(nn.Module):
    """Attention with memory, then a feed-forward layer, each on the norm of its input.

    Args: as `SanmEncoder`; `input_dim` is the width of the input, if it is not `dim`; then nothing
        is added to the attention.
    """

    def __init__(
        self,
        *,
        dim: int,
        heads: int,
        ffn: int,
        kernel: int,
        dropout: float,
        norm_eps: float = 1e-5,
        input_dim: int | None = None,
        shift: int = 0,
    ) -> None:
        super().__init__()
        input_dim = input_dim or dim
        self.residual = input_dim == dim
        self.norm_attention = nn.LayerNorm(input_dim, norm_eps)
        self.mixer = SanmAttention(
            dim=dim, heads=heads, kernel=kernel, input_dim=input_dim, shift=shift
        )
        self.norm_ffn = nn.LayerNorm(dim, norm_eps)
        self.ffn = FeedForward(dim, ffn, dropout=dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, input_dim) -> (B, T, D); mask (B, T) bool, True where real."""
        return self._add(x, self.mixer(self.norm_attention(x), mask))

    def windowed(self, x: Tensor, windows: Windows, cache: Tensor) -> tuple[Tensor, Tensor]:
        """The same on windows, (N, W, input_dim) -> (N, W, D)."""
        mixed, cache = self.mixer.windowed(self.norm_attention(x), windows, cache)
        return self._add(x, mixed), cache

    @property
    def cache_dim(self) -> int:
        """A key and a value of each frame."""
        return 2 * self.mixer.attention.dim

    def _add(self, x: Tensor, mixed: Tensor) -> Tensor:
        mixed = self.dropout(mixed)
        # Without x the dtype must be asked for: autocast rounds `mixed`, and x runs through all.
        x = x + mixed if self.residual else mixed.to(x.dtype)
        output: Tensor = x + self.dropout(self.ffn(self.norm_ffn(x)))
        return output


class SanmEncoder(nn.Module):
    """The whole encoder; with `stream`, in chunks.

    Args:
        input_dim: F, even and at least 4.
        dim: D, divisible by `heads`.
        heads: attention heads.
        ffn: hidden width of the feed-forward layers.
        layers: number of layers, counting the first.
        kernel: width of the memory, odd.
        dropout: see the module's text.
        norm_eps: added to the variance in layer norms; FunASR's weights need 1e-12.
        shift: frames by which the memory is moved to the left.
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
        kernel: int,
        dropout: float,
        norm_eps: float = 1e-5,
        shift: int = 0,
        stream: StreamConfig | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.input_dim, self.stream = dim, input_dim, stream
        positions("concatenated", 1, 1, input_dim, like=torch.empty(0))  # refuses an unfit width
        self.layers = nn.ModuleList(
            SanmLayer(
                dim=dim,
                heads=heads,
                ffn=ffn,
                kernel=kernel,
                dropout=dropout,
                norm_eps=norm_eps,
                input_dim=dim if index else input_dim,
                shift=shift,
            )
            for index in range(layers)
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
                x = layer(x, mask)
        return without_padding(self.norm(x), mask), feat_lens

    def output_lengths(self, feat_lens: Tensor) -> Tensor:
        """Frames of `hidden` for frames of `feats`: as many."""
        return feat_lens

    def start(self, batch: int = 1) -> EncoderState:
        """The state of a stream before its first frame."""
        return start_state(self.layers, batch, self.norm.weight)

    def step(
        self, feats_window: Tensor, window_len: int, state: EncoderState, *, last: bool
    ) -> tuple[Tensor, EncoderState]:
        """Encode the next chunk of a stream; arguments as `TransformerEncoder.step`."""
        stream = check_step(self.stream, feats_window, self.input_dim, window_len, last)
        x = self._embed(feats_window[:, :window_len], first=state.start)
        x = F.pad(x, (0, 0, 0, feats_window.shape[1] - window_len))
        x, state = encode_step(self.layers, x, window_len, state, stream)
        return self.norm(x), state

    def _embed(self, feats: Tensor, first: int) -> Tensor:
        places = positions("concatenated", first + 1, feats.shape[1], self.input_dim, like=feats)
        return torch.add(places, feats, alpha=math.sqrt(self.dim))
