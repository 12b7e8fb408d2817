"""Which attention a network uses where the recipe says `attention: auto`, and why."""

from __future__ import annotations

from typing import NamedTuple

import torch

SHORT = 1024
"""Up to here blocks of keys cost time. On one core, forward and backward, explicit attention takes
0.8 times as long as chunked at 257 tokens and 0.9 times at 577, but 1.4 times at 1024 and 1.3 times
at 2048 (`benchmarks/attention.py`)."""

SHARE = 0.25
"""Longer ones may fill this share of the free memory with the scores of one attention."""

SHORT_HALF = 320
"""In half precision the backward pass of the CPU's fused kernel is slow: 41 ms where the explicit
one takes 8 (16 × 12 heads, 50 tokens, one core), 33 and 14 at 197 tokens. Up to here the scores,
which the explicit one keeps, also take less than the other activations of a network."""

WIDEST_HEAD = 256
"""Wider ones have no kernel on CUDA that does without the scores."""


class AttentionChoice(NamedTuple):
    """An implementation, and the reason for it in words for the log."""

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
    trusted: str = "fused",
) -> AttentionChoice:
    """Choose by length and free memory.

    The fused kernels of CPU and CUDA never hold the scores and are the fastest at every length,
    but for short sequences in half precision on a CPU, in training. Where the scores are held, on
    MPS, they are held while they are short or small beside the free memory, and longer ones go in
    chunks.

    Args:
        batch, heads, queries, keys, head_dim: B, H, T, S and D of the largest attention.
        dtype: of q, k and v, or of the autocast around them.
        device_type: cpu, cuda or mps.
        free_bytes: what the device may still take; None: not known, taken for enough.
        needs_grad: whether a backward pass follows, which keeps the scores.
        trusted: fused or explicit, what the device's self-test found to be right.
    """
    longest = max(queries, keys)
    if device_type == "cpu" and dtype.itemsize == 2 and needs_grad and longest <= SHORT_HALF:
        return AttentionChoice(
            "explicit", f"{longest} tokens in half precision on cpu, whose kernel is slow backwards"
        )
    if trusted == "fused" and _needs_no_scores(device_type, head_dim, dtype):
        return AttentionChoice(
            "fused", f"{longest} tokens on {device_type}, whose kernel never holds their scores"
        )
    # Explicit attention's measured peak in scores: themselves, their softmax, one gradient.
    copies = 3 if needs_grad else 2
    held = batch * heads * queries * keys * max(4, dtype.itemsize) * copies
    size = f"the scores of {longest} tokens take {held / 2**20:.0f} MiB"
    if free_bytes is None:
        return AttentionChoice(trusted, size)
    room = int(free_bytes if longest <= SHORT else SHARE * free_bytes)
    of = f"of {room / 2**20:.0f} MiB that they may take"
    if held <= room:
        return AttentionChoice(trusted, f"{size} {of}")
    return AttentionChoice("chunked", f"{size} {of}, so they are never held whole")


def free_bytes_of(device: torch.device) -> int | None:
    """Return the bytes that a GPU still has; None where torch alone cannot tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def _needs_no_scores(device_type: str, head_dim: int, dtype: torch.dtype) -> bool:
    if device_type == "cuda":
        return head_dim <= WIDEST_HEAD and dtype != torch.float64
    return device_type == "cpu"
