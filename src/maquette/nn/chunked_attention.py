"""Attention that never holds a (T, S) matrix: online softmax, with its own backward pass.

Rabe & Staats 2021 (arXiv 2112.05682) and Dao et al. 2022 (arXiv 2205.14135, algorithms 1 and 4).
Scores exist for one block of queries and keys at a time; what is kept per query is the running
maximum m, the sum ℓ of exponentials and the weighted sum of values. The backward pass computes
each block's weights again from the log-sum-exp L = m + ln ℓ.

Blocks are computed in float32 (float64 where the inputs are), whatever the inputs are.

Letters: B batch, H heads, T queries, S keys, D width of one head; b h t s sizes of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from maquette.nn.attention_tiles import Dropout, Tile, later_keys, part_of_mask, tiles

CHUNK_BYTES = 2 * 2**20
"""Scores of one block, where no budget is given: what a core's cache holds; larger ones are no
faster."""

BLOCK = 512
"""Most queries, and most keys, in a block; longer ones are no faster."""


def chunked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    dropout_p: float,
    budget: int | None = None,
) -> Tensor:
    """See `attention.attention`; `mask` is 4-d, and `budget` the bytes of one block of scores."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    most = max(1, (budget or CHUNK_BYTES) // dtype.itemsize)  # scores in a block
    plan = _Plan(
        dtype=dtype,
        shape=(*q.shape[:3], k.shape[2]),
        keys=min(BLOCK, max(1, int(most**0.5))),
        most=most,
        is_causal=is_causal,
        dropout=Dropout.drawn(dropout_p),
    )
    out: Tensor = _Chunked.apply(q, k, v, mask, plan)  # type: ignore[no-untyped-call]
    return out


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Which blocks there are; the forward and the backward pass walk the same ones."""

    dtype: torch.dtype
    shape: tuple[int, ...]  # (B, H, T, S)
    keys: int
    most: int
    is_causal: bool
    dropout: Dropout

    def tiles(self) -> Iterator[Tile]:
        """Yield blocks of samples, heads and at most `BLOCK` queries."""
        B, H, T, _ = self.shape
        rows = self.most // self.keys
        for start in range(0, T, BLOCK):
            queries = min(BLOCK, T - start)
            for tile in tiles(B, H, queries, most=rows):
                t = tile.queries
                yield tile._replace(queries=slice(start + t.start, start + t.stop))

    def key_blocks(self, tile: Tile) -> Iterator[slice]:
        """Yield the blocks of keys that a tile's queries may see."""
        S = self.shape[3]
        end = min(S, tile.queries.stop) if self.is_causal else S
        for start in range(0, end, self.keys):
            yield slice(start, min(start + self.keys, end))


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, plan: _Plan
    ) -> Tensor:
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        lse = torch.empty((*q.shape[:3], 1), dtype=plan.dtype, device=q.device)
        with torch.autocast(q.device.type, enabled=False):
            for tile in plan.tiles():
                out[tile], lse[tile] = _forward_tile(plan, tile, q, k, v, mask)
        ctx.plan = plan
        ctx.save_for_backward(q, k, v, mask, out, lse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, out, lse = ctx.saved_tensors
        grad_q = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
        # Each block of queries adds to the gradients of the keys: summed in full precision.
        grad_k = torch.zeros(k.shape, dtype=ctx.plan.dtype, device=k.device)
        grad_v = torch.zeros_like(grad_k)
        grad_mask = torch.zeros_like(mask) if ctx.needs_input_grad[3] else None
        with torch.autocast(q.device.type, enabled=False):
            for tile in ctx.plan.tiles():
                grad_q[tile] = _backward_tile(
                    ctx.plan,
                    tile,
                    (q, k, v, mask),
                    (out, lse, grad_out),
                    (grad_k, grad_v, grad_mask),
                )
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), grad_mask, None


