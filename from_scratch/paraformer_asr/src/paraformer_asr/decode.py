"""From what the model predicts to text: greedy, all tokens at once.

In: `models.Prediction` of a batch. Out: a `Hypothesis` for each utterance: text, tokens, their
times in seconds and how sure the model is of each.

The predictor has decided how many tokens an utterance has, so each of the first `counts[b]` rows of
the logits is one token: its most probable one. Two equal neighbours are two tokens; nothing is
collapsed as CTC would. <blank>, <s> and </s> are no text; they are dropped with their times and
confidence. An utterance of no tokens is an empty text, whatever the others in its batch are.

Letters: B utterances, K the most tokens, V vocabulary, T frames after the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from paraformer_asr.contracts import expect
from paraformer_asr.errors import AsrError
from paraformer_asr.timestamps import token_spans
from paraformer_asr.tokenizer import Tokenizer

if TYPE_CHECKING:
    from paraformer_asr.models import Paraformer, Prediction


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """What was heard in one utterance. All lists have an entry for each token of the text."""

    text: str
    tokens: list[str]
    """The text of each token; an unknown one shows as the tokenizer shows it."""
    ids: list[int]
    times: list[tuple[float, float]]
    """Start and end in seconds from the start of the recording, see `timestamps.py`."""
    confidence: list[float]
    """Probability that the decoder gives to the chosen token, 0 to 1. It is taken as if the number
    of tokens were sure, and a trained network is often surer than it should be."""


def greedy(
    prediction: Prediction,
    tokenizer: Tokenizer,
    frame_seconds: float,
    *,
    durations: Sequence[float] | None = None,
) -> list[Hypothesis]:
    """Take the most probable token of each row.

    Args:
        prediction: of B utterances; rows and frames of the padding are not read.
        tokenizer: of the model.
        frame_seconds: length of a frame after the encoder, subsampling included.
        durations: seconds of each recording, which no time will exceed.
    Returns:
        B hypotheses in the order of the batch.
    Raises:
        AsrError: logits of another vocabulary than the tokenizer's.
    """
    logits, alphas = prediction.logits, prediction.alphas
    expect(
        ("logits", logits, "B _ _"),
        ("counts", prediction.counts, "B"),
        ("alphas", alphas, "B _"),
        ("hidden_lens", prediction.hidden_lens, "B"),
    )
    if logits.shape[2] != tokenizer.size:
        raise AsrError(
            f"the model names {logits.shape[2]} tokens and the vocabulary has {tokenizer.size}; "
            "use the vocabulary that the model was trained with."
        )
    confidence_BK, ids_BK = logits.float().softmax(dim=2).max(dim=2)
    rows = zip(
        ids_BK.tolist(),
        confidence_BK.tolist(),
        prediction.counts.tolist(),
        alphas.float().cpu(),
        prediction.hidden_lens.tolist(),
        durations if durations is not None else [None] * len(logits),
        strict=True,
    )
    special = (tokenizer.blank, tokenizer.start, tokenizer.end)
    hypotheses = []
    for ids, confidence, count, weights, frames, duration in rows:
        times = token_spans(weights[:frames], count, frame_seconds, duration=duration)
        said = [k for k in range(count) if ids[k] not in special]
        kept = [ids[k] for k in said]
        hypotheses.append(
            Hypothesis(
                text=tokenizer.decode(kept),
                tokens=[tokenizer.decode([token_id]) for token_id in kept],
                ids=kept,
                times=[times[k] for k in said],
                confidence=[confidence[k] for k in said],
            )
        )
    return hypotheses


def decode_batch(
    model: Paraformer,
    feats: Tensor,
    feat_lens: Tensor,
    *,
    durations: Sequence[float] | None = None,
) -> list[Hypothesis]:
    """Recognise a batch of features.

    Args:
        model: in evaluation mode, on any device.
        feats: (B, T, F) float32 normalised features on the model's device, 0 in the padding.
        feat_lens: (B,) int64.
        durations: seconds of each recording, which no time will exceed.
    Returns:
        B hypotheses in the order of the batch; the same ones as of each utterance alone.
    """
    prediction = model.predict(feats, feat_lens)
    return greedy(prediction, model.tokenizer, seconds_of_frame(model), durations=durations)


def seconds_of_frame(model: Paraformer) -> float:
    """Time from one encoder frame to the next; the conformer's conv2d makes one frame of four."""
    subsampling = {"none": 1, "conv2d": 4}[model.config.model.subsampling]
    return model.frontend.frame_seconds * subsampling
