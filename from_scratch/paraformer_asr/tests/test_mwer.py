"""Minimum word error rate: by hand, gradient, sampling, padding."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from paraformer_asr.errors import AsrError
from paraformer_asr.mwer import mwer_loss, num_errors, sample_hypotheses

V = 6


def random_case(seed: int = 0, B: int = 3, K: int = 4, N: int = 5) -> tuple[Tensor, ...]:
    """Logits (B, K, V) float64, token_lens (0 among them), hypotheses (B, N, K), tokens (B, K)."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, K, V, generator=generator, dtype=torch.float64)
    token_lens = torch.tensor([K, K - 2, 0] * B)[:B]
    padded = torch.arange(K) >= token_lens[:, None]
    tokens = torch.randint(3, V, (B, K), generator=generator).masked_fill(padded, -1)
    hypotheses = sample_hypotheses(logits, token_lens, N, generator=generator)
    return logits, token_lens, hypotheses, tokens


def test_the_loss_by_hand():
    """One token, p = (0, 0, 0, 0.5, 0.3, 0.2), true 3, hypotheses 3 and 4: P^ = 5/8 and 3/8."""
    logits = torch.tensor([[[0.0, 0.0, 0.0, 0.5, 0.3, 0.2]]]).clamp_min(1e-30).log()
    hypotheses, tokens = torch.tensor([[[3], [4]]]), torch.tensor([[3]])
    loss = mwer_loss(logits, torch.tensor([1]), hypotheses, tokens)
    torch.testing.assert_close(loss, torch.tensor([5 / 8 * (0 - 0.5) + 3 / 8 * (1 - 0.5)]))


def test_the_gradient_is_share_times_errors_above_the_expected():
    logits, token_lens, hypotheses, tokens = random_case(1)
    logits.requires_grad_()
    loss = mwer_loss(logits, token_lens, hypotheses, tokens)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    log_p = logits.detach().log_softmax(dim=2)
    expected = torch.zeros_like(log_p)
    errors = num_errors(tokens, hypotheses).double()
    for b, length in enumerate(token_lens.tolist()):
        pairs = zip(hypotheses[b, :, :length].tolist(), errors[b].tolist(), strict=True)
        distinct = {tuple(hypothesis): number for hypothesis, number in pairs}
        log_P = torch.stack(
            [log_p[b, range(length), list(h)].sum() for h in distinct]  # 0 for no tokens
        )
        share = log_P.softmax(dim=0)
        W = torch.tensor(list(distinct.values()), dtype=torch.float64)
        for h, factor in zip(distinct, share * (W - (share * W).sum()), strict=True):
            for k, v in enumerate(h):  # d ln P / d logits: 1 at the chosen token, minus p
                expected[b, k] -= factor * log_p[b, k].exp()
                expected[b, k, v] += factor
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)
    assert gradient[0].abs().max() > 1e-2


def test_gradients_pass_the_numerical_check():
    logits, token_lens, hypotheses, tokens = random_case(2)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: mwer_loss(x, token_lens, hypotheses, tokens), (logits,)
    )


def test_with_all_sequences_as_hypotheses_it_is_the_expected_number_of_errors():
    logits = random_case(3, B=1, K=2)[0].requires_grad_()
    tokens, length = torch.tensor([[4, 5]]), torch.tensor([2])
    every = torch.tensor(list(itertools.product(range(V), repeat=2)))[None]
    loss = mwer_loss(logits, length, every, tokens)
    W = num_errors(tokens, every)[0].double()
    P = logits.log_softmax(dim=2).exp()[0]
    expectation = (P[0][:, None] * P[1][None]).flatten() @ W
    torch.testing.assert_close(loss[0], expectation - W.mean())
    both = [torch.autograd.grad(x, logits)[0] for x in (loss[0], expectation)]
    torch.testing.assert_close(*both)


def test_descending_it_makes_the_right_tokens_more_probable():
    torch.manual_seed(0)
    logits = torch.zeros(1, 3, V, requires_grad=True)
    tokens, length = torch.tensor([[3, 5, 4]]), torch.tensor([3])
    optimizer = torch.optim.SGD([logits], lr=2.0)
    for _ in range(60):
        hypotheses = sample_hypotheses(logits, length, 8)
        optimizer.zero_grad()
        mwer_loss(logits, length, hypotheses, tokens).sum().backward()
        optimizer.step()
    assert logits[0].argmax(dim=1).tolist() == tokens[0].tolist()


