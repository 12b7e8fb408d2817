"""Scaled dot-product attention, four ways to the same numbers (Vaswani et al. 2017, eq. 1).

    softmax(q kᵀ / √D + mask) v

`ATTENTIONS` is the whole list. They differ in the memory that the (T, S) scores take and in speed:

- explicit: the formula as written; all B·H·T·S scores, twice in training.
- fused: PyTorch's kernel; on CPU and CUDA it never holds the scores, on MPS it does.
- sliced: the formula on slices of samples, heads and queries, computed again in the backward pass.
- chunked: online softmax over blocks of queries and keys (`chunked_attention.py`).

Letters: B batch, H heads, T queries, S keys, D width of one head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from maquette.nn.attention_choice import choose_attention, free_bytes_of
from maquette.nn.attention_tiles import later_keys, part_of_mask, tiles
from maquette.nn.chunked_attention import chunked_attention

SLICE_BYTES = 16 * 2**20
"""Scores of one slice, where no budget is given: large enough for full speed on every device."""


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    impl: str = "fused",
    dropout_p: float = 0.0,
    budget: int | None = None,
) -> Tensor:
    """Let every query gather the values of the keys it matches.

    Args:
        q: (B, H, T, D) queries, any float type, any strides.
        k: (B, H, S, D) keys.
        v: (B, H, S, D) values.
        mask: broadcastable to (B, H, T, S): bool, True where a query may look at a key; or float,
            added to the scores.
        is_causal: query t sees keys 0 … t only, together with `mask` where both are given.
        impl: a key of `ATTENTIONS`, or auto: `choose_attention` decides.
        dropout_p: share of the weights set to zero, the others scaled up, in [0, 1). It is always
            applied: pass 0 in evaluation. Implementations draw different weights.
        budget: sliced, chunked: bytes of scores held at a time; auto: bytes that are free.
    Returns:
        (B, H, T, D), contiguous or not. A query whose keys are all masked gets 0 and passes no
        gradient.
    Raises:
        ValueError: shapes that do not fit, an unknown `impl`, a value out of its range.
    """
    _check(q, k, v, mask, impl, dropout_p, budget)
    if mask is not None:
        mask = mask[(None,) * (4 - mask.ndim)]
    if impl == "auto":
        impl = _chosen(q, k, v, budget)
    return ATTENTIONS[impl](q, k, v, mask, is_causal, dropout_p, budget)


def explicit_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    dropout_p: float,
    budget: int | None = None,  # noqa: ARG001 - one signature for all
    *,
    first_query: int = 0,
) -> Tensor:
    """The formula; `first_query` is the place of q's first row in its sequence."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, H, T, S)
    visible = None
    if mask is not None and mask.dtype != torch.bool:
        scores = scores + mask
        visible = mask > -torch.inf
    elif mask is not None:
        visible = mask
    if is_causal:
        queries = slice(first_query, first_query + q.shape[2])
        earlier = ~later_keys(queries, slice(0, k.shape[2]), q.device)
        visible = earlier if visible is None else visible & earlier
    if visible is None:
        weights = _softmax(scores)
    else:
        # A row without a key is computed as if it saw all of them, then set to 0: its softmax
        # would be 0/0, and a NaN cannot be masked out of a gradient.
        is_empty = ~visible.any(dim=-1, keepdim=True)
        weights = _softmax(
            scores.masked_fill(~visible, -torch.inf).masked_fill(is_empty, 0)
        ).masked_fill(is_empty, 0)
    weights = F.dropout(weights, dropout_p) if dropout_p else weights
    return weights.to(v.dtype) @ v


def fused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    dropout_p: float,
    budget: int | None = None,  # noqa: ARG001
) -> Tensor:
    """PyTorch's kernel, which takes a mask or a causal one but not both."""
    if mask is not None and is_causal:
        later = later_keys(slice(0, q.shape[2]), slice(0, k.shape[2]), q.device)
        hidden = False if mask.dtype == torch.bool else -torch.inf
        mask, is_causal = mask.masked_fill(later, hidden), False
    if q.device.type == "mps":
        return fused_for_mps(q, k, v, mask, is_causal, dropout_p)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=is_causal, dropout_p=dropout_p
    )


