"""When each token was said, from the weights that the predictor gave to the frames.

In: the alphas of one utterance. Out: (start, end) in seconds for each token.

Continuous integrate-and-fire gives each token weight from a few neighbouring frames. Its *peak* is
their centre: the mean of their positions by weight. Training asks only that there is one peak for a
token, somewhere in or near it; where exactly, at its onset or its end, differs between models and
is the same throughout a recording. So a token spans from half-way after the peak before it to
half-way before the next peak; the first begins, and the last ends, as far from its peak as on the
other side. A single token has the whole recording.

Spans are in order, do not overlap, and lie within the recording. A pause is shared by its two
neighbours.

FunASR's rule (`ts_prediction_lfr6_standard`) spans token i from the frame where the summed weight
reaches i to the frame where it reaches i + 1. It needs one such frame more than there are tokens,
which the end token of its large model brings; for others it scales the alphas to sum to
tokens + 1. And where a token's weight sums to 0.99, it is complete only at the next peak. Centres
have no such cliffs.

Letters: T frames after the encoder, K tokens.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from paraformer_asr.cif import overlap_sum, running_sum
from paraformer_asr.contracts import expect


def token_spans(
    alphas: Tensor, num_tokens: int, frame_seconds: float, *, duration: float | None = None
) -> list[tuple[float, float]]:
    """Start and end of each token.

    Args:
        alphas: (T,) float >= 0 of one utterance on the CPU, without padding; T may be 0.
        num_tokens: K >= 0.
        frame_seconds: length of a frame after the encoder.
        duration: of the recording, if known: the last stacked frame may reach beyond it.
    Returns:
        K pairs in seconds with 0 <= start <= end <= T * frame_seconds and <= duration; each starts
        where the one before it ends.
    Raises:
        AsrError: `alphas` is not a single utterance's.
    """
    whole = len(alphas) * frame_seconds
    limit = whole if duration is None else min(duration, whole)
    peaks = token_peaks(alphas, num_tokens).double().numpy() * frame_seconds
    if num_tokens < 2:
        return [(0.0, limit)] * num_tokens
    between = (peaks[:-1] + peaks[1:]) / 2
    first, last = 2 * peaks[0] - between[0], 2 * peaks[-1] - between[-1]
    edges = np.clip([first, *between, last], 0, limit)
    return list(pairwise(edges.tolist()))


def token_peaks(alphas: Tensor, num_tokens: int) -> Tensor:
    """The centre of each token's weight.

    Args:
        alphas: (T,) float >= 0 of one utterance.
        num_tokens: K >= 0.
    Returns:
        (K,) non-decreasing positions on the frame axis, 0 to T; the middle of the first frame is
        0.5. A token without any weight is where the one before it is, or at T if none has any.
    Raises:
        AsrError: `alphas` is not a single utterance's.
    """
    expect(("alphas", alphas, "T"))
    T = len(alphas)
    if num_tokens == 0 or T == 0:
        return torch.zeros(num_tokens)
    position_T = torch.arange(T, device=alphas.device) + 0.5
    counted_T2 = torch.stack([position_T, torch.ones_like(position_T)], dim=1)
    count = torch.tensor([num_tokens], device=alphas.device)
    sums_K2 = overlap_sum(counted_T2[None], running_sum(alphas[None]), count)[0]
    moment_K, weight_K = sums_K2.unbind(dim=1)
    peaks_K = (moment_K / weight_K).where(weight_K > 1e-6, 0)
    if float(alphas.sum()) <= 1e-6:
        return torch.full_like(peaks_K, T)
    return peaks_K.cummax(dim=0).values