def _forward_tile(
    plan: _Plan, tile: Tile, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return a tile's outputs (b, h, t, D) and log-sum-exps (b, h, t, 1)."""
    queries = _scaled(plan, tile, q)
    maximum = queries.new_full((*queries.shape[:3], 1), -torch.inf)
    total = torch.zeros_like(maximum)
    out = torch.zeros_like(queries)
    for keys in plan.key_blocks(tile):
        scores = _scores(plan, tile, keys, queries, k, mask)
        new_maximum = torch.maximum(maximum, scores.amax(dim=-1, keepdim=True))
        # -inf - -inf is NaN: a row that has seen no key yet is shifted by 0 instead.
        shift = new_maximum.masked_fill(new_maximum == -torch.inf, 0)
        weights = scores.sub_(shift).exp_()
        correction = (maximum - shift).exp_()
        total = total.mul_(correction).add_(weights.sum(dim=-1, keepdim=True))
        if plan.dropout.probability:
            weights *= plan.dropout.factors(weights, *tile.start, keys.start)
        out = out.mul_(correction).add_(weights @ v[(*tile[:2], keys)].to(plan.dtype))
        maximum = new_maximum
    is_empty = total == 0
    lse = maximum + total.log()
    # exp(S - inf) is 0 for every S, so the backward pass leaves rows without a key alone.
    return out / total.masked_fill_(is_empty, 1), lse.masked_fill_(is_empty, torch.inf)


def _backward_tile(
    plan: _Plan,
    tile: Tile,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor | None],
    results: tuple[Tensor, Tensor, Tensor],
    grads: tuple[Tensor, Tensor, Tensor | None],
) -> Tensor:
    """Add a tile's part to the gradients of keys, values and mask; return that of its queries.

    P = exp(S - L), dV = Pᵀ dO, dP = dO Vᵀ, dS = P ∘ (dP - rowsum(dO ∘ O)), dQ = dS K / √D,
    dK = dSᵀ Q / √D.
    """
    q, k, v, mask = inputs
    grad_k, grad_v, grad_mask = grads
    out, lse, grad_out = (x[tile] for x in results)
    grad_out = grad_out.to(plan.dtype)
    queries = _scaled(plan, tile, q)
    delta = (grad_out * out).sum(dim=-1, keepdim=True)  # (b, h, t, 1)
    grad_q = torch.zeros_like(queries)
    for keys in plan.key_blocks(tile):
        at = (*tile[:2], keys)
        weights = _scores(plan, tile, keys, queries, k, mask).sub_(lse).exp_()
        grad_weights = grad_out @ v[at].to(plan.dtype).transpose(-2, -1)
        if plan.dropout.probability:
            dropout = plan.dropout.factors(weights, *tile.start, keys.start)
            grad_weights *= dropout
            grad_v[at] += (weights * dropout).transpose(-2, -1) @ grad_out
        else:
            grad_v[at] += weights.transpose(-2, -1) @ grad_out
        grad_scores = grad_weights.sub_(delta).mul_(weights)
        grad_q += grad_scores @ k[at].to(plan.dtype)
        grad_k[at] += grad_scores.transpose(-2, -1) @ queries
        if grad_mask is not None:
            part = part_of_mask(grad_mask, tile, keys)
            part += grad_scores.sum_to_size(part.shape)
    return grad_q.mul_(_scale(q))


def _scaled(plan: _Plan, tile: Tile, q: Tensor) -> Tensor:
    return q[tile].to(plan.dtype) * _scale(q)


def _scale(q: Tensor) -> float:
    return float(q.shape[-1] ** -0.5)


def _scores(
    plan: _Plan, tile: Tile, keys: slice, queries: Tensor, k: Tensor, mask: Tensor | None
) -> Tensor:
    """Return the masked scores of a block, (b, h, t, s), in a tensor of their own."""
    scores = queries @ k[(*tile[:2], keys)].to(plan.dtype).transpose(-2, -1)
    if mask is not None:
        part = part_of_mask(mask, tile, keys)
        if mask.dtype == torch.bool:
            scores.masked_fill_(~part, -torch.inf)
        else:
            scores += part
    if plan.is_causal and keys.stop - 1 > tile.queries.start:
        scores.masked_fill_(later_keys(tile.queries, keys, scores.device), -torch.inf)
    return scores
