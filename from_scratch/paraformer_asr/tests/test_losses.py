"""Loss terms: definitions, masks, what a configuration switches on, wrong input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from paraformer_asr.config import LossConfig
from paraformer_asr.ctc import ctc_loss
from paraformer_asr.errors import AsrError
from paraformer_asr.losses import Losses, label_smoothed_ce, quantity_mae
from paraformer_asr.models import Outputs

V = 6
TOKENS = torch.tensor([[3, 4, 4], [5, -1, -1], [-1, -1, -1]])
TOKEN_LENS = torch.tensor([3, 1, 0])


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def outputs(*, ctc: bool = True) -> Outputs:
    return Outputs(
        logits=random_logits(3, 3, V),
        first_logits=None,
        total=torch.tensor([2.5, 1.25, 0.5]),
        ctc_logits=random_logits(3, 9, V, seed=1) if ctc else None,
        hidden_lens=torch.tensor([9, 7, 5]),
        tokens=TOKENS,
        token_lens=TOKEN_LENS,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_ce_is_the_divergence_from_the_smoothed_labels(smoothing: float):
    logits = random_logits(3, 3, V)
    expected = 0.0
    for b, length in enumerate(TOKEN_LENS.tolist()):
        for k in range(length):
            p = logits[b, k].softmax(dim=0).tolist()
            q = [smoothing / (V - 1)] * V
            q[int(TOKENS[b, k])] = 1 - smoothing
            expected += sum(x * math.log(x / y) for x, y in zip(q, p, strict=True) if x)
    found = label_smoothed_ce(logits, TOKENS, TOKEN_LENS, smoothing)
    assert float(found) == pytest.approx(expected, abs=1e-10)


def test_ce_without_smoothing_is_pytorchs_cross_entropy_with_its_gradient():
    logits = random_logits(3, 3, V).requires_grad_()
    ours = label_smoothed_ce(logits, TOKENS, TOKEN_LENS, 0.0)
    theirs = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), TOKENS.flatten(), ignore_index=-1, reduction="sum"
    )
    torch.testing.assert_close(ours, theirs)
    both = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*both)


def test_ce_is_zero_for_the_perfect_answer_and_ln_v_for_a_guess():
    smoothing = 0.1
    perfect = torch.full((1, 1, V), math.log(smoothing / (V - 1)))
    perfect[0, 0, 3] = math.log(1 - smoothing)
    one, token = torch.tensor([1]), torch.tensor([[3]])
    assert float(label_smoothed_ce(perfect, token, one, smoothing)) == pytest.approx(0, abs=1e-6)
    guess = label_smoothed_ce(torch.zeros(1, 1, V), token, one, 0.0)
    assert float(guess) == pytest.approx(math.log(V))


def test_ce_does_not_read_the_padding():
    clean = random_logits(3, 3, V)
    poisoned, other = clean.clone(), TOKENS.clone()
    poisoned[1, 1:] = float("nan")
    poisoned[2] = float("inf")
    other[1, 1:] = 10**6
    poisoned.requires_grad_()
    found = label_smoothed_ce(poisoned, other, TOKEN_LENS, 0.1)
    torch.testing.assert_close(found, label_smoothed_ce(clean, TOKENS, TOKEN_LENS, 0.1))
    (gradient,) = torch.autograd.grad(found, poisoned)
    assert not gradient[1, 1:].any()
    assert not gradient[2].any()
    assert gradient[0].any()


def test_half_precision_logits_are_computed_in_float32():
    logits = random_logits(3, 3, V).bfloat16()
    found = label_smoothed_ce(logits, TOKENS, TOKEN_LENS, 0.1)
    torch.testing.assert_close(found, label_smoothed_ce(logits.float(), TOKENS, TOKEN_LENS, 0.1))
    assert found.dtype == torch.float32


def test_quantity_is_the_absolute_difference_summed_over_utterances():
    total = torch.tensor([2.5, 1.25, 0.5], requires_grad=True)
    loss = quantity_mae(total, TOKEN_LENS)
    assert loss.item() == 0.5 + 0.25 + 0.5
    loss.backward()
    assert total.grad is not None
    assert total.grad.tolist() == [-1, 1, 1]


def test_each_weight_multiplies_its_own_term():
    losses = Losses(LossConfig(ctc=0.3, quantity=2.0, label_smoothing=0.1))
    given = outputs()
    sums = losses.sums(given, TOKENS, TOKEN_LENS)
    counts = losses.counts(TOKEN_LENS)
    assert counts == {"ce": 4, "quantity": 3, "ctc": 3}
    ctc = ctc_loss(given.ctc_logits, given.hidden_lens, TOKENS, TOKEN_LENS)
    expected = (
        0.7 * label_smoothed_ce(given.logits, TOKENS, TOKEN_LENS, 0.1) / 4
        + 2.0 * quantity_mae(given.total, TOKEN_LENS) / 3
        + 0.3 * ctc.sum() / 3
    )
    torch.testing.assert_close(losses.total(sums, counts), expected)


def test_terms_of_weight_zero_are_left_out_but_ce_and_quantity_are_shown():
    losses = Losses(LossConfig(ctc=0.0, quantity=0.0))
    sums = losses.sums(outputs(ctc=False), TOKENS, TOKEN_LENS)
    assert list(sums) == list(losses.weights) == ["ce", "quantity"]
    found = losses.total(sums, losses.counts(TOKEN_LENS))
    torch.testing.assert_close(found, sums["ce"] / 4)


def test_mwer_is_added_where_it_has_a_weight():
    torch.manual_seed(0)
    losses = Losses(LossConfig(ctc=0.0, mwer=0.5, mwer_samples=8))
    sums = losses.sums(outputs(), TOKENS, TOKEN_LENS)
    assert set(sums) == set(losses.counts(TOKEN_LENS)) == {"ce", "quantity", "mwer"}
    without = {name: part for name, part in sums.items() if name != "mwer"}
    plain = Losses(LossConfig(ctc=0.0)).total(without, {"ce": 4, "quantity": 3})
    found = losses.total(sums, losses.counts(TOKEN_LENS))
    torch.testing.assert_close(found, plain + 0.5 * sums["mwer"] / 3)
    assert abs(float(sums["mwer"])) > 1e-3


def test_with_an_end_token_ce_counts_it_and_ctc_does_not():
    with_end = torch.tensor([[3, 4, 4, 2], [5, 2, -1, -1], [2, -1, -1, -1]])
    given = Outputs(
        logits=random_logits(3, 4, V),
        first_logits=None,
        total=torch.tensor([4.0, 2.0, 1.0]),
        ctc_logits=random_logits(3, 9, V, seed=1),
        hidden_lens=torch.tensor([9, 7, 5]),
        tokens=with_end,
        token_lens=TOKEN_LENS + 1,
    )
    losses = Losses(LossConfig())
    sums = losses.sums(given, TOKENS, TOKEN_LENS)
    assert losses.counts(TOKEN_LENS + 1)["ce"] == 7
    assert float(sums["quantity"]) == 0
    expected = ctc_loss(given.ctc_logits, given.hidden_lens, TOKENS, TOKEN_LENS).sum()
    torch.testing.assert_close(sums["ctc"], expected)


def test_utterances_too_short_for_ctc_are_counted_and_add_nothing():
    losses = Losses(LossConfig())
    whole = outputs()
    short = Outputs(**{**vars(whole), "hidden_lens": torch.tensor([3, 7, 5])})  # 3 4 4 needs four
    assert int(losses.num_impossible(whole, TOKENS, TOKEN_LENS)) == 0
    assert int(losses.num_impossible(short, TOKENS, TOKEN_LENS)) == 1
    assert int(Losses(LossConfig(ctc=0)).num_impossible(short, TOKENS, TOKEN_LENS)) == 0
    assert whole.ctc_logits is not None
    rest = ctc_loss(whole.ctc_logits, whole.hidden_lens, TOKENS, TOKEN_LENS)[1:].sum()
    torch.testing.assert_close(losses.sums(short, TOKENS, TOKEN_LENS)["ctc"], rest)


def test_a_step_of_empty_texts_has_a_finite_loss():
    given = Outputs(
        logits=torch.zeros(2, 0, V, requires_grad=True),
        first_logits=None,
        total=torch.tensor([0.5, 0.25], requires_grad=True),
        ctc_logits=torch.zeros(2, 4, V),
        hidden_lens=torch.tensor([4, 3]),
        tokens=torch.zeros(2, 0, dtype=torch.int64),
        token_lens=torch.zeros(2, dtype=torch.int64),
    )
    losses = Losses(LossConfig(ctc=0.3, mwer=1.0))
    sums = losses.sums(given, given.tokens, given.token_lens)
    loss = losses.total(sums, losses.counts(given.token_lens))
    assert sums["ce"].item() == sums["mwer"].item() == 0
    assert loss.item() == pytest.approx(0.375 + 0.3 * math.log(V) * 3.5)
    loss.backward()


def test_what_does_not_fit_is_named():
    with pytest.raises(AsrError, match=r"^loss\.ctc is above 0, but the model has no CTC head"):
        Losses(LossConfig(ctc=0.3)).sums(outputs(ctc=False), TOKENS, TOKEN_LENS)
    with pytest.raises(AsrError, match=r"^token ids reach from 3 to 7, but the model has 6 tokens"):
        label_smoothed_ce(torch.zeros(1, 2, V), torch.tensor([[3, 7]]), torch.tensor([2]), 0.1)
    with pytest.raises(AsrError, match=r"^token ids reach from -1 to 3"):
        label_smoothed_ce(torch.zeros(1, 2, V), torch.tensor([[3, -1]]), torch.tensor([2]), 0.1)
    with pytest.raises(AsrError, match=r"tokens is \[3, 3\]: axis 1 should be K=2 as in logits"):
        label_smoothed_ce(torch.zeros(3, 2, V), TOKENS, TOKEN_LENS, 0.1)
