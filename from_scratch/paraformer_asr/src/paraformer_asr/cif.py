"""Continuous integrate-and-fire (CIF): from encoder frames to one vector for each token.

Dong and Xu 2020 (arXiv 1905.11250), as used in Paraformer (Gao et al. 2022, arXiv 2206.08317).

Each frame t has a weight alpha_t >= 0: how much of a token it carries. With the running sum
C_t = alpha_1 + ... + alpha_t (C_0 = 0), frame t occupies the interval [C_{t-1}, C_t] on an axis of
weight, and token k occupies [k - 1, k]. A frame gives each token the overlap of the two intervals:

    w_{k,t} = max(0, min(C_t, k) - max(C_{t-1}, k - 1)),        E_k = sum_t w_{k,t} h_t

So a frame may lie in one token, be shared by two, or (alpha > 1) span several. This is what the
usual loop computes by integrating until the sum reaches 1 and firing (`integrate_and_fire_loop`),
without its loop, and it is right where the loop is not: for alpha > 1, and for the last token when
rounding leaves the sum a hair below a whole number.

Letters: B utterances, T frames, D width, K tokens; N blocks of F frames, W tokens a block reaches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer_asr.contracts import expect

BLOCK = 32
"""Frames computed together. A block reaches few tokens, so the weights are a narrow band."""


def integrate_and_fire(
    hidden: Tensor, alphas: Tensor, *, num_tokens: Tensor | None = None, tail: float = 0.45
) -> tuple[Tensor, Tensor]:
    """Sum frames into tokens by their weights.

    Args:
        hidden: (B, T, D) float, finite also in the padding.
        alphas: (B, T) float >= 0, exactly 0 where padded.
        num_tokens: (B,) int64 >= 0. Given (training), each utterance's alphas are scaled to sum to
            it; gradients flow through the scaling. None (inference) leaves them as they are.
        tail: at inference, added to the sum before it is rounded down to a number of tokens: what
            remains after the last whole token becomes a token too if it is at least 1 - tail.
    Returns:
        embeds: (B, K, D) in the dtype of `hidden`, K = the largest count; rows from an utterance's
            count on are 0. The last token of an inference may hold a total weight below 1.
        counts: (B,) int64: num_tokens, or floor(sum of alphas + tail).
    """
    expect(("hidden", hidden, "B T D"), ("alphas", alphas, "B T"))
    alphas = alphas.float()
    if num_tokens is not None:
        expect(("alphas", alphas, "B T"), ("num_tokens", num_tokens, "B"))
        alphas = scale_to_counts(alphas, num_tokens)
    ends = running_sum(alphas)  # (B, T)
    if num_tokens is None:
        total = ends[:, -1] if ends.shape[1] else ends.new_zeros(len(ends))
        counts = torch.floor(total.detach() + tail).long()
    else:
        counts = num_tokens.long()
    embeds = overlap_sum(hidden.float(), ends, counts)
    return embeds.to(hidden.dtype), counts


def scale_to_counts(alphas_BT: Tensor, num_tokens_B: Tensor) -> Tensor:
    """Scale each utterance's weights to sum to its number of tokens; all-zero weights stay 0."""
    total_B1 = alphas_BT.sum(dim=1, keepdim=True)
    smallest = torch.finfo(alphas_BT.dtype).tiny
    return alphas_BT * (num_tokens_B[:, None] / total_B1.clamp_min(smallest))


def running_sum(alphas_BT: Tensor) -> Tensor:
    """C_t, in float64 where the device has it: a long float32 sum drifts by several 1e-5."""
    wide = alphas_BT.float() if alphas_BT.device.type == "mps" else alphas_BT.double()
    return wide.cumsum(dim=1)


