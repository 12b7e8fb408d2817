"""Accumulation is exact: a step in several ragged batches is the step in one batch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

import paraformer_asr.losses
from paraformer_asr.config import Config, LossConfig, ModelConfig
from paraformer_asr.data.batches import Batch, collate
from paraformer_asr.losses import Losses
from paraformer_asr.models import Outputs, Paraformer, build_model

V, DIM = 8, 5
SPLITS = [[8], [4, 4], [2, 2, 2, 2], [1] * 8, [5, 1, 2]]
Item = tuple[str, str, Tensor, Sequence[int]]


class TinyModel(nn.Module):
    """Outputs like the real model's, from linear layers; utterances do not touch each other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.token, self.ctc, self.alpha = (nn.Linear(DIM, n).double() for n in (V, V, 1))

    def forward(self, batch: Batch) -> Outputs:
        mask = torch.arange(batch.feats.shape[1]) < batch.feat_lens[:, None]
        return Outputs(
            logits=self.token(batch.feats[:, : batch.tokens.shape[1]]),
            first_logits=None,
            total=(self.alpha(batch.feats)[..., 0].sigmoid() * mask).sum(dim=1),
            ctc_logits=self.ctc(batch.feats),
            hidden_lens=batch.feat_lens,
            tokens=batch.tokens,
            token_lens=batch.token_lens,
        )


def utterances(dim: int, *, ids: tuple[int, int], longest: int, dtype: torch.dtype) -> list[Item]:
    """Eight utterances of 4 to `longest` frames and 0 to 9 tokens, one of them without any."""
    generator = torch.Generator().manual_seed(1)
    items: list[Item] = []
    for number in range(8):
        num_tokens = [3, 0, 9, 1, 2, 7, 4, 9][number]
        frames = min(2 * num_tokens + 4 + number, longest)
        feats = torch.randn(frames, dim, generator=generator, dtype=dtype)
        tokens = torch.randint(*ids, (num_tokens,), generator=generator).tolist()
        items.append((f"u{number}", "", feats, tokens))
    return items


def fixed_hypotheses(logits: Tensor, token_lens: Tensor, num: int) -> Tensor:
    """As many hypotheses as asked for, functions of each utterance's own logits: a token of another
    rank at another position in each. Drawn ones would differ between one batch and several."""
    order = logits.detach().argsort(dim=2, descending=True)
    ranks = (torch.arange(logits.shape[1]) + torch.arange(num)[:, None]) % 3  # (N, K)
    real = torch.arange(logits.shape[1]) < token_lens[:, None]
    picked = torch.stack(
        [order.gather(2, r.expand(len(logits), -1)[..., None])[..., 0] for r in ranks], dim=1
    )
    return picked.masked_fill(~real[:, None], -1)


def step(
    model: nn.Module, outputs_of, losses: Losses, items: list[Item], split: list[int]
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Loss terms of the whole step, gradients by parameter, and loss, as the trainer does it."""
    model.zero_grad()
    batches = [collate(part) for part in _parts(items, split)]
    counts = losses.counts(torch.cat([batch.token_lens for batch in batches]))
    sums: dict[str, Tensor] = {}
    total = torch.zeros(())
    for batch in batches:
        parts = losses.sums(outputs_of(batch), batch.tokens, batch.token_lens)
        loss = losses.total(parts, counts)
        loss.backward()
        total = total + loss.detach()
        for name, part in parts.items():
            sums[name] = sums.get(name, torch.zeros(())) + part.detach() / counts[name]
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return sums, gradients, total


def _parts(items: list[Item], split: list[int]) -> list[list[Item]]:
    starts = [sum(split[:n]) for n in range(len(split))]
    return [items[start : start + size] for start, size in zip(starts, split, strict=True)]


def check_same(found, expected, tolerance: float) -> None:
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(found[2], expected[2], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("split", SPLITS[1:], ids=str)
def test_every_term_and_gradient_is_that_of_the_big_batch(
    split: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(paraformer_asr.losses, "sample_hypotheses", fixed_hypotheses)
    losses = Losses(LossConfig(ctc=0.3, quantity=1.5, label_smoothing=0.1, mwer=0.7))
    model = TinyModel()
    items = utterances(DIM, ids=(3, V), longest=100, dtype=torch.float64)
    expected = step(model, model, losses, items, SPLITS[0])
    assert set(expected[0]) == {"ce", "quantity", "ctc", "mwer"}
    assert all(float(part.abs()) > 1e-3 for part in expected[0].values())
    check_same(step(model, model, losses, items, split), expected, 1e-12)


def test_averaging_batches_by_their_own_counts_would_be_wrong():
    """Guards the test above: with these utterances the wrong rule shows."""
    losses = Losses(LossConfig(ctc=0.0))
    model = TinyModel()
    items = utterances(DIM, ids=(3, V), longest=100, dtype=torch.float64)
    expected = step(model, model, losses, items, [8])
    parts = [step(model, model, losses, part, [4])[0]["ce"] for part in _parts(items, [4, 4])]
    assert abs(float(sum(parts)) / 2 - float(expected[0]["ce"])) > 1e-3


@pytest.fixture(scope="module")
def paraformer() -> Paraformer:
    torch.manual_seed(0)
    model = ModelConfig(
        dim=16, heads=2, ffn=24, encoder_layers=2, decoder_layers=1, dropout=0.0, sampling_ratio=0.0
    )
    return build_model(Config(name="tiny", model=model))


@pytest.mark.parametrize("split", SPLITS[1:], ids=str)
def test_the_real_model_in_float32_has_the_gradient_of_the_big_batch(
    split: list[int], paraformer: Paraformer
):
    items = utterances(80, ids=(3, 20), longest=30, dtype=torch.float32)
    losses = Losses(LossConfig(ctc=0.3))

    def outputs_of(batch: Batch) -> Outputs:
        given = (batch.feats, batch.feat_lens, batch.tokens, batch.token_lens)
        outputs: Outputs = paraformer(*given)
        return outputs

    expected = step(paraformer, outputs_of, losses, items, SPLITS[0])
    largest = max(float(gradient.abs().max()) for gradient in expected[1].values())
    found = step(paraformer, outputs_of, losses, items, split)
    check_same(found, expected, 1e-6 * max(largest, 1))
