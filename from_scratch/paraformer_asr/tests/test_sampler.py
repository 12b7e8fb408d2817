"""The sampler: how many positions, which ones, and what they hold."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from paraformer_asr.errors import AsrError
from paraformer_asr.sampler import choose, glance, num_glanced

LENS = torch.tensor([8, 5, 0, 1])


def case(num_wrong: list[int]) -> dict[str, Tensor]:
    """Tokens, and logits whose first `num_wrong` argmaxes of each utterance are wrong."""
    torch.manual_seed(0)
    mask = torch.arange(8) < LENS[:, None]
    tokens = torch.randint(3, 9, (4, 8)).masked_fill(~mask, -1)
    guess = tokens.clamp_min(0)
    for b, count in enumerate(num_wrong):
        guess[b, :count] = (guess[b, :count] + 1) % 10
    logits = torch.nn.functional.one_hot(guess, 10).float()
    embeds, token_embeds = torch.full((4, 8, 2), 1.0), torch.full((4, 8, 2), 2.0)
    return {
        "embeds": embeds,
        "token_embeds": token_embeds,
        "logits": logits,
        "tokens": tokens,
        "token_lens": LENS,
    }


def replaced(mixed: Tensor) -> list[int]:
    return (mixed[..., 0] == 2).sum(dim=1).tolist()


def test_as_many_positions_as_the_ratio_of_wrong_tokens_rounded_down():
    inputs = case([5, 3, 0, 1])
    assert replaced(glance(**inputs, ratio=0.5)) == [2, 1, 0, 0]
    assert replaced(glance(**inputs, ratio=1.0)) == [5, 3, 0, 1]
    assert replaced(glance(**inputs, ratio=0.0)) == [0, 0, 0, 0]
    assert replaced(glance(**case([0, 0, 0, 0]), ratio=1.0)) == [0, 0, 0, 0]


def test_the_product_is_rounded_down_in_float32():
    wrong = torch.tensor([0, 1, 2, 3, 5, 10, 100])
    assert num_glanced(wrong, 0.4).tolist() == [0, 0, 0, 1, 2, 4, 40]
    assert num_glanced(wrong, 0.29).tolist()[-1] == 29  # 28.999999999999996 in float64


def test_padding_is_zero_whatever_stands_there():
    inputs = case([8, 5, 0, 1])
    padding = torch.arange(8) >= LENS[:, None]
    inputs["embeds"][padding] = float("nan")
    inputs["token_embeds"][padding] = float("nan")
    mixed = glance(**inputs, ratio=0.7)
    assert not mixed[padding].any()
    assert bool(torch.isfinite(mixed).all())


def test_gradients_reach_the_chosen_source_of_each_position_only():
    inputs = case([8, 5, 0, 1])
    inputs["embeds"].requires_grad_()
    inputs["token_embeds"].requires_grad_()
    inputs["logits"].requires_grad_()
    mixed = glance(**inputs, ratio=0.5)
    mixed.sum().backward()
    from_tokens = mixed.detach() == 2
    assert torch.equal(inputs["token_embeds"].grad, from_tokens.float())
    assert torch.equal(inputs["embeds"].grad, (mixed.detach() == 1).float())
    assert inputs["logits"].grad is None


def test_positions_come_uniformly_from_all_real_ones_also_from_right_ones():
    torch.manual_seed(1)
    mask = (torch.arange(6) < 4).expand(4000, 6)
    chosen = choose(mask, torch.full((4000,), 2))
    assert torch.equal(chosen.sum(dim=1), torch.full((4000,), 2))
    assert not chosen[:, 4:].any()
    share = chosen[:, :4].float().mean(dim=0)
    torch.testing.assert_close(share, torch.full((4,), 0.5), atol=0.03, rtol=0)
    pairs = (chosen[:, :1] & chosen[:, 1:4]).float().mean(dim=0)  # each pair: 1 in 6
    torch.testing.assert_close(pairs, torch.full((3,), 1 / 6), atol=0.03, rtol=0)


def test_no_more_than_there_are_can_be_drawn():
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert torch.equal(choose(mask, torch.tensor([3, 2])), mask)
    assert choose(torch.zeros(2, 0, dtype=torch.bool), torch.tensor([1, 1])).shape == (2, 0)


def test_the_generator_decides_the_positions():
    inputs = case([8, 5, 0, 1])
    torch.manual_seed(5)
    first = glance(**inputs, ratio=0.5)
    torch.manual_seed(5)
    assert torch.equal(glance(**inputs, ratio=0.5), first)
    assert any(not torch.equal(glance(**inputs, ratio=0.5), first) for _ in range(5))


def test_half_precision_embeds_stay_half():
    inputs = case([8, 5, 0, 1])
    inputs["embeds"] = inputs["embeds"].bfloat16()
    assert glance(**inputs, ratio=0.5).dtype == torch.bfloat16


def test_tensors_that_do_not_belong_together_are_refused():
    inputs = case([1, 1, 0, 0])
    inputs["tokens"] = inputs["tokens"][:, :7]
    with pytest.raises(AsrError, match=r"tokens is \[4, 7\]: axis 1 should be K=8 as in embeds"):
        glance(**inputs, ratio=0.5)
