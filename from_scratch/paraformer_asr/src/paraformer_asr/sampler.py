"""The sampler: in training, show the decoder some of the true tokens (glancing).

Qian et al. 2021 (GLAT, arXiv 2008.07905), as used in Paraformer (arXiv 2206.08317, section 2.3).
A first pass of the decoder guesses all tokens from their acoustic vectors. The more of an utterance
it gets wrong, the more positions receive the embedding of the true token in place of the acoustic
vector for the second pass, which is trained. A decoder that cannot guess yet learns from context
what it will later have to do alone.

    n = trunc(ratio * wrong),   n positions drawn from all of the utterance's, right or wrong

(FunASR's rule; the paper rounds up.)

Letters: B utterances, K tokens, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paraformer_asr.contracts import expect
from paraformer_asr.masks import length_mask, zero_padding


def glance(
    embeds: Tensor,
    token_embeds: Tensor,
    logits: Tensor,
    tokens: Tensor,
    token_lens: Tensor,
    ratio: float,
) -> Tensor:
    """Replace some acoustic vectors by embeddings of the true tokens.

    Args:
        embeds: (B, K, D) float acoustic vectors.
        token_embeds: (B, K, D) float embeddings of `tokens`; padding is not read.
        logits: (B, K, V) of the first pass; no gradient flows through them.
        tokens: (B, K) int64 true tokens; padding is not read.
        token_lens: (B,) int64.
        ratio: replaced positions for each wrong token, 0 to 1.
    Returns:
        (B, K, D) in the dtype of `embeds`, 0 in the padding. The positions come from the global
        random generator of the tensors' device.
    """
    expect(
        ("embeds", embeds, "B K D"),
        ("token_embeds", token_embeds, "B K D"),
        ("logits", logits, "B K V"),
        ("tokens", tokens, "B K"),
        ("token_lens", token_lens, "B"),
    )
    mask = length_mask(token_lens, tokens.shape[1])
    wrong_B = ((logits.detach().argmax(dim=2) != tokens) & mask).sum(dim=1)
    chosen = choose(mask, num_glanced(wrong_B, ratio))
    mixed = torch.where(chosen[..., None], token_embeds.to(embeds.dtype), embeds)
    return zero_padding(mixed, mask)


def num_glanced(wrong: Tensor, ratio: float) -> Tensor:
    """trunc(ratio * wrong), int64; the product is float32 as in the reference."""
    return (wrong.float() * ratio).long()


def choose(mask: Tensor, count: Tensor) -> Tensor:
    """Draw `count` real positions of each row, uniformly and without repetition.

    Args:
        mask: (B, K) bool.
        count: (B,) int64; more than a row has draws all of it.
    Returns:
        (B, K) bool.
    """
    # Random numbers put the real positions into a random order; 2 sends the padding to its end.
    order_BK = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, 2).argsort(dim=1)
    rank_BK = order_BK.argsort(dim=1)
    return (rank_BK < count[:, None]) & mask
