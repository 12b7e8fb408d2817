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

Letters: B utterances, T frames, D width, K tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer_asr.contracts import expect, expect_finite

SMALLEST_SUM = 1e-6
"""Weights of an utterance that sum to less are taken for none: scaling them up would be noise."""


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
    counts = count_tokens(ends, tail) if num_tokens is None else num_tokens.long()
    embeds = overlap_sum(hidden.float(), ends, counts)
    return embeds.to(hidden.dtype), counts


def count_tokens(ends_BT: Tensor, tail: float) -> Tensor:
    """How many tokens an utterance has at inference: floor(C_T + tail), (B,) int64."""
    total_B = ends_BT[:, -1] if ends_BT.shape[1] else ends_BT.new_zeros(len(ends_BT))
    expect_finite("the sum of alphas", total_B)  # of damaged weights nothing can be said
    return torch.floor(total_B.detach() + tail).long()


def scale_to_counts(alphas_BT: Tensor, num_tokens_B: Tensor) -> Tensor:
    """Scale each utterance's weights to sum to its number of tokens; sums near 0 become 0."""
    total_B1 = alphas_BT.sum(dim=1, keepdim=True)
    scale_B1 = num_tokens_B[:, None] / total_B1.clamp_min(SMALLEST_SUM)
    return alphas_BT * scale_B1.where(~(total_B1 < SMALLEST_SUM), 0)  # NaN stays NaN


def running_sum(alphas_BT: Tensor) -> Tensor:
    """C_t, in float64 where the device has it: a long float32 sum drifts by several 1e-5."""
    wide = alphas_BT.float() if alphas_BT.device.type == "mps" else alphas_BT.double()
    return wide.cumsum(dim=1)


def overlap_sum(hidden_BTD: Tensor, ends_BT: Tensor, counts_B: Tensor) -> Tensor:
    """E_k for all utterances at once: each frame is added into the few tokens it touches.

    Frame t touches the tokens from floor(C_{t-1}) to floor(C_t), counted from 0: one of them, or
    two where a token ends inside the frame, more only for alpha > 1. So instead of the whole
    matrix w only its s-th entry of each column is made, for s = 0, 1, ...

    Args:
        hidden_BTD: float32 or float64.
        ends_BT: C_t, non-decreasing along T.
        counts_B: int64, rows that count; the others come out 0.
    Returns:
        (B, K, D), K = the largest count, differentiable by the first two.
    """
    B, T, D = hidden_BTD.shape
    K = int(counts_B.max()) if B else 0
    if K == 0 or T == 0:
        return hidden_BTD.new_zeros(B, K, D) + 0 * hidden_BTD.sum()  # keeps the graph in one piece
    embeds: Tensor = OverlapSum.apply(  # type: ignore[no-untyped-call]
        hidden_BTD.contiguous(), ends_BT, counts_B, K
    )
    return embeds


