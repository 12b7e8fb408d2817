"""Which attention a network uses where the recipe says `attention: auto`, and why."""

from __future__ import annotations

from typing import NamedTuple

import torch

SHORT = 1024
"""Sequences up to here never need chunks: their scores are small beside the other activations."""

SHARE = 0.25
"""The scores of one attention may take this share of the free memory, and no more."""


class AttentionChoice(NamedTuple):
    """An implementation and the reason for it, one sentence for the log."""

    impl: str
    reason: str


def choose_attention(
    *,
    batch: int,
    heads: int,
    queries: int,
    keys: int,
    head_dim: int,
    dtype: torch.dtype,
    device_type: str,
    free_bytes: int | None,
    needs_grad: bool,
) -> AttentionChoice:
    """Choose by length and free memory.

    Args:
        batch, heads, queries, keys, head_dim: B, H, T, S and D of the largest attention.
        dtype: of q, k and v, or of the autocast around them.
        device_type: cpu, cuda or mps.
        free_bytes: what the device may still take; None: not known.
        needs_grad: whether a backward pass follows, which keeps the scores.
    """
    longest = max(queries, keys)
    # Scores, their softmax, and in training both again for the gradient.
    scores = batch * heads * queries * keys * max(4, dtype.itemsize) * (2 if needs_grad else 1)
    size = f"{batch}·{heads}·{queries}·{keys} scores take {scores / 2**20:.0f} MiB"
    if device_type != "mps" and head_dim <= 256:
        return AttentionChoice(
            "fused", f"{longest} tokens on {device_type}, whose kernel never holds the scores"
        )
    if longest <= SHORT and (free_bytes is None or scores <= free_bytes):
        return AttentionChoice("fused", f"{longest} tokens, no more than {SHORT}: {size}")
    if free_bytes is None or scores <= SHARE * free_bytes:
        return AttentionChoice("fused", f"{size}, which fit in memory")
    return AttentionChoice(
        "chunked", f"{size}, of {free_bytes / 2**20:.0f} MiB that are free: too much to hold"
    )


def free_bytes_of(device: torch.device) -> int | None:
    """Bytes that a GPU still has; None where torch alone cannot tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None
