"""Multi-head attention, written out (Vaswani et al. 2017, arXiv 1706.03762, section 3.2).

`MultiHeadAttention` lets queries look at a memory (the decoder at the encoder); `SelfAttention`
lets a sequence look at itself. Both end in `attend`, which is the formula alone:

    weights = softmax(Q K' / sqrt(P)),    output = weights V, heads side by side, times W_out

In: float (B, T, D) and a bool mask, True = may be looked at. Out: float (B, Q, D). A query that may
look at nothing gets the output 0 and passes no gradient on.

Letters: B utterances, Q queries, T frames of the memory, D width, H heads, P = D / H width of a
head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paraformer_asr.contracts import expect, expect_dtype
from paraformer_asr.dropout import dropout as drop


class MultiHeadAttention(nn.Module):
    """Each query becomes a mixture of the memory.

    Args:
        dim: D of the output, divisible by `heads`.
        heads: H.
        dropout: probability of dropping a weight in training.
        query_dim: width of the queries, if it is not `dim`.
        memory_dim: width of the memory, if it is not `dim`.
    """

    def __init__(
        self,
        *,
        dim: int,
        heads: int,
        dropout: float,
        query_dim: int | None = None,
        memory_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.dropout = dim, heads, dropout
        self.query = xavier(nn.Linear(query_dim or dim, dim))
        self.key_value = xavier(nn.Linear(memory_dim or dim, 2 * dim), parts=2)
        self.out = xavier(nn.Linear(dim, dim))

    def forward(self, query: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix the memory for each query.

        Args:
            query: (B, Q, query_dim) float; Q may be 0.
            memory: (B, T, memory_dim) float, finite also where masked.
            mask: (B, 1, T) or (B, Q, T) bool, True where the query may look; None: everywhere.
        Returns:
            (B, Q, D).
        Raises:
            AsrError: shapes that do not fit together, or a mask that is not bool.
        """
        mixed, _ = self._mix(query, memory, mask)
        return nothing_where_blind(self.out(mixed), mask)

    def attend(
        self, query: Tensor, memory: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, and also the weights of each head, (B, H, Q, T), for pictures.

        A row of weights sums to 1 (before dropout), or is 0 for a query that may look at nothing.
        """
        mixed, weights = self._mix(query, memory, mask)
        seen = None if mask is None else mask[:, None]
        return nothing_where_blind(self.out(mixed), mask), nothing_where_blind(weights, seen)

    def _mix(self, query: Tensor, memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        check_mask(("query", query), ("memory", memory), mask)
        key, value = self.key_value(memory).chunk(2, dim=-1)
        dropout = self.dropout if self.training else 0.0
        return attend(self.query(query), key, value, mask, heads=self.heads, dropout=dropout)


class SelfAttention(nn.Module):
    """Each frame becomes a mixture of all frames; one product makes queries, keys and values.

    Args: as `MultiHeadAttention`; `input_dim` is the width of the input, if it is not `dim`.
    """

    def __init__(
        self, *, dim: int, heads: int, dropout: float, input_dim: int | None = None
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.dropout = dim, heads, dropout
        self.query_key_value = xavier(nn.Linear(input_dim or dim, 3 * dim), parts=3)
        self.out = xavier(nn.Linear(dim, dim))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix frames, (B, T, input_dim) -> (B, T, D).

        Args:
            x: float, finite also in the padding.
            mask: (B, 1, T) or (B, T, T) bool, True where a frame may be looked at.
        """
        check_mask(("x", x), ("x", x), mask)
        query, key, value = self.query_key_value(x).chunk(3, dim=-1)
        return self.mix(query, key, value, mask)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """The attention of vectors already projected: (B, Q, D), (B, T, D) twice -> (B, Q, D)."""
        dropout = self.dropout if self.training else 0.0
        mixed, _ = attend(query, key, value, mask, heads=self.heads, dropout=dropout)
        return nothing_where_blind(self.out(mixed), mask)


def attend(
    query_BQD: Tensor,
    key_BTD: Tensor,
    value_BTD: Tensor,
    mask: Tensor | None,
    *,
    heads: int,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """softmax(Q K' / sqrt(P)) V of each head.

    Args:
        mask: (B, 1, T) or (B, Q, T) bool, True where a query may look; None: everywhere.
        dropout: probability of dropping a weight; 0 outside training.
    Returns:
        (B, Q, D), heads side by side, and the weights before dropout, (B, H, Q, T). Rows of queries
        that may look at nothing hold finite numbers without meaning: see `nothing_where_blind`.
    """
    P = query_BQD.shape[2] // heads
    query, key = split_heads(query_BQD, heads), split_heads(key_BTD, heads)
    # One call makes scale * Q K' + bias: the scores are the largest tensor here, and every pass
    # over them counts.
    bias = query.new_zeros(()) if mask is None else mask_bias(mask, heads, key.dtype)
    scores = torch.baddbmm(
        bias, query, key.transpose(1, 2), beta=0 if mask is None else 1, alpha=P**-0.5
    )
    return mix_values(scores, value_BTD, heads=heads, dropout=dropout)


def mix_values(
    scores: Tensor, value_BTD: Tensor, *, heads: int, dropout: float
) -> tuple[Tensor, Tensor]:
    """From scores (B H, Q, T) to mixtures of values (B, Q, D) and the weights (B, H, Q, T)."""
    B, T, D = value_BTD.shape
    Q = scores.shape[1]
    weights = scores.softmax(dim=-1)
    mixed = torch.bmm(drop(weights, dropout).to(value_BTD.dtype), split_heads(value_BTD, heads))
    mixed_BQD = mixed.view(B, heads, Q, D // heads).transpose(1, 2).reshape(B, Q, D)
    return mixed_BQD, weights.view(B, heads, Q, T)


def split_heads(x_BTD: Tensor, heads: int) -> Tensor:
    """(B, T, D) -> (B H, T, P); the heads of an utterance follow each other."""
    B, T, D = x_BTD.shape
    return x_BTD.view(B, T, heads, D // heads).transpose(1, 2).reshape(B * heads, T, D // heads)


def mask_bias(mask: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """What to add to the scores: 0 where the mask is True, else a number whose exp is 0.

    A finite number, because a row of -inf only would be NaN after softmax and in its gradient;
    half of the lowest, so that adding a score to it cannot overflow.

    Args:
        mask: (B, 1 or Q, T) bool.
    Returns:
        (B H, 1 or Q, T).
    """
    B, Q, T = mask.shape
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    bias = bias.masked_fill_(~mask, torch.finfo(dtype).min / 2)
    return bias[:, None].expand(B, heads, Q, T).reshape(B * heads, Q, T)


def nothing_where_blind(output: Tensor, mask: Tensor | None) -> Tensor:
    """Set rows of queries that may look at nothing to 0.

    Args:
        output: (..., Q, D).
        mask: (..., 1 or Q, T) bool, or None: all may look.
    """
    if mask is None:
        return output
    return output.masked_fill(~mask.any(dim=-1, keepdim=True), 0)


def check_mask(query: tuple[str, Tensor], memory: tuple[str, Tensor], mask: Tensor | None) -> None:
    """Raise AsrError unless queries, memory and mask belong together."""
    if mask is None:
        expect((*query, "B Q _"), (*memory, "B T _"))
        return
    rows = "1" if mask.ndim == 3 and mask.shape[1] == 1 else "Q"
    expect((*query, "B Q _"), (*memory, "B T _"), ("mask", mask, f"B {rows} T"))
    expect_dtype("mask", mask, torch.bool)


def xavier(linear: nn.Linear, *, parts: int = 1) -> nn.Linear:
    """Xavier-uniform weights (Glorot and Bengio 2010) and biases 0.

    Args:
        parts: matrices stacked in the weight, each drawn by its own size: a fused layer starts as
            separate ones would.
    """
    for weight in linear.weight.chunk(parts):
        nn.init.xavier_uniform_(weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear
