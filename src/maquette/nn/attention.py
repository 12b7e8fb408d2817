"""Scaled dot-product attention, four ways to the same numbers (Vaswani et al. 2017, eq. 1).

    softmax(q kᵀ / √D + mask) v

`ATTENTIONS` is the whole list. They differ in the memory that the (T, S) scores take and in speed:

- explicit: the formula as written; all B·H·T·S scores, and their softmax for the backward pass.
- fused: PyTorch's kernel; on CPU and CUDA it does without the scores, on MPS it holds them.
- sliced: the formula on slices of samples, heads and queries, computed again in the backward pass.
- chunked: online softmax over blocks of queries and keys (`chunked_attention.py`).

Letters: B batch, H heads, T queries, S keys, D width of one head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from maquette.nn.attention_choice import choose_attention, free_bytes_of
from maquette.nn.attention_tiles import later_keys
from maquette.nn.chunked_attention import chunked_attention
from maquette.nn.explicit_attention import explicit_attention, sliced_attention


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
    if torch.is_autocast_enabled(q.device.type) and q.dtype != torch.float64:
        # As autocast does for PyTorch's own kernel: all implementations see the same numbers.
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    if impl == "auto":
        impl, budget = _chosen(q, k, v, budget), None
    return ATTENTIONS[impl](q, k, v, mask, is_causal, dropout_p, budget)


def fused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    dropout_p: float,
    budget: int | None = None,  # noqa: ARG001
) -> Tensor:
    """PyTorch's kernel, which takes a mask or a causal one but not both, and masks of q's type."""
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(q.dtype)
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
        mask = mask.clamp(min=lowest)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p)
    return out.masked_fill(~visible.any(dim=-1, keepdim=True), 0)


ATTENTIONS: Mapping[str, Callable[..., Tensor]] = {
    "explicit": explicit_attention,
    "fused": fused_attention,
    "sliced": sliced_attention,
    "chunked": chunked_attention,
}
"""Name in a recipe -> function of (q, k, v, mask, is_causal, dropout_p, budget)."""


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
    if mask is not None and mask.dtype != torch.bool and not mask.is_floating_point():
        raise ValueError(
            f"The attention mask is {mask.dtype}, expected torch.bool (True where a query may "
            "look) or a float type (added to the scores)."
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