class OverlapSum(torch.autograd.Function):
    """`overlap_sum` with its gradient written out.

    Let f be the first token that frame t touches, a = C_{t-1} - f in [0, 1) and b = C_t - f >= a.
    The frame's share of token f + s, and its derivatives, are

        w_0 = min(b, 1) - a                  dw_0/da = -1      dw_0/db = 1 if b < 1 else 0
        w_s = min(b - s, 1) if b >= s        dw_s/da = 0       dw_s/db = 1 if b - s < 1 else 0

    and of E_{f+s} += w_s h_t follow dL/dh_t = sum_s w_s g_{f+s} and dL/dw_s = <g_{f+s}, h_t>, where
    g is the gradient of E. Which tokens a frame touches is piecewise constant.

    All frames have a w_0; those with more are listed apart. On the CPU the frames are gone through
    in pieces that fit the cache, in one buffer: the products need as much memory as the frames,
    and fresh memory costs more than the arithmetic.
    """

    @staticmethod
    def forward(ctx: Any, hidden_BTD: Tensor, ends_BT: Tensor, counts_B: Tensor, K: int) -> Tensor:
        B, T, D = hidden_BTD.shape
        starts_BT = F.pad(ends_BT[:, :-1], (1, 0))
        # NaN takes part as if it lay in token 0: it reaches the loss, where it is looked for.
        first_BT = starts_BT.floor().nan_to_num_(0)
        # Relative to the first token the edges are small numbers: float32 is exact enough.
        to = (ends_BT - first_BT).to(hidden_BTD.dtype).view(-1)
        share = to.clamp(max=1) - (starts_BT - first_BT).to(hidden_BTD.dtype).view(-1)
        token_BT = first_BT.long()
        # A spare row behind each utterance's tokens takes what does not count; it is cut off again.
        base_B1 = torch.arange(0, B * (K + 1), K + 1, device=to.device)[:, None]

        def rows_of(token_BT: Tensor) -> Tensor:
            return (token_BT.where(token_BT < counts_B[:, None], K) + base_B1).view(-1)

        row = rows_of(token_BT)
        listed = [(row[:0], row[:0], share[:0])]
        for s in range(1, int(to.nan_to_num(0).max()) + 1):
            reached = (to >= s).nonzero()[:, 0]
            listed.append((reached, rows_of(token_BT + s)[reached], (to[reached] - s).clamp(max=1)))
        more_of, more_row, more_share = (torch.cat(column) for column in zip(*listed, strict=True))

        frames = hidden_BTD.view(B * T, D)
        ctx.ends_dtype = ends_BT.dtype
        ctx.save_for_backward(frames, to, row, share, more_of, more_row, more_share)
        embeds = frames.new_zeros(B * (K + 1), D)
        products = frames.new_empty(piece_size(frames), D)
        for piece, w, k in in_pieces(len(products), frames, share, row):
            product = torch.mul(piece, w[:, None], out=products[: len(piece)])
            embeds.index_add_(0, k, product)
        for i, w, k in in_pieces(len(products), more_of, more_share, more_row):
            product = torch.index_select(frames, 0, i, out=products[: len(i)])
            embeds.index_add_(0, k, product.mul_(w[:, None]))
        return embeds.view(B, K + 1, D)[:, :K]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (grad_BKD,) = grads
        frames, to, row, share, more_of, more_row, more_share = ctx.saved_tensors
        (B, _, D), T = grad_BKD.shape, len(frames) // len(grad_BKD)
        grad = F.pad(grad_BKD, (0, 0, 0, 1)).view(-1, D)  # nothing comes back from the spare rows

        grad_frames = torch.empty_like(frames)
        grad_share, grad_more = torch.empty_like(share), torch.empty_like(more_share)
        buffer = frames.new_empty(2, piece_size(frames), D)
        size = buffer.shape[1]
        pieces = in_pieces(size, frames, share, row, grad_frames, grad_share)
        for piece, w, k, grad_piece, grad_w in pieces:
            gathered = torch.index_select(grad, 0, k, out=buffer[0, : len(k)])
            torch.mul(gathered, w[:, None], out=grad_piece)
            torch.sum(gathered.mul_(piece), dim=1, out=grad_w)
        for i, w, k, grad_w in in_pieces(size, more_of, more_share, more_row, grad_more):
            gathered = torch.index_select(grad, 0, k, out=buffer[0, : len(k)])
            piece = torch.index_select(frames, 0, i, out=buffer[1, : len(i)])
            torch.sum(piece.mul_(gathered), dim=1, out=grad_w)
            grad_frames.index_add_(0, i, gathered.mul_(w[:, None]))

        grad_to = grad_share * (to < 1)
        grad_to.index_add_(0, more_of, grad_more * (more_share < 1))
        grad_ends_BT = grad_to.view(B, T)  # C_t ends frame t and starts frame t + 1
        grad_ends_BT[:, :-1] -= grad_share.view(B, T)[:, 1:]
        return grad_frames.view(B, T, D), grad_ends_BT.to(ctx.ends_dtype), None, None


def piece_size(frames: Tensor) -> int:
    """Frames to take at once: half a MiB of them on the CPU, all elsewhere."""
    num_frames, width = frames.shape
    return max(1, 2**17 // max(width, 1)) if frames.device.type == "cpu" else num_frames


def in_pieces(size: int, *columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of equal length side by side, cut into views of at most `size` rows."""
    return zip(*(torch.split(column, size) for column in columns), strict=True)


def overlap_weights(alphas: Tensor, num_tokens: int) -> Tensor:
    """The whole weight matrix w_{k,t} of the formula above, to be looked at.

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
        counts = count_tokens(running_sum(alphas), tail)
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
    padded = hidden.new_zeros(len(utterances), max(map(len, utterances)), hidden.shape[2])
    for row, fired in enumerate(utterances):
        for token, embed in enumerate(fired):
            padded[row, token] = embed
    return padded, counts
