"""Attention as its formula is written, and the same slice by slice.

Letters: B batch, H heads, T queries, S keys, D width of one head; b h t sizes of a slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from maquette.nn.attention_tiles import Dropout, Tile, later_keys, part_of_mask, tiles

SLICE_BYTES = 4 * 2**20
"""Scores of one slice, where no budget is given; larger ones are slower."""


def explicit_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    dropout_p: float,
    budget: int | None = None,  # noqa: ARG001 - all implementations have one signature
) -> Tensor:
    """See `attention.attention`; `mask` is 4-d, `budget` has no use here."""
    whole = Tile(*(slice(0, size) for size in q.shape[:3]))
    return _formula(q, k, v, mask, is_causal, Dropout.drawn(dropout_p), whole)


def sliced_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    dropout_p: float,
    budget: int | None = None,
) -> Tensor:
    """See `attention.attention`; `mask` is 4-d, and `budget` the bytes of one slice of scores.

    The backward pass computes each slice again, so in training too there is one at a time.
    """
    # Half precision scores are normalised in float32, so they count 4 bytes as well.
    row = max(1, k.shape[2] * max(4, q.element_size()))
    plan = _Plan(
        rows=(budget or SLICE_BYTES) // row, is_causal=is_causal, dropout=Dropout.drawn(dropout_p)
    )
    out: Tensor = _Sliced.apply(q, k, v, mask, plan)  # type: ignore[no-untyped-call]
    return out


def _formula(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    dropout: Dropout,
    tile: Tile,
) -> Tensor:
    """softmax(q kᵀ / √D + mask) v of a tile, whose place the causal mask and dropout need."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, H, T, S)
    if is_causal:
        scores = scores.masked_fill(
            later_keys(tile.queries, slice(0, k.shape[2]), q.device), -torch.inf
        )
    if mask is None:
        weights = _softmax(scores)
    else:
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, -torch.inf)
        else:
            scores = scores + mask
        # A row without a key is computed as if it saw all of them, then set to 0: its softmax
        # would be 0/0, and a NaN cannot be masked out of a gradient.
        is_empty = (scores == -torch.inf).all(dim=-1, keepdim=True)
        weights = _softmax(scores.masked_fill(is_empty, 0)).masked_fill(is_empty, 0)
    if dropout.probability:
        weights = weights * dropout.factors(weights, *tile.start)
    return weights.to(v.dtype) @ v


def _softmax(scores: Tensor) -> Tensor:
    half = scores.dtype in (torch.bfloat16, torch.float16)
    return torch.softmax(scores, dim=-1, dtype=torch.float32 if half else None)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    rows: int
    """Rows of scores in a slice."""
    is_causal: bool
    dropout: Dropout

    def slice(self, tile: Tile, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Return the outputs of a slice, (b, h, t, D), from its own q, k, v and mask."""
        return _formula(q, k, v, mask, self.is_causal, self.dropout, tile)


class _Sliced(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, plan: _Plan
    ) -> Tensor:
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        for tile in tiles(*q.shape[:3], most=plan.rows):
            part = None if mask is None else part_of_mask(mask, tile)
            out[tile] = plan.slice(tile, q[tile], k[tile[:2]], v[tile[:2]], part)
        ctx.plan = plan
        ctx.save_for_backward(q, k, v, mask)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask = ctx.saved_tensors
        grads = [torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v)]
        learns_mask = ctx.needs_input_grad[3]
        grad_mask = torch.zeros_like(mask) if learns_mask else None
        for tile in tiles(*q.shape[:3], most=ctx.plan.rows):
            places = (tile, tile[:2], tile[:2])
            inputs = [x[at].detach() for x, at in zip((q, k, v), places, strict=True)]
            part = None if mask is None else part_of_mask(mask, tile).detach()
            wanted = [*inputs, part] if learns_mask else inputs
            with torch.enable_grad():
                for x in wanted:
                    x.requires_grad_()
                # The sum's gradient is grad_out; torch.autograd.grad(out, …, grad_out) is slow
                # on its first call, for it imports half of sympy.
                total = (ctx.plan.slice(tile, *inputs, part) * grad_out[tile]).sum()
            parts = torch.autograd.grad(total, wanted)
            for grad, at, new in zip(grads, places, parts, strict=False):
                grad[at] += new
            if grad_mask is not None:
                part_of_mask(grad_mask, tile).add_(parts[3])
        return *grads, grad_mask, None
