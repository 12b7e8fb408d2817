"""The numbers that training is judged by: loss, error rate and error in the number of tokens."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from paraformer_asr.data.batches import Batch
from paraformer_asr.decode import decode_batch
from paraformer_asr.losses import Losses
from paraformer_asr.metrics import error_rate
from paraformer_asr.models import Paraformer


@torch.no_grad()
def validate(model: Paraformer, batches: Iterable[Batch], losses: Losses) -> dict[str, float]:
    """Measure a model in evaluation mode, and leave it in the mode it was in.

    Args:
        model: on any device.
        batches: each utterance once.
        losses: those of the training; their terms are summed over all batches before they are
            divided by their counts.
    Returns:
        valid_loss; valid_cer, errors per true token over all utterances (greedy decoding);
        valid_count_error, mean |true - predicted number of tokens|, before rounding.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    sums: dict[str, torch.Tensor] = {}
    lens: list[torch.Tensor] = []
    references: list[str] = []
    hypotheses: list[str] = []
    for batch in batches:
        batch = batch.to(device)
        outputs = model(batch.feats, batch.feat_lens, batch.tokens, batch.token_lens)
        for name, part in losses.sums(outputs, batch.tokens, batch.token_lens).items():
            sums[name] = sums.get(name, torch.zeros_like(part)) + part
        lens.append(outputs.token_lens)
        references += batch.texts
        hypotheses += [found.text for found in decode_batch(model, batch.feats, batch.feat_lens)]
    model.train(was_training)
    counts = losses.counts(torch.cat(lens))
    return {
        "valid_loss": float(losses.total(sums, counts)),
        "valid_cer": error_rate(references, hypotheses).rate,
        "valid_count_error": float(sums["quantity"]) / max(counts["quantity"], 1),
    }
