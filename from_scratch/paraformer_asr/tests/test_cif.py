"""Continuous integrate-and-fire: the worked example, the loop, gradients, padding, hard cases."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from paraformer_asr.cif import (
    integrate_and_fire,
    integrate_and_fire_loop,
    overlap_weights,
)
from paraformer_asr.errors import AsrError

ALPHAS = torch.tensor([[0.3, 0.8, 0.4, 0.9, 0.2]])
HIDDEN = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])[None, :, None]


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def random_case(seed: int, B: int, T: int, D: int, top: float = 1.0) -> tuple[Tensor, Tensor]:
    """Hidden (B, T, D) and alphas (B, T) up to `top`, utterances padded to different lengths."""
    generator = torch.Generator().manual_seed(seed)
    lens = torch.randint(1, T + 1, (B,), generator=generator)
    mask = torch.arange(T) < lens[:, None]
    hidden = torch.randn(B, T, D, generator=generator)
    alphas = top * torch.rand(B, T, generator=generator) * mask
    return hidden, alphas


def both_ways(hidden: Tensor, alphas: Tensor, num_tokens: Tensor | None) -> list[list[Tensor]]:
    """[embeds, counts, gradient of hidden, gradient of alphas], the fast form's and the loop's.

    Gradients of alphas in the padding are set to 0, as the predictor's mask does: there the sum is
    within rounding of a whole number, on one side of which a frame more would count.
    """
    torch.manual_seed(0)
    found, gradient = [], None
    for form in (integrate_and_fire, integrate_and_fire_loop):
        given = [hidden.clone().requires_grad_(), alphas.clone().requires_grad_()]
        embeds, counts = form(*given, num_tokens=num_tokens)
        gradient = torch.randn_like(embeds) if gradient is None else gradient
        if embeds.requires_grad:
            embeds.backward(gradient)
        grads = [torch.zeros_like(x) if x.grad is None else x.grad for x in given]
        found.append([embeds.detach(), counts, grads[0], grads[1] * (alphas > 0)])
    return found


def test_the_worked_example_of_inference():
    embeds, counts = integrate_and_fire(HIDDEN, ALPHAS, tail=0.45)
    assert counts.tolist() == [3]  # floor(2.6 + 0.45)
    close(embeds[0, :, 0], torch.tensor([1.7, 3.4, 2.6]), 1e-6)
    weights = [[0.3, 0.7, 0, 0, 0], [0, 0.1, 0.4, 0.5, 0], [0, 0, 0, 0.4, 0.2]]
    close(overlap_weights(ALPHAS, 3)[0], torch.tensor(weights), 1e-6)


def test_the_worked_example_of_training():
    embeds, counts = integrate_and_fire(HIDDEN, ALPHAS, num_tokens=torch.tensor([3]))
    assert counts.tolist() == [3]
    close(embeds[0, :, 0], torch.tensor([1.65384615, 3.0, 4.23076923]), 1e-6)


def test_without_a_tail_the_rest_is_no_token():
    assert integrate_and_fire(HIDDEN, ALPHAS, tail=0.0)[1].tolist() == [2]


@pytest.mark.parametrize("T", [1, 2, 31, 32, 33, 64, 75, 128])
@pytest.mark.parametrize("top", [0.05, 0.4, 1.0])
@pytest.mark.parametrize("scaled", [False, True])
def test_equals_the_loop_forward_and_backward(T: int, top: float, scaled: bool):
    hidden, alphas = random_case(T, 3, T, 4, top)
    num_tokens = (alphas.sum(dim=1) * 0.9).ceil().long() if scaled else None
    fast, loop = both_ways(hidden, alphas, num_tokens)
    assert torch.equal(fast[1], loop[1])
    for ours, expected in zip(fast, loop, strict=True):
        close(ours, expected)


@pytest.mark.parametrize("T", [3, 20, 40, 100])
def test_a_frame_may_fill_several_tokens(T: int):
    """Weights above 1: more tokens than frames. The usual loop gives negative weights here."""
    hidden, alphas = random_case(T, 4, T, 3)
    for num_tokens in (None, torch.tensor([2 * T + 1, T, 1, 3 * T])):
        fast, loop = both_ways(hidden, 4 * alphas, num_tokens)
        assert fast[0].shape[1] > T
        for ours, expected in zip(fast, loop, strict=True):
            close(ours, expected)
    assert float(overlap_weights(4 * alphas, 4 * T).min()) == 0


def test_two_thousand_frames_equal_the_loop():
    generator = torch.Generator().manual_seed(0)
    alphas = 0.3 * torch.rand(2, 2000, generator=generator)
    hidden = torch.randn(2, 2000, 2, generator=generator)
    fast, loop = both_ways(hidden, alphas, None)
    assert int(fast[1].max()) > 200
    # The loop restarts its float32 sum at each token; its own rounding is the difference here.
    close(fast[0], loop[0], 1e-4)


def test_gradients_agree_with_numerical_ones():
    """Away from the frames where a token fires the sums are smooth; float32 limits the step."""
    alphas = ALPHAS.clone().requires_grad_()
    integrate_and_fire(HIDDEN, alphas, num_tokens=torch.tensor([3]))[0].pow(2).sum().backward()
    step, numerical = 1e-2, []
    for t in range(5):
        change = torch.zeros_like(ALPHAS)
        change[0, t] = step
        up, down = (
            integrate_and_fire(HIDDEN, ALPHAS + sign * change, num_tokens=torch.tensor([3]))[0]
            for sign in (1, -1)
        )
        numerical.append(float(up.pow(2).sum() - down.pow(2).sum()) / (2 * step))
    close(alphas.grad[0], torch.tensor(numerical), 2e-2)


def test_the_gradient_of_a_weight_follows_the_formula():
    """d E_k / d alpha_s is h_s - h_f inside the token, h_before - h_f earlier, 0 from the fire."""
    for k, expected in enumerate([[-1, 0, 0, 0, 0], [2 - 4, 2 - 4, 3 - 4, 0, 0]]):
        alphas = ALPHAS.clone().requires_grad_()
        integrate_and_fire(HIDDEN, alphas)[0][0, k, 0].backward()
        close(alphas.grad[0], torch.tensor(expected).float(), 1e-6)


def test_all_weights_zero_give_no_token_and_empty_rows_in_training():
    hidden, alphas = torch.randn(2, 40, 3), torch.zeros(2, 40)
    embeds, counts = integrate_and_fire(hidden, alphas)
    assert embeds.shape == (2, 0, 3)
    assert counts.tolist() == [0, 0]
    for form in (integrate_and_fire, integrate_and_fire_loop):
        weights = alphas.clone().requires_grad_()
        embeds, counts = form(hidden, weights, num_tokens=torch.tensor([6, 0]))
        assert counts.tolist() == [6, 0]
        assert torch.equal(embeds, torch.zeros(2, 6, 3))
        embeds.sum().backward()
        assert bool(torch.isfinite(weights.grad).all())


def test_an_utterance_without_tokens_beside_others():
    hidden, alphas = random_case(1, 3, 50, 3)
    alphas[1] = 0.001
    embeds, counts = integrate_and_fire(hidden, alphas)
    assert counts[1] == 0
    assert min(counts[0], counts[2]) > 0
    assert not embeds[1].any()


@pytest.mark.parametrize("training", [False, True])
def test_no_frames_at_all(training: bool):
    hidden, alphas = torch.zeros(2, 0, 3, requires_grad=True), torch.zeros(2, 0)
    num_tokens = torch.tensor([0, 2]) if training else None
    embeds, counts = integrate_and_fire(hidden, alphas, num_tokens=num_tokens)
    assert embeds.shape == (2, 2 if training else 0, 3)
    assert counts.tolist() == ([0, 2] if training else [0, 0])
    assert not embeds.any()
    embeds.sum().backward()


def test_one_frame_can_be_a_token_by_the_tail():
    hidden = torch.ones(1, 1, 2)
    for alpha, count in ((0.5, 0), (0.6, 1), (1.0, 1)):
        embeds, counts = integrate_and_fire(hidden, torch.tensor([[alpha]]))
        assert counts.tolist() == [count]
        close(embeds, torch.full((1, count, 2), alpha), 1e-6)


def test_counts_and_the_last_token_are_right_for_three_hundred_utterances():
    """Scaling to L leaves the float32 sum a hair below L for many; no last token may vanish."""
    generator = torch.Generator().manual_seed(0)
    below = 0
    for _ in range(300):
        T = int(torch.randint(20, 400, (), generator=generator))
        alphas = torch.rand(1, T, generator=generator)
        L = int(torch.randint(1, max(2, T // 4), (), generator=generator))
        hidden = torch.ones(1, T, 1)
        scaled = alphas * (L / alphas.sum(dim=1, keepdim=True))
        below += float(scaled.double().sum()) < L
        embeds, counts = integrate_and_fire(hidden, alphas, num_tokens=torch.tensor([L]))
        assert counts.tolist() == [L]
        close(embeds, torch.ones(1, L, 1), 2e-5)  # every token has a total weight of 1
        counts = integrate_and_fire(hidden, alphas)[1]
        assert counts.tolist() == [int(float(alphas.double().sum()) + 0.45)]
    assert below > 30  # the case this is about did occur


def test_the_weight_of_each_frame_is_kept():
    _, alphas = random_case(5, 4, 90, 1, 1.5)
    weights = overlap_weights(alphas, int(alphas.sum(dim=1).max()) + 1)
    close(weights.sum(dim=1), alphas)
    assert float(weights.min()) >= 0


@pytest.mark.parametrize("scaled", [False, True])
def test_a_batch_equals_its_utterances_alone(scaled: bool):
    hidden, alphas = random_case(2, 5, 70, 4)
    lens = (alphas > 0).sum(dim=1)
    num_tokens = torch.tensor([3, 9, 1, 0, 40]) if scaled else None
    embeds, counts = integrate_and_fire(hidden, alphas, num_tokens=num_tokens)
    for b in range(5):
        own = None if num_tokens is None else num_tokens[b : b + 1]
        T = int(lens[b])
        alone, count = integrate_and_fire(
            hidden[b : b + 1, :T], alphas[b : b + 1, :T], num_tokens=own
        )
        assert count == counts[b]
        close(embeds[b, : int(count)], alone[0])
        assert not embeds[b, int(count) :].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_frames_are_summed_in_float32(dtype: torch.dtype):
    hidden, alphas = random_case(3, 2, 100, 4)
    exact, counts = integrate_and_fire(hidden.to(dtype).float(), alphas)
    embeds, same = integrate_and_fire(hidden.to(dtype), alphas)
    assert embeds.dtype == dtype
    assert torch.equal(counts, same)
    assert torch.equal(embeds, exact.to(dtype))


def test_the_sum_of_many_small_weights_does_not_drift():
    alphas = torch.full((1, 6000), 0.1)
    counts = integrate_and_fire(torch.ones(1, 6000, 1), alphas, tail=0.01)[1]
    assert counts.tolist() == [600]


def test_tensors_that_do_not_belong_together_are_refused():
    with pytest.raises(AsrError, match=r"alphas is \[2, 4\]: axis 1 should be T=5 as in hidden"):
        integrate_and_fire(torch.zeros(2, 5, 3), torch.zeros(2, 4))
    with pytest.raises(AsrError, match=r"num_tokens is \[3\]: axis 0 should be B=2 as in alphas"):
        integrate_and_fire(
            torch.zeros(2, 5, 3), torch.zeros(2, 5), num_tokens=torch.ones(3, dtype=torch.long)
        )


def test_nan_reaches_the_result_in_training():
    hidden, alphas = torch.randn(2, 5, 3), torch.full((2, 5), 0.5)
    alphas[0, 2] = float("nan")
    embeds, _ = integrate_and_fire(hidden, alphas, num_tokens=torch.tensor([2, 2]))
    assert embeds[0].isnan().any()
    assert embeds[1].isfinite().all()
    hidden[1, 0, 0] = float("nan")
    embeds, _ = integrate_and_fire(hidden, alphas, num_tokens=torch.tensor([2, 2]))
    assert embeds[1].isnan().any()


def test_nan_at_inference_is_an_error():
    alphas = torch.full((1, 5), float("nan"))
    with pytest.raises(AsrError, match="the sum of alphas has 1 values that are NaN or infinite"):
        integrate_and_fire(torch.randn(1, 5, 3), alphas)