def overlap_sum(hidden_BTD: Tensor, ends_BT: Tensor, counts_B: Tensor) -> Tensor:
    """E_k for all utterances at once, block by block of frames.

    All frames of a block lie between C at its start and C at its end, so only tokens from
    floor(C at its start) on can meet it: W of them, and the block's sum is a (W, F) x (F, D)
    product. The blocks' sums are then added into the rows of their tokens.

    Args:
        hidden_BTD: float32.
        ends_BT: C_t, non-decreasing along T.
        counts_B: int64, rows that count; the others come out 0.
    Returns:
        (B, K, D), K = the largest count.
    """
    B, T, D = hidden_BTD.shape
    K = int(counts_B.max()) if B else 0
    if K == 0 or T == 0:
        return hidden_BTD.sum() * 0 + hidden_BTD.new_zeros(B, K, D)
    N = -(-T // BLOCK)
    starts_BT = F.pad(ends_BT[:, :-1], (1, 0))
    padding = N * BLOCK - T
    if padding:  # frames of weight 0: they start and end at the total
        hidden_BTD = F.pad(hidden_BTD, (0, 0, 0, padding))
        starts_BT = torch.cat([starts_BT, ends_BT[:, -1:].expand(B, padding)], dim=1)
        ends_BT = torch.cat([ends_BT, ends_BT[:, -1:].expand(B, padding)], dim=1)

    starts_BNF, ends_BNF = starts_BT.view(B, N, BLOCK), ends_BT.view(B, N, BLOCK)
    first_BN = starts_BNF[:, :, 0].detach().floor()
    W = int((ends_BNF[:, :, -1].detach().ceil() - first_BN).max().clamp(1, K))
    # Token edges relative to the block's first token are small numbers: float32 is exact enough.
    from_BNF = (starts_BNF - first_BN[..., None]).float()[:, :, None, :]
    to_BNF = (ends_BNF - first_BN[..., None]).float()[:, :, None, :]
    edge_W = torch.arange(W, device=hidden_BTD.device, dtype=torch.float32)[:, None]
    weights_BNWF = (to_BNF - edge_W).clamp(0, 1) - (from_BNF - edge_W).clamp(0, 1)

    blocks_BNFD = hidden_BTD.view(B, N, BLOCK, D)
    sums_BNWD = torch.matmul(weights_BNWF, blocks_BNFD)
    token_BNW = first_BN.long()[..., None] + torch.arange(W, device=hidden_BTD.device)
    counted = token_BNW < counts_B[:, None, None]
    row_BNW = token_BNW + (K + 1) * torch.arange(B, device=hidden_BTD.device)[:, None, None]
    spare = K + (K + 1) * torch.arange(B, device=hidden_BTD.device)[:, None, None]
    row_BNW = torch.where(counted, row_BNW, spare)  # a row more per utterance, cut off below
    embeds = hidden_BTD.new_zeros(B * (K + 1), D)
    embeds = embeds.index_add(0, row_BNW.reshape(-1), sums_BNWD.reshape(-1, D))
    return embeds.view(B, K + 1, D)[:, :K]


def overlap_weights(alphas: Tensor, num_tokens: int) -> Tensor:
    """The whole weight matrix w_{k,t} of the formula above, for pictures and tests.

    Args:
        alphas: (B, T) float >= 0, already scaled if they are to be.
        num_tokens: K, rows to make.
    Returns:
        (B, K, T) float32; a frame's column sums to its alpha as long as K covers the total.
    """
    ends = running_sum(alphas)[:, None, :]
    starts = F.pad(ends[..., :-1], (1, 0))
    lower = torch.arange(num_tokens, device=alphas.device, dtype=ends.dtype)[:, None]
    return (torch.minimum(ends, lower + 1) - torch.maximum(starts, lower)).clamp_min(0).float()


def fire_frames(alphas: Tensor, num_tokens: int) -> Tensor:
    """The frame at which each token's weight is complete.

    Args:
        alphas: (T,) float >= 0 of one utterance.
        num_tokens: K.
    Returns:
        (K,) float32: the position on the frame axis (0 = the start of the first frame) where the
        running sum reaches k = 1..K, between frames by linear interpolation; T for a token whose
        weight never completes.
    """
    ends = running_sum(alphas[None])[0]
    goals = torch.arange(1, num_tokens + 1, device=alphas.device, dtype=ends.dtype)
    # Rounding may leave the sum a hair below a whole number that was meant.
    index = torch.searchsorted(ends + 1e-6, goals)
    inside = index.clamp_max(max(len(alphas) - 1, 0))
    before = F.pad(ends, (1, 0))[inside]
    part = ((goals - before) / alphas[inside].clamp_min(1e-8)).clamp(0, 1)
    return torch.where(index < len(alphas), inside + part, len(alphas)).float()


def integrate_and_fire_loop(
    hidden: Tensor, alphas: Tensor, *, num_tokens: Tensor | None = None, tail: float = 0.45
) -> tuple[Tensor, Tensor]:
    """The same as `integrate_and_fire`, as the textbook tells it: one frame after the other.

    Kept to be read and to test the fast form against; arguments and results are the same.
    """
    alphas = alphas.float()
    if num_tokens is not None:
        alphas = scale_to_counts(alphas, num_tokens)
        counts = num_tokens.long()
    else:
        counts = torch.floor(running_sum(alphas)[:, -1].detach() + tail).long()
    utterances = []
    for weights, frames, count in zip(alphas, hidden.float(), counts.tolist(), strict=True):
        fired: list[Tensor] = []
        integrated = weights.new_zeros(())
        summed = torch.zeros_like(frames[0])
        for weight, frame in zip(weights, frames, strict=True):
            left = weight
            while integrated + left >= 1:  # `while`: a frame above 1 fills more than one token
                missing = 1 - integrated
                fired.append(summed + missing * frame)
                left = left - missing
                integrated, summed = torch.zeros_like(integrated), torch.zeros_like(summed)
            integrated = integrated + left
            summed = summed + left * frame
        fired.append(summed)  # the rest: a token if it counts, a little below or above 1 - tail
        fired += [torch.zeros_like(summed)] * (count - len(fired))
        utterances.append(fired[:count])
    most = max(len(fired) for fired in utterances)
    nothing = torch.zeros_like(hidden[0, 0], dtype=torch.float32)
    rows = [
        torch.stack([*f, *[nothing] * (most - len(f))])
        if most
        else hidden.new_zeros(0, hidden.shape[2])
        for f in utterances
    ]
    return torch.stack(rows).to(hidden.dtype), counts
