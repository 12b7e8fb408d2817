"""The predictor: weights, counts, scaling, padding, precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from paraformer_asr.cif import integrate_and_fire_loop
from paraformer_asr.errors import AsrError
from paraformer_asr.masks import length_mask
from paraformer_asr.predictor import CifPredictor

KINDS = ("full", "depthwise")
LENS = torch.tensor([20, 7, 1, 13])


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def made(kind: str, **options: float) -> tuple[CifPredictor, Tensor]:
    torch.manual_seed(0)
    settings = {"tail": 0.45} | options
    return CifPredictor(dim=6, kind=kind, **settings).eval(), torch.randn(4, 20, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_alphas_follow_the_formula(kind: str):
    predictor, hidden = made(kind, smooth=1.2, noise_threshold=0.3)
    weight, bias = predictor.conv.weight, predictor.conv.bias
    alphas = predictor.alphas(hidden, length_mask(LENS, 20))
    assert alphas.dtype == torch.float32
    for b, T in enumerate(LENS.tolist()):
        for t in range(T):
            around = [hidden[b, i] if 0 <= i < T else torch.zeros(6) for i in (t - 1, t, t + 1)]
            if kind == "full":
                context = bias + sum(weight[:, :, i] @ frame for i, frame in enumerate(around))
            else:
                context = bias + sum(weight[:, 0, i] * frame for i, frame in enumerate(around))
                context = context + hidden[b, t]
            score = predictor.output(context.relu())[0]
            close(alphas[b, t], (score.sigmoid() * 1.2 - 0.3).clamp_min(0))
    assert not alphas[~length_mask(LENS, 20)].any()


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_never_read_forward_or_backward(kind: str):
    predictor, hidden = made(kind)
    poisoned = hidden.masked_fill(~length_mask(LENS, 20)[..., None], float("nan")).requires_grad_()
    predicted = predictor(poisoned, LENS)
    predicted.embeds.pow(2).sum().backward()
    for b, T in enumerate(LENS.tolist()):
        alone = predictor(hidden[b : b + 1, :T], LENS[b : b + 1])
        assert alone.counts == predicted.counts[b]
        close(predicted.alphas[b, :T], alone.alphas[0])
        close(predicted.total[b], alone.total[0])
        close(predicted.embeds[b, : int(alone.counts)], alone.embeds[0])
        assert not poisoned.grad[b, T:].any()
    assert bool(torch.isfinite(poisoned.grad).all())
    assert all(bool(torch.isfinite(p.grad).all()) for p in predictor.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_training_gives_as_many_tokens_as_asked_and_the_unscaled_sum(kind: str):
    predictor, hidden = made(kind)
    num_tokens = torch.tensor([5, 2, 0, 9])
    predicted = predictor(hidden, LENS, num_tokens)
    alphas = predictor.alphas(hidden, length_mask(LENS, 20))
    assert torch.equal(predicted.counts, num_tokens)
    close(predicted.total, alphas.sum(dim=1))
    close(predicted.alphas, alphas)
    expected, _ = integrate_and_fire_loop(hidden, alphas, num_tokens=num_tokens)
    close(predicted.embeds, expected)


def test_inference_counts_the_tail():
    predictor, hidden = made("full")
    predicted = predictor(hidden, LENS)
    assert torch.equal(predicted.counts, torch.floor(predicted.total + 0.45).long())
    predictor.tail = 0.0
    assert torch.equal(predictor(hidden, LENS).counts, torch.floor(predicted.total).long())


def test_utterances_without_weight_have_no_tokens_and_train_with_finite_gradients():
    predictor, hidden = made("full", noise_threshold=2.0)
    predicted = predictor(hidden, LENS)
    assert predicted.counts.tolist() == [0, 0, 0, 0]
    assert predicted.embeds.shape == (4, 0, 6)
    lens = torch.tensor([20, 0, 0, 13])
    predictor, hidden = made("full")
    hidden.requires_grad_()
    predicted = predictor(hidden, lens, torch.tensor([3, 0, 2, 3]))
    assert not predicted.embeds[1:3].any()
    (predicted.embeds.pow(2).sum() + predicted.total.sum()).backward()
    assert bool(torch.isfinite(hidden.grad).all())
    assert all(bool(torch.isfinite(p.grad).all()) for p in predictor.parameters())


def test_a_batch_without_frames_has_no_tokens():
    predictor, _ = made("full")
    predicted = predictor(torch.zeros(2, 0, 6), torch.tensor([0, 0]))
    assert predicted.alphas.shape == (2, 0)
    assert predicted.total.tolist() == [0, 0]
    assert predicted.embeds.shape == (2, 0, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_does_not_reach_the_predictor(kind: str):
    predictor, hidden = made(kind)
    exact = predictor(hidden.bfloat16().float(), LENS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predicted = predictor(hidden.bfloat16(), LENS)
    assert predicted.embeds.dtype == torch.bfloat16
    assert torch.equal(predicted.alphas, exact.alphas)
    assert torch.equal(predicted.total, exact.total)
    assert torch.equal(predicted.embeds, exact.embeds.bfloat16())


def test_dropout_acts_in_the_depthwise_form_only_and_in_training_only():
    for kind in KINDS:
        predictor, hidden = made(kind, dropout=0.5)
        calm = predictor(hidden, LENS).alphas
        assert torch.equal(predictor(hidden, LENS).alphas, calm)
        predictor.train()
        assert torch.equal(predictor(hidden, LENS).alphas, calm) == (kind == "full")


def test_what_does_not_fit_is_refused():
    with pytest.raises(AsrError, match="kind='v2' must be 'full' or 'depthwise'"):
        CifPredictor(dim=6, kind="v2", tail=0.45)  # type: ignore[arg-type]
    predictor, hidden = made("full")
    with pytest.raises(AsrError, match=r"hidden is \[4, 20, 5\]: axis 2 should be 6"):
        predictor(hidden[..., :5], LENS)
    with pytest.raises(AsrError, match="a length of 20 is longer than the padded size 19"):
        predictor(hidden[:, :19], LENS)
