"""Minimum word error rate training: the expected number of errors as a loss.

Prabhavalkar et al. 2018 (arXiv 1712.01818), for a second stage of training after cross-entropy,
which counts a wrong token alike wherever it stands. Of each utterance N hypotheses y_1 ... y_N are
looked at. With W(y) the edits that turn the true tokens into y, P(y) the model's probability of y,
renormalised over the hypotheses, and the mean of their errors as a baseline,

    P^(y_i) = P(y_i) / sum_j P(y_j),    W~ = mean_j W(y_j),    loss = sum_i P^(y_i) (W(y_i) - W~).

The gradient, with E the expectation under P^, is

    d loss / d ln P(y_i) = P^(y_i) (W(y_i) - E[W]):

hypotheses with more errors than expected become less probable. The baseline W~ changes the value,
not the gradient, as the P^ sum to 1: it makes 0 the value of hypotheses that are all equally good.

The decoder names all tokens at once and independently, so hypotheses are *sampled* from its
distributions, row by row and of the length that the decoder was given, and
P(y) = prod_k p_k(y_k). The same one drawn twice counts once: P^ already says how probable it is.
The Paraformer paper makes its negatives by masking the most probable tokens of the output instead.
<blank>, <s> and </s> are not text; they are left out before errors are counted, as in `decode.py`,
so a hypothesis can also be too short.

In training the logits are those of the second pass, which has seen some true tokens; set
model.sampling_ratio=0 in this stage to train on what the model says by itself.

Letters: B utterances, N hypotheses of each, K tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paraformer_asr.alignment import count_edits
from paraformer_asr.contracts import expect
from paraformer_asr.masks import length_mask, zero_padding
from paraformer_asr.tokenizer import PADDING, Tokenizer

SPECIAL = (Tokenizer.blank, Tokenizer.start, Tokenizer.end)


@torch.no_grad()
def sample_hypotheses(
    logits: Tensor, token_lens: Tensor, num: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Draw token sequences from the decoder's distributions.

    Args:
        logits: (B, K, V) float; padding is never read.
        token_lens: (B,) int64 length of the hypotheses of each utterance.
        num: N.
        generator: of the random numbers; None takes the global one.
    Returns:
        (B, N, K) int64, PADDING-padded.
    """
    B, K, V = logits.shape
    mask_BK = length_mask(token_lens, K)
    probabilities = zero_padding(logits.float(), mask_BK).softmax(dim=2)
    if B * K == 0:
        return token_lens.new_full((B, num, K), PADDING)
    drawn = torch.multinomial(
        probabilities.view(B * K, V), num, replacement=True, generator=generator
    )
    hypotheses_BNK = drawn.view(B, K, num).transpose(1, 2)
    return hypotheses_BNK.masked_fill(~mask_BK[:, None], PADDING)


def mwer_loss(logits: Tensor, token_lens: Tensor, hypotheses: Tensor, tokens: Tensor) -> Tensor:
    """Expected errors of each utterance above the mean of its hypotheses.

    Args:
        logits: (B, K, V) float; padding is never read.
        token_lens: (B,) int64; hypotheses and true tokens have this length.
        hypotheses: (B, N, K) int64, PADDING-padded, as `sample_hypotheses` gives them.
        tokens: (B, K) int64 true tokens, PADDING-padded.
    Returns:
        (B,) float32 (float64 for float64 logits); negative where the more probable hypotheses are
        the better ones. 0 for an utterance without tokens or with one distinct hypothesis.
    Raises:
        AsrError: shapes that do not fit together.
    """
    expect(
        ("logits", logits, "B K V"),
        ("token_lens", token_lens, "B"),
        ("hypotheses", hypotheses, "B N K"),
        ("tokens", tokens, "B K"),
    )
    log_P_BN = log_probability(logits, token_lens, hypotheses)
    distinct_BN = ~is_repeated(hypotheses)
    errors_BN = num_errors(tokens, hypotheses).to(log_P_BN)
    share_BN = log_P_BN.masked_fill(~distinct_BN, -torch.inf).softmax(dim=1)
    number_B1 = distinct_BN.sum(dim=1, keepdim=True)
    mean_B1 = (errors_BN * distinct_BN).sum(dim=1, keepdim=True) / number_B1
    return (share_BN * (errors_BN - mean_B1)).sum(dim=1)


def log_probability(logits: Tensor, token_lens: Tensor, hypotheses: Tensor) -> Tensor:
    """ln P(y) = sum over the real tokens of ln p_k(y_k), (B, N)."""
    mask_BK = length_mask(token_lens, logits.shape[1])
    log_p_BKV = log_probabilities(logits, mask_BK)
    chosen_BKN = hypotheses.transpose(1, 2).where(mask_BK[..., None], 0)
    return log_p_BKV.gather(2, chosen_BKN).where(mask_BK[..., None], 0).sum(dim=1)


def log_probabilities(logits_BKV: Tensor, mask_BK: Tensor) -> Tensor:
    """ln softmax in float32 or better, whatever the padding holds."""
    wide = logits_BKV if logits_BKV.dtype == torch.float64 else logits_BKV.float()
    return zero_padding(wide, mask_BK).log_softmax(dim=2)


def is_repeated(hypotheses_BNK: Tensor) -> Tensor:
    """(B, N) bool, True for a hypothesis that equals an earlier one of its utterance."""
    same_BNN = (hypotheses_BNK[:, :, None] == hypotheses_BNK[:, None]).all(dim=3)
    return same_BNN.tril(diagonal=-1).any(dim=2)


def num_errors(tokens_BK: Tensor, hypotheses_BNK: Tensor) -> Tensor:
    """W(y), (B, N) int64: edits between true tokens and each hypothesis, without special ones."""
    references, heard = [], []
    for true, hypotheses in zip(tokens_BK.tolist(), hypotheses_BNK.tolist(), strict=True):
        for hypothesis in hypotheses:
            references.append(text_ids(true))
            heard.append(text_ids(hypothesis))
    edits = [each.edits for each in count_edits(references, heard)]
    return torch.tensor(edits, dtype=torch.int64, device=tokens_BK.device).view(
        hypotheses_BNK.shape[:2]
    )


def text_ids(ids: list[int]) -> list[int]:
    """Ids that are text: neither PADDING nor special."""
    return [token for token in ids if token != PADDING and token not in SPECIAL]
