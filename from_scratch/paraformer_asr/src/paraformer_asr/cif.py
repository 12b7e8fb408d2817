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
        hidden_BTD: float32.
        ends_BT: C_t, non-decreasing along T.
        counts_B: int64, rows that count; the others come out 0.
    Returns:
        (B, K, D), K = the largest count.
    """
    B, T, D = hidden_BTD.shape
    K = int(counts_B.max()) if B else 0
    if K == 0 or T == 0:
        return hidden_BTD.new_zeros(B, K, D) + 0 * hidden_BTD.sum()  # keeps the graph in one piece
    starts_BT = F.pad(ends_BT[:, :-1], (1, 0))
    # NaN takes part as if it stood in the first token: it reaches the loss, where it is looked for.
    first_BT = starts_BT.detach().floor().nan_to_num(0)
    touched = int((ends_BT.detach().floor().nan_to_num(0) - first_BT).max()) + 1
    # Relative to the frame's first token the edges are small numbers: float32 is exact enough.
    from_BT = (starts_BT - first_BT).float()
    to_BT = (ends_BT - first_BT).float()
    # A spare row behind each utterance's tokens takes what does not count; it is cut off again.
    utterance_B1 = torch.arange(B, device=hidden_BTD.device)[:, None] * (K + 1)
    everything = torch.arange(B * T, device=hidden_BTD.device)
    shares, rows, reached = [], [], []
    for s in range(touched):
        token_BT = first_BT.long() + s
        token_BT = torch.where(token_BT < counts_B[:, None], token_BT, K)
        share_BT = (to_BT - s).clamp(0, 1) - (from_BT - s).clamp(0, 1)
        # All frames for s = 0, after that only those that fire.
        frame = (to_BT >= s).view(-1).nonzero()[:, 0] if s else everything
        reached.append(frame)
        shares.append(share_BT.view(-1)[frame])
        rows.append((utterance_B1 + token_BT).view(-1)[frame])
    embeds: Tensor = AddRows.apply(  # type: ignore[no-untyped-call]
        hidden_BTD.reshape(B * T, D),
        shares[0],
        rows[0],
        torch.cat([shares[0][:0], *shares[1:]]),
        torch.cat([rows[0][:0], *rows[1:]]),
        torch.cat([everything[:0], *reached[1:]]),
        B * (K + 1),
    )
    return embeds.view(B, K + 1, D)[:, :K]


class AddRows(torch.autograd.Function):
    """Each frame, times its share, is added to a row of the result; some frames to another row too.

    E[rows[i]] += shares[i] * frames[i] for every frame i, then for the few more,
    E[more_rows[j]] += more_shares[j] * frames[more_of[j]]. So frames[i] receives the gradient
    shares[i] * grad_E[rows[i]], and shares[i] the scalar product of grad_E[rows[i]] and frames[i].

    This is `index_add` of products with its gradient, but on the CPU it goes in pieces that fit the
    cache and reuses one buffer: the products need as much memory as the frames, and fresh memory
    costs more than the arithmetic.
    """

    @staticmethod
    def forward(
        ctx: Any,
        frames: Tensor,
        shares: Tensor,
        rows: Tensor,
        more_shares: Tensor,
        more_rows: Tensor,
        more_of: Tensor,
        num_rows: int,
    ) -> Tensor:
        """frames (M, D), shares (M,), more_shares (P,) float; the others int64 -> (num_rows, D)."""
        ctx.save_for_backward(frames, shares, rows, more_shares, more_rows, more_of)
        result = frames.new_zeros(num_rows, frames.shape[1])
        products = frames.new_empty(piece_size(frames), frames.shape[1])
        for frame, share, row in in_pieces(len(products), frames, shares, rows):
            product = torch.mul(frame, share[:, None], out=products[: len(frame)])
            result.index_add_(0, row, product)
        more = frames.index_select(0, more_of).mul_(more_shares[:, None])
        return result.index_add_(0, more_rows, more)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        frames, shares, rows, more_shares, more_rows, more_of = ctx.saved_tensors
        grad_frames, grad_shares = torch.empty_like(frames), torch.empty_like(shares)
        products = frames.new_empty(piece_size(frames), frames.shape[1])
        pieces = in_pieces(len(products), frames, shares, rows, grad_frames, grad_shares)
        for frame, share, row, grad_frame, grad_share in pieces:
            of_row = torch.index_select(grad, 0, row, out=products[: len(row)])
            torch.mul(of_row, share[:, None], out=grad_frame)
            torch.sum(of_row.mul_(frame), dim=1, out=grad_share)
        of_row = grad.index_select(0, more_rows)
        grad_more = (of_row * frames.index_select(0, more_of)).sum(dim=1)
        grad_frames.index_add_(0, more_of, of_row.mul_(more_shares[:, None]))
        return grad_frames, grad_shares, None, grad_more, None, None, None


def piece_size(frames: Tensor) -> int:
    """Frames to take at once: half a MiB of them on the CPU, all elsewhere."""
    num_frames, width = frames.shape
    return max(1, 2**17 // max(width, 1)) if frames.device.type == "cpu" else num_frames


def in_pieces(size: int, *columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of equal length side by side, cut into views of at most `size` rows."""
    return zip(*(torch.split(column, size) for column in columns), strict=True)


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
