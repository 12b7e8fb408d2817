"""Connectionist temporal classification, the loss of the auxiliary head on the encoder.

Graves et al. 2006 (ICML, "Connectionist Temporal Classification"): section 4.1 the forward-backward
algorithm, section 4.2 the gradient.

In: logits over the vocabulary for each encoder frame, and the tokens of each utterance. Out: for
each utterance -ln p(tokens | logits), where p sums over all ways to spell the tokens in T frames:
every token lasts one frame or more, blanks may stand anywhere, and must between equal neighbours.

A spelling is a walk over the places of the tokens with blanks around them,

    place     0  1  2  3  4  ...  2K        labels l' = blank, token 1, blank, token 2, ..., blank

that stays, goes one place on, or skips the blank between two different tokens. With y_t(v) the
softmax of frame t, the forward and backward variables are sums over the walks that stand at s:

    A_t(s) = y_t(l'_s) [A_{t-1}(s) + A_{t-1}(s-1) + A_{t-1}(s-2) if the skip is allowed]
    B_t(s) = the same with time and places counted from the other end

Both contain y_t(l'_s), so the part of p that stands at s in frame t is A_t(s) B_t(s) / y_t(l'_s).
Divided by p it is the probability G_t(s) of standing there, and sum_s G_t(s) = 1. Then

    d(-ln p) / d ln y_t(v) = -sum over s with l'_s = v of G_t(s)

and through the softmax, as the G of a frame sum to 1, the gradient of the logits x is

    d(-ln p) / d x_t(v) = y_t(v) - sum over s with l'_s = v of G_t(s):

what the network says minus what the best explanations of the text say. It is computed together with
the loss, so autograd does not walk back through time.

Letters: B utterances, T frames, V vocabulary, K tokens, S = 2K + 1 places.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from paraformer_asr.contracts import expect
from paraformer_asr.masks import length_mask, zero_padding

NEVER = -torch.inf
"""Logarithm of the probability of what cannot be."""


def ctc_loss(
    logits: Tensor, lens: Tensor, tokens: Tensor, token_lens: Tensor, *, blank: int = 0
) -> Tensor:
    """-ln p(tokens | logits) of each utterance.

    Args:
        logits: (B, T, V) float, unnormalised; padding is never read.
        lens: (B,) int64, 0 <= lens[b] <= T.
        tokens: (B, K) int64 in [0, V), none of them `blank`; padding is never read.
        token_lens: (B,) int64, 0 <= token_lens[b] <= K.
        blank: id of the blank.
    Returns:
        (B,) float32 (float64 for float64 logits). 0 with a zero gradient for an utterance that
        `is_impossible`; never infinite or NaN for finite logits.
    Raises:
        AsrError: shapes that do not fit together.
    """
    expect(
        ("logits", logits, "B T V"),
        ("lens", lens, "B"),
        ("tokens", tokens, "B K"),
        ("token_lens", token_lens, "B"),
    )
    wide = logits if logits.dtype == torch.float64 else logits.float()
    labels = spell_with_blanks(tokens, token_lens, blank)
    counted = ~is_impossible(lens, tokens, token_lens)
    loss: Tensor = ForwardBackward.apply(  # type: ignore[no-untyped-call]
        wide, lens, labels, 2 * token_lens + 1, counted
    )
    return loss


def is_impossible(lens: Tensor, tokens: Tensor, token_lens: Tensor) -> Tensor:
    """Utterances with too few frames for their tokens and the blanks between equal neighbours.

    Args:
        lens: (B,) int64 encoder frames.
        tokens: (B, K) int64.
        token_lens: (B,) int64.
    Returns:
        (B,) bool. CTC cannot learn from these; their sum is what a run should report.
    """
    repeated = (tokens[:, 1:] == tokens[:, :-1]) & length_mask(token_lens, tokens.shape[1])[:, 1:]
    return lens < token_lens + repeated.sum(dim=1)


def spell_with_blanks(tokens_BK: Tensor, token_lens_B: Tensor, blank: int) -> Tensor:
    """l': the label of each place, (B, S); blanks beyond an utterance's own places."""
    B, K = tokens_BK.shape
    labels_BS = tokens_BK.new_full((B, 2 * K + 1), blank)
    labels_BS[:, 1::2] = tokens_BK.where(length_mask(token_lens_B, K), blank)
    return labels_BS


class ForwardBackward(torch.autograd.Function):
    """-ln p and its gradient by the formulas above.

    The backward variables are the forward variables of the reversed utterance, so one recursion
    over a batch of 2B finds both; without a gradient to compute it runs over B.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits_BTV: Tensor,
        lens_B: Tensor,
        labels_BS: Tensor,
        places_B: Tensor,
        counted_B: Tensor,
    ) -> Tensor:
        T, S = logits_BTV.shape[1], labels_BS.shape[1]
        real_BT = length_mask(lens_B, T)
        log_y_BTV = zero_padding(logits_BTV, real_BT).log_softmax(dim=2)
        label_BTS = labels_BS[:, None, :].expand(-1, T, S)
        emitted_BTS = widened(log_y_BTV.gather(2, label_BTS))
        if ctx.needs_input_grad[0]:
            log_p_B, standing_BTS = look_both_ways(emitted_BTS, labels_BS, lens_B, places_B)
            counted_BT = real_BT & counted_B[:, None]
            used_BTS = counted_BT[..., None] & length_mask(places_B, S)[:, None]
            explained_BTS = standing_BTS.where(used_BTS, 0).to(log_y_BTV.dtype)
            gradient_BTV = log_y_BTV.exp().scatter_add(2, label_BTS, -explained_BTS)
            ctx.save_for_backward(zero_padding(gradient_BTV, counted_BT))
        else:
            log_p_B = log_total(sum_walks(emitted_BTS, labels_BS), lens_B, places_B)
        return -log_p_B.where(counted_B, 0).to(logits_BTV.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient_BTV,) = ctx.saved_tensors
        return gradient_BTV * grad_B[:, None, None], None, None, None, None