def test_a_hypothesis_drawn_twice_counts_once():
    logits, token_lens, hypotheses, tokens = random_case(4)
    twice = torch.cat([hypotheses, hypotheses[:, :2], hypotheses[:, :1]], dim=1)
    once = mwer_loss(logits, token_lens, hypotheses, tokens)
    torch.testing.assert_close(mwer_loss(logits, token_lens, twice, tokens), once)


def test_a_single_hypothesis_or_no_token_has_no_loss_and_no_gradient():
    logits, token_lens, hypotheses, tokens = random_case(5)
    logits.requires_grad_()
    loss = mwer_loss(logits, token_lens, hypotheses[:, :1].expand(-1, 4, -1), tokens)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert not loss.any()
    assert gradient.abs().max() < 1e-12
    assert mwer_loss(logits, token_lens, hypotheses, tokens)[2].item() == 0  # no tokens


def test_padding_is_not_read_and_gets_no_gradient():
    logits, token_lens, hypotheses, tokens = random_case(6)
    poisoned = logits.clone()
    poisoned[1, 2:] = float("nan")
    poisoned[2] = float("nan")
    poisoned.requires_grad_()
    loss = mwer_loss(poisoned, token_lens, hypotheses, tokens)
    torch.testing.assert_close(loss, mwer_loss(logits, token_lens, hypotheses, tokens))
    (gradient,) = torch.autograd.grad(loss.sum(), poisoned)
    assert not gradient[1, 2:].any()
    assert not gradient[2].any()


def test_an_utterance_alone_gives_what_it_gives_in_a_batch():
    logits, token_lens, hypotheses, tokens = random_case(7)
    together = mwer_loss(logits, token_lens, hypotheses, tokens)
    for b, length in enumerate(token_lens.tolist()):
        alone = mwer_loss(
            logits[b : b + 1, :length],
            token_lens[b : b + 1],
            hypotheses[b : b + 1, :, :length],
            tokens[b : b + 1, :length],
        )
        torch.testing.assert_close(alone[0], together[b])


def test_special_tokens_are_left_out_before_errors_are_counted():
    tokens = torch.tensor([[3, 4, 2]])  # </s> at the end
    hypotheses = torch.tensor([[[3, 4, 2], [3, 4, 0], [3, 1, 4], [3, 0, 0], [3, 4, 4]]])
    assert num_errors(tokens, hypotheses).tolist() == [[0, 0, 0, 1, 1]]


def test_errors_are_edits_not_differing_positions():
    tokens, hypotheses = torch.tensor([[3, 4, 5, 3]]), torch.tensor([[[4, 5, 3, 3]]])
    assert num_errors(tokens, hypotheses).tolist() == [[2]]  # three positions differ


def test_samples_follow_the_distribution_and_repeat_with_their_generator():
    probabilities = torch.tensor([0.05, 0.05, 0.1, 0.2, 0.25, 0.35])
    logits = probabilities.log().expand(1, 2, V)
    draw = [
        sample_hypotheses(
            logits, torch.tensor([2]), 4000, generator=torch.Generator().manual_seed(0)
        )
        for _ in range(2)
    ]
    assert torch.equal(*draw)
    for k in range(2):
        shares = draw[0][0, :, k].bincount(minlength=V) / 4000
        assert (shares - probabilities).abs().max() < 0.03
    assert not torch.equal(draw[0][0, :, 0], draw[0][0, :, 1])


def test_samples_have_the_length_of_their_utterance():
    logits, token_lens, hypotheses, _ = random_case(8)
    assert hypotheses.shape == (3, 5, 4)
    lengths = (hypotheses != -1).sum(dim=2)
    assert torch.equal(lengths, token_lens[:, None].expand(-1, 5))
    assert sample_hypotheses(logits[:, :0], 0 * token_lens, 3).shape == (3, 3, 0)


def test_shapes_that_do_not_fit_are_named():
    logits, token_lens, hypotheses, tokens = random_case(9)
    with pytest.raises(AsrError, match=r"hypotheses is \[3, 5, 3\]: axis 2 should be K=4"):
        mwer_loss(logits, token_lens, hypotheses[..., :3], tokens)
