"""Encoding in chunks: windows of an utterance, what they see of the past, and their state.

An utterance is cut into chunks of `chunk` frames. The window of a chunk is the chunk itself and
copies of the `right` frames after it. In every layer the frames of a window look at the window and
at the `left` frames before it as they are in this layer; these come from earlier windows' own
frames. The copies are computed anew in each window and thrown away at the end, so a model looks
ahead `right` frames in all and not in each layer (Emformer: Shi et al. 2020, arXiv 2010.10759).

    frames      0 1 2 3 4 5 6 7 8 9        chunk=3, left=2, right=1
    window 0    0 1 2|3
    window 1      1 2 .. 3 4 5|6           1 2: left context, |6: copy
    window 2            4 5 .. 6 7 8|9

Whole utterances (`encode_chunks`) and single steps (`encode_step`) run the same layers on windows;
an utterance has C of them and nothing before them, a step has one and a state.

Letters: B utterances, T frames, C chunks, N = B C windows, W = chunk + right frames of a window,
L frames of left context, D width, X any width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer_asr.attention import SelfAttention
from paraformer_asr.config import StreamConfig
from paraformer_asr.contracts import expect
from paraformer_asr.errors import AsrError


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Where the windows of one call lie in their utterances."""

    batch: int
    """B; the windows of an utterance follow each other."""
    start: int
    """Position of the first chunk's first frame: frames encoded by earlier calls."""
    chunk: int
    left: int
    """Frames before a chunk that attention may see."""
    mask: Tensor
    """(N, W) bool, True where real."""

    def with_left(self, values: Tensor, cache: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        """Put before each window the frames that precede its chunk.

        Args:
            values: (N, W, X) of this call's windows.
            cache: (B, min(keep, start), X), what this function returned for earlier chunks.
            keep: frames of the past that any use of the result needs.
        Returns:
            (N, L + W, X), where L is `keep` or, less, the position of the last chunk; 0 before the
            utterance's start. And the cache for the next call.
        """
        N, W, X = values.shape
        C = N // self.batch
        own = values.view(self.batch, C, W, X)[:, :, : self.chunk]
        past = torch.cat([cache, own.reshape(self.batch, C * self.chunk, X)], dim=1)
        next_cache = past[:, past.shape[1] - min(keep, self.start + C * self.chunk) :]

        L = min(keep, self.start + (C - 1) * self.chunk)
        past = F.pad(past, (0, 0, L - cache.shape[1], 0))  # or cut, where the cache holds more
        left = past.unfold(1, L, self.chunk)[:, :C]  # (B, C, X, L)
        left = left.transpose(2, 3).reshape(N, L, X)
        return torch.cat([left, values], dim=1), next_cache

    def key_mask(self, context: int) -> Tensor:
        """What attention may look at in the result of `with_left`, (N, 1, context + W) bool."""
        N = len(self.mask)
        offset = torch.arange(context, device=self.mask.device) - context  # from -L to -1
        starts = self.start + self.chunk * torch.arange(N // self.batch, device=self.mask.device)
        seen = (offset >= -self.left) & (starts[:, None] + offset >= 0)
        return torch.cat([seen.repeat(self.batch, 1), self.mask], dim=1)[:, None]


class WindowedLayer(Protocol):
    """What a layer needs to encode in chunks."""

    def windowed(self, x: Tensor, windows: Windows, cache: Tensor) -> tuple[Tensor, Tensor]:
        """(N, W, X) and (B, ., cache_dim) -> (N, W, D) and the next cache."""
        ...

    @property
    def cache_dim(self) -> int:
        """Width of what is kept of a frame."""
        ...


def windowed(layers: nn.ModuleList) -> list[WindowedLayer]:
    """The layers as what they are: a ModuleList has no type for its items."""
    return [cast(WindowedLayer, layer) for layer in layers]


@dataclass(frozen=True)
class EncoderState:
    """What an encoder keeps between two steps of a stream; steps return a new one."""

    start: int
    """Frames encoded so far."""
    caches: tuple[Tensor, ...]
    """Keys and values of the last frames, one tensor for each layer."""


def windowed_attention(
    attention: SelfAttention, x: Tensor, windows: Windows, cache: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention of the frames of each window to the window and its left context.

    Args:
        x: (N, W, input_dim).
        cache: (B, ., 2 D), keys and values of earlier frames.
    Returns:
        (N, W, D) and the next cache.
    """
    D = attention.dim
    query, key_value = attention.query_key_value(x).split([D, 2 * D], dim=-1)
    key_value, cache = windows.with_left(key_value, cache, windows.left)
    key, value = key_value.chunk(2, dim=-1)
    mask = windows.key_mask(key.shape[1] - x.shape[1])
    return attention.mix(query, key, value, mask), cache


def start_state(layers: nn.ModuleList, batch: int, like: Tensor) -> EncoderState:
    """The state before the first frame; dtype and device are those of `like`."""
    return EncoderState(
        0, tuple(like.new_zeros(batch, 0, layer.cache_dim) for layer in windowed(layers))
    )


def encode_chunks(layers: nn.ModuleList, x: Tensor, lens: Tensor, stream: StreamConfig) -> Tensor:
    """Run whole utterances through the layers in chunks, all chunks at once.

    Args:
        x: (B, T, X) float, 0 in the padding.
        lens: (B,) int64, real frames.
    Returns:
        (B, T, D).
    """
    B, T, _ = x.shape
    W = stream.chunk + stream.right
    x_NWX = cut(x, stream.chunk, stream.right)
    starts = stream.chunk * torch.arange(len(x_NWX) // B, device=lens.device)
    rest_N1 = (lens[:, None] - starts).view(-1, 1)
    mask = torch.arange(W, device=lens.device) < rest_N1
    windows = Windows(batch=B, start=0, chunk=stream.chunk, left=stream.left, mask=mask)
    x_NWD, _ = run(layers, x_NWX, windows, start_state(layers, B, x).caches)
    own = x_NWD.view(B, -1, W, x_NWD.shape[2])[:, :, : stream.chunk]
    return own.flatten(1, 2)[:, :T]


def encode_step(
    layers: nn.ModuleList,
    x: Tensor,
    window_len: int,
    state: EncoderState,
    stream: StreamConfig,
) -> tuple[Tensor, EncoderState]:
    """Run one window through the layers.

    Args:
        x: (B, W, X) float, 0 from `window_len` on.
        window_len: real frames of the window.
    Returns:
        (B, min(window_len, chunk), D) and the next state.
    """
    real = torch.arange(x.shape[1], device=x.device) < window_len
    windows = Windows(
        batch=len(x),
        start=state.start,
        chunk=stream.chunk,
        left=stream.left,
        mask=real.expand(len(x), -1),
    )
    x, caches = run(layers, x, windows, state.caches)
    return x[:, : min(window_len, stream.chunk)], EncoderState(state.start + stream.chunk, caches)


def run(
    layers: nn.ModuleList, x: Tensor, windows: Windows, caches: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All layers on the windows (N, W, X) -> (N, W, D), and their next caches."""
    kept = []
    for layer, cache in zip(windowed(layers), caches, strict=True):
        x, cache = layer.windowed(x, windows, cache)
        kept.append(cache)
    return x, tuple(kept)


def cut(x: Tensor, chunk: int, right: int) -> Tensor:
    """Cut utterances into windows, padded with 0: (B, T, X) -> (N, chunk + right, X)."""
    B, T, X = x.shape
    C = -(-T // chunk)
    W = chunk + right
    padded = F.pad(x, (0, 0, 0, C * chunk + right - T))
    return padded.unfold(1, W, chunk).transpose(2, 3).reshape(B * C, W, X)


def check_step(
    stream: StreamConfig | None, feats: Tensor, input_dim: int, window_len: int, last: bool
) -> StreamConfig:
    """Raise AsrError unless a step of this encoder can take this window.

    Args:
        last: the recording ends in this window; only then may it hold fewer frames.
    """
    if stream is None:
        raise AsrError(
            "this encoder sees whole utterances and cannot take steps: train one with "
            "model.stream={chunk: 10, left: 20, right: 5}."
        )
    W = stream.chunk + stream.right
    expect(("feats_window", feats, f"B {W} {input_dim}"))
    if not 1 <= window_len <= W:
        raise AsrError(f"window_len={window_len} must be from 1 to chunk + right = {W}.")
    if window_len < W and not last:
        raise AsrError(
            f"the window has {window_len} frames of {W} (chunk + right); wait for more, "
            "or say last=True if the recording has ended."
        )
    return stream
