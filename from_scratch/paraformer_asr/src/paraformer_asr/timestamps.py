"""When each token was said, from the weights that the predictor gave to the frames.

In: the alphas of one utterance. Out: (start, end) in seconds for each token.

Continuous integrate-and-fire adds up weights, and token k is complete where the sum reaches k: it
*fires*. Token k then spans from the fire of token k - 1 to its own, as long as its weight was being
collected. At both ends of the speech there is no fire to go by:

- the first token starts where the sum reaches `EDGE` of a token, so silence before it is left out;
- a last token whose weight stays below 1 (it counts from 1 - tail on) ends where all but `EDGE` of
  the weight is collected, so silence after it is left out.

Spans are in order, do not overlap, and lie within the recording. A pause between two tokens belongs
to the second. CIF is trained to count, not to align: a fire lies near the end of its token, not
exactly there.

FunASR's rule (`ts_prediction_lfr6_standard`) spans token i from fire i to fire i + 1, so it needs a
fire more than there are tokens. Its large model is trained with an end token that brings one; for
others it scales the alphas to sum to tokens + 1, which moves every fire. It shifts times by 1.5
frames of 60 ms and cuts long spans into a token and a silence. The rule here takes the fires as
they are and works for any number of them.

Letters: T frames after the encoder, K tokens.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from paraformer_asr.cif import fire_frames
from paraformer_asr.contracts import expect

EDGE = 0.05
"""Part of a token's weight that is taken for silence at the start and at the end of the speech."""


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
    expect(("alphas", alphas, "T"))
    if num_tokens == 0 or len(alphas) == 0:
        return [(0.0, 0.0)] * num_tokens
    alphas = alphas.double()
    total = float(alphas.sum())
    edge = EDGE * min(total, 1.0)
    edges = torch.cat([reaching(alphas, edge), fire_frames(alphas, num_tokens)])
    if total < num_tokens - 1e-6:  # as exact as `fire_frames` is
        edges[-1:] = reaching(alphas, total - edge)
    whole = len(alphas) * frame_seconds
    limit = whole if duration is None else min(duration, whole)
    seconds = edges.double().numpy() * frame_seconds  # in float32 it could exceed the limit
    times = np.maximum.accumulate(np.clip(seconds, 0, limit))
    return list(pairwise(times.tolist()))


def reaching(alphas_T: Tensor, weight: float) -> Tensor:
    """(1,) position on the frame axis where the running sum reaches `weight`; T without weights."""
    return fire_frames(alphas_T / max(weight, 1e-8), 1)
