"""What training minimises: ctc CTC + (1 - ctc) CE + quantity MAE + mwer MWER.

In: the model's `Outputs` and the true tokens. Out: for each term its *sum* over a batch, and how
many things were summed: tokens for the cross-entropy, utterances for the others. Each sum is
divided by its own count over the whole step, which may hold several batches:

    L = sum over terms of weight * (sum over all batches of the step) / (count of the step)

so the gradient of a step does not depend on how its utterances are split into batches. Dividing
each batch by its own count, and averaging, would weigh the tokens of short batches too much.

- CE (`label_smoothed_ce`): which token each is.
- MAE (`quantity_mae`): how many tokens there are.
- CTC (`ctc.py`): a helper that makes the encoder's frames say the tokens in order.
- MWER (`mwer.py`): the expected number of errors, for a second stage of training.

FunASR's paraformer divides CE by the utterances or by the tokens (`length_normalized_loss`); here
it is the tokens. Its MAE and CTC are divided by utterances, as here.

Letters: B utterances, K tokens, T frames after the encoder, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paraformer_asr.config import LossConfig
from paraformer_asr.contracts import expect
from paraformer_asr.ctc import ctc_loss, is_impossible
from paraformer_asr.errors import AsrError
from paraformer_asr.masks import length_mask
from paraformer_asr.mwer import log_probabilities, mwer_loss, sample_hypotheses

if TYPE_CHECKING:
    from paraformer_asr.models import Outputs


class Losses:
    """The terms that a configuration asks for. CE and MAE are always computed, to be looked at."""

    def __init__(self, config: LossConfig) -> None:
        self.config = config
        self.weights: dict[str, float] = {"ce": 1 - config.ctc, "quantity": config.quantity}
        """Name of each term and what it is multiplied by."""
        if config.ctc > 0:
            self.weights["ctc"] = config.ctc
        if config.mwer > 0:
            self.weights["mwer"] = config.mwer

    def counts(self, token_lens: Tensor) -> dict[str, int]:
        """What each term is divided by.

        Args:
            token_lens: (B,) int64 tokens that the decoder is to say, end tokens included, of all
                utterances of the step (or of a validation set).
        """
        num_tokens, num_utterances = int(token_lens.sum()), len(token_lens)
        return {name: num_tokens if name == "ce" else num_utterances for name in self.weights}

    def sums(self, outputs: Outputs, tokens: Tensor, token_lens: Tensor) -> dict[str, Tensor]:
        """Each term, summed over a batch.

        Args:
            outputs: of the model in training.
            tokens: (B, K) int64 of the batch, PADDING-padded, without an end token.
            token_lens: (B,) int64.
        Returns:
            Scalars, float32, by the names of `weights`. Utterances whose tokens CTC cannot fit
            into their frames add 0 to "ctc"; `num_impossible` counts them.
        Raises:
            AsrError: CTC is asked for and the model has no head for it; shapes or token ids that
                do not fit the logits.
        """
        smoothing = self.config.label_smoothing
        found = {
            "ce": label_smoothed_ce(outputs.logits, outputs.tokens, outputs.token_lens, smoothing),
            "quantity": quantity_mae(outputs.total, outputs.token_lens),
        }
        if "ctc" in self.weights:
            logits = with_ctc_head(outputs)
            expect_ids(tokens, token_lens, logits.shape[2])
            found["ctc"] = ctc_loss(logits, outputs.hidden_lens, tokens, token_lens).sum()
        if "mwer" in self.weights:
            given = (outputs.logits, outputs.token_lens)
            hypotheses = sample_hypotheses(*given, self.config.mwer_samples)
            found["mwer"] = mwer_loss(*given, hypotheses, outputs.tokens).sum()
        return found

    def total(self, sums: Mapping[str, Tensor], counts: Mapping[str, int]) -> Tensor:
        """The weighted sum of sums / counts; a term without anything to count is 0.

        Args:
            sums: of one batch (its share of the loss, to be differentiated) or of all of them.
            counts: of the whole step.
        """
        parts = [
            weight * sums[name] / max(counts[name], 1) for name, weight in self.weights.items()
        ]
        return torch.stack(parts).sum()

    def num_impossible(self, outputs: Outputs, tokens: Tensor, token_lens: Tensor) -> Tensor:
        """Utterances of a batch that CTC had to leave out, () int64; 0 without CTC."""
        if "ctc" not in self.weights:
            return token_lens.new_zeros(())
        return is_impossible(outputs.hidden_lens, tokens, token_lens).sum()


def label_smoothed_ce(
    logits: Tensor, tokens: Tensor, token_lens: Tensor, smoothing: float
) -> Tensor:
    """Cross-entropy with smoothed labels (Szegedy et al. 2016), summed over the real tokens.

    As FunASR's: the Kullback-Leibler divergence from what the model says to a distribution q with
    1 - e for the true token and e / (V - 1) for every other one,

        sum_v q_v ln q_v - sum_v q_v ln p_v.

    The first sum is a constant, so a perfect answer costs 0. PyTorch's `CrossEntropyLoss` leaves it
    out and gives e / V to all tokens, the true one among them.

    Args:
        logits: (B, K, V) float; padding is never read.
        tokens: (B, K) int64 in [0, V); padding is never read.
        token_lens: (B,) int64; 0 is allowed.
        smoothing: e in [0, 1); 0 is the plain cross-entropy.
    Returns:
        () float32 (float64 for float64 logits), >= 0.
    Raises:
        AsrError: shapes that do not fit, a token id outside of the logits (looked at on the CPU).
    """
    expect(("logits", logits, "B K V"), ("tokens", tokens, "B K"), ("token_lens", token_lens, "B"))
    V = logits.shape[2]
    expect_ids(tokens, token_lens, V)
    mask_BK = length_mask(token_lens, tokens.shape[1])
    log_p_BKV = log_probabilities(logits, mask_BK)
    true_BK = log_p_BKV.gather(2, tokens.where(mask_BK, 0)[..., None])[..., 0]
    other = smoothing / (V - 1)
    expected_BK = (1 - smoothing - other) * true_BK + other * log_p_BKV.sum(dim=2)
    constant = x_log_x(1 - smoothing) + (V - 1) * x_log_x(other)
    return (constant - expected_BK).where(mask_BK, 0).sum()


def quantity_mae(total: Tensor, token_lens: Tensor) -> Tensor:
    """|sum of alphas - number of tokens|, summed over utterances.

    Args:
        total: (B,) float sum of each utterance's unscaled alphas.
        token_lens: (B,) int64 tokens that the decoder is to say.
    Returns:
        () in the dtype of `total`.
    """
    expect(("total", total, "B"), ("token_lens", token_lens, "B"))
    return (total - token_lens).abs().sum()


def x_log_x(x: float) -> float:
    """x ln x, which goes to 0 with x."""
    return x * math.log(x) if x > 0 else 0.0


def with_ctc_head(outputs: Outputs) -> Tensor:
    """The logits of the CTC head, if there is one."""
    if outputs.ctc_logits is None:
        raise AsrError("loss.ctc is above 0, but the model has no CTC head: set loss.ctc=0.")
    return outputs.ctc_logits


def expect_ids(tokens: Tensor, token_lens: Tensor, size: int) -> None:
    """Raise AsrError for a token id that the logits do not have; on the CPU, where it is free."""
    if tokens.device.type != "cpu":
        return
    real = tokens[length_mask(token_lens, tokens.shape[1])]
    if real.numel() and not 0 <= int(real.min()) <= int(real.max()) < size:
        raise AsrError(
            f"token ids reach from {int(real.min())} to {int(real.max())}, but the model has "
            f"{size} tokens; the texts were encoded with another vocabulary."
        )