def fused_for_mps(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    dropout_p: float,
) -> Tensor:
    """The fused kernel within what MPS computes correctly.

    Its kernels were wrong for inputs that are not contiguous (pytorch issues 163597 and 181133)
    and gave NaN for rows without a key (167515). So inputs are made contiguous and masks finite,
    and rows without a key are set to 0 afterwards.
    """
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=is_causal, dropout_p=dropout_p)
    lowest = -1e4 if q.dtype == torch.float16 else -1e9
    if mask.dtype == torch.bool:
        visible = mask
        mask = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill(~mask, lowest)
    else:
        visible = mask > -torch.inf
        mask = mask.to(q.dtype).clamp(min=lowest)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p)
    return out.masked_fill(~visible.any(dim=-1, keepdim=True), 0)


def sliced_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    dropout_p: float,
    budget: int | None = None,
) -> Tensor:
    """The formula, slice after slice; each is computed again when its gradient is needed."""
    (B, H, T, _), S = q.shape, k.shape[2]
    # Half precision scores are normalised in float32, so 4 bytes are what counts there too.
    most = max(1, (budget or SLICE_BYTES) // max(1, S * max(4, q.element_size())))
    needs_grad = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (q, k, v, mask)
    )
    out: list[list[list[Tensor]]] = []
    for tile in tiles(B, H, T, most=most):
        compute = partial(explicit_attention, first_query=tile.queries.start)
        if needs_grad:
            compute = partial(
                checkpoint, compute, use_reentrant=False, preserve_rng_state=dropout_p > 0
            )
        part = compute(
            q[tile],
            k[tile[:2]],
            v[tile[:2]],
            None if mask is None else part_of_mask(mask, tile),
            is_causal,
            dropout_p,
        )
        if tile.heads.start == tile.queries.start == 0:
            out.append([])
        if tile.queries.start == 0:
            out[-1].append([])
        out[-1][-1].append(part)
    if not out:
        return q.new_zeros(q.shape)
    return torch.cat([torch.cat([torch.cat(h, dim=2) for h in b], dim=1) for b in out])


ATTENTIONS: Mapping[str, Callable[..., Tensor]] = {
    "explicit": explicit_attention,
    "fused": fused_attention,
    "sliced": sliced_attention,
    "chunked": chunked_attention,
}
"""Name in a recipe -> function of (q, k, v, mask, is_causal, dropout_p, budget)."""


def _softmax(scores: Tensor) -> Tensor:
    half = scores.dtype in (torch.bfloat16, torch.float16)
    return torch.softmax(scores, dim=-1, dtype=torch.float32 if half else None)


def _chosen(q: Tensor, k: Tensor, v: Tensor, budget: int | None) -> str:
    return choose_attention(
        batch=q.shape[0],
        heads=q.shape[1],
        queries=q.shape[2],
        keys=k.shape[2],
        head_dim=q.shape[3],
        dtype=q.dtype,
        device_type=q.device.type,
        free_bytes=budget if budget is not None else free_bytes_of(q.device),
        needs_grad=torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)),
    ).impl


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    impl: str,
    dropout_p: float,
    budget: int | None,
) -> None:
    if impl != "auto" and impl not in ATTENTIONS:
        raise ValueError(f"Unknown attention {impl!r}. Available: auto, {', '.join(ATTENTIONS)}.")
    if not (
        q.ndim == k.ndim == 4
        and k.shape == v.shape
        and q.shape[:2] == k.shape[:2]
        and q.shape[3] == k.shape[3]
    ):
        raise ValueError(
            f"Attention got q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)}, "
            "expected (B, H, T, D), (B, H, S, D) and (B, H, S, D)."
        )
    scores = (*q.shape[:3], k.shape[2])
    if mask is not None and not _broadcasts(tuple(mask.shape), scores):
        raise ValueError(
            f"The attention mask is {tuple(mask.shape)}, expected what broadcasts to "
            f"(B, H, T, S) = {scores}."
        )
    if not 0 <= dropout_p < 1:
        raise ValueError(f"dropout_p is {dropout_p}, expected a share in [0, 1).")
    if budget is not None and budget < 1:
        raise ValueError(f"budget is {budget} bytes, expected at least 1.")


def _broadcasts(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(given) <= len(wanted) and all(
        a in (1, b) for a, b in zip(given[::-1], wanted[::-1], strict=False)
    )