def widened(values: Tensor) -> Tensor:
    """float64 where the device has it: A B / p subtracts sums of T logarithms from each other, and
    in float32 the gradient of 100 frames is only right to several 1e-4."""
    return values.float() if values.device.type == "mps" else values.double()


def look_both_ways(
    emitted_BTS: Tensor, labels_BS: Tensor, lens_B: Tensor, places_B: Tensor
) -> tuple[Tensor, Tensor]:
    """ln p (B,) and G (B, T, S); G means nothing in the padding and for impossible utterances."""
    turned_BTS = turn(turn(emitted_BTS, lens_B, 1), places_B, 2)
    walks = sum_walks(
        torch.cat([emitted_BTS, turned_BTS]), torch.cat([labels_BS, turn(labels_BS, places_B, 1)])
    )
    forward, backward = walks.chunk(2)
    log_p_B = log_total(forward, lens_B, places_B)
    log_A, log_B = forward[:, 1:, 2:], turn(turn(backward[:, 1:, 2:], lens_B, 1), places_B, 2)
    return log_p_B, (log_A + log_B - emitted_BTS - log_p_B[:, None, None]).exp()


def sum_walks(emitted_BTS: Tensor, labels_BS: Tensor) -> Tensor:
    """ln A_t(s) of all frames and places; the only loop is over time.

    Returns:
        (B, 1 + T, 2 + S). Two places that are never stood on are put before the first, so that
        "one back" and "two back" are slices; and a frame before the first, in which every walk
        stands at the nearer of them: from there one step on is the first blank and a skip is the
        first token, which are the two ways to begin.
    """
    B, T, S = emitted_BTS.shape
    # From a token, the token before the blank can be left directly unless the two are equal.
    skip_BS = labels_BS.new_zeros(B, S, dtype=torch.bool)
    skip_BS[:, 1:2] = True
    skip_BS[:, 3::2] = labels_BS[:, 3::2] != labels_BS[:, 1:-2:2]
    barrier_BS = emitted_BTS.new_zeros(B, S).masked_fill(~skip_BS, NEVER)
    walks = emitted_BTS.new_full((1 + T, B, 2 + S), NEVER)
    walks[0, :, 1] = 0
    emitted = emitted_BTS.transpose(0, 1).contiguous().unbind(0)
    here, one_back, two_back = (walks[..., 2 - n : 2 - n + S].unbind(0) for n in range(3))
    for t in range(T):
        near = torch.logaddexp(here[t], one_back[t])
        far = two_back[t] + barrier_BS
        torch.logaddexp(near, far, out=here[t + 1]).add_(emitted[t])
    return walks.transpose(0, 1)


def log_total(walks: Tensor, lens_B: Tensor, places_B: Tensor) -> Tensor:
    """ln p = ln(A_T(S) + A_T(S - 1)): walks end on the last token or on the blank after it."""
    B, _, size = walks.shape
    at_end = walks.gather(1, lens_B[:, None, None].expand(B, 1, size))[:, 0]
    last_two = at_end.gather(1, torch.stack([places_B, places_B + 1], dim=1))
    return last_two.logsumexp(dim=1)


def turn(values: Tensor, lengths_B: Tensor, dim: int) -> Tensor:
    """Reverse the first lengths[b] entries of each utterance along `dim`; padding stays behind."""
    shape = [len(values)] + [1] * (values.ndim - 1)
    along = list(shape)
    along[dim] = values.shape[dim]
    position = torch.arange(values.shape[dim], device=values.device).reshape(along[1:])[None]
    lengths = lengths_B.reshape(shape)
    source = torch.where(position < lengths, lengths - 1 - position, position)
    return values.gather(dim, source.expand_as(values))
