"""Relative attention: scores by the formula, the legacy shift, padding, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from paraformer_asr.positions import legacy_positions
from paraformer_asr.relative import RelativeSelfAttention, legacy_shift, shift_to_keys

KINDS = ["latest", "legacy"]


def make(kind, dim=8, heads=2):
    torch.manual_seed(0)
    attention = RelativeSelfAttention(dim=dim, heads=heads, dropout=0.0, kind=kind)
    for bias in (attention.content_bias, attention.position_bias):
        nn.init.normal_(bias)
    return attention


def sinusoid(distance, dim):
    angle = [distance / 10000 ** (2 * i / dim) for i in range(dim // 2)]
    return torch.tensor([f(a) for a in angle for f in (math.sin, math.cos)])


def test_latest_scores_are_the_formula_pair_by_pair():
    attention, x = make("latest"), torch.randn(1, 5, 8)
    query, key, value = attention.query_key_value(x)[0].chunk(3, dim=-1)
    expected = torch.zeros(5, 8)
    for h in range(2):
        part = slice(4 * h, 4 * h + 4)
        u, v = attention.content_bias[h], attention.position_bias[h]
        for i in range(5):
            scores = []
            for j in range(5):
                place = attention.position(sinusoid(i - j, 8))[part]
                score = (query[i, part] + u) @ key[j, part] + (query[i, part] + v) @ place
                scores.append(score / 2)
            expected[i, part] = torch.stack(scores).softmax(dim=0) @ value[:, part]
    torch.testing.assert_close(attention(x)[0], attention.out(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 3, 8])
def test_the_shift_puts_each_distance_in_its_place(frames):
    table = torch.arange(frames * (2 * frames - 1)).view(1, frames, 2 * frames - 1)
    shifted = shift_to_keys(table)
    for i in range(frames):
        for j in range(frames):
            assert shifted[0, i, j] == table[0, i, frames - 1 - (i - j)]


@pytest.mark.parametrize("frames", [1, 2, 3, 6])
def test_the_legacy_shift_does_what_its_text_says(frames):
    table = 1 + torch.arange(frames * frames).view(1, frames, frames)
    shifted = legacy_shift(table)
    for i in range(frames):
        for j in range(frames):
            if j <= i:
                expected = table[0, i, frames - 1 - i + j]
            elif j == i + 1:
                expected = torch.tensor(0)
            else:
                expected = table[0, i + 1, j - i - 2]
            assert shifted[0, i, j] == expected


def test_latest_tells_past_from_future_and_legacy_does_not_know_the_next_frame():
    x = torch.randn(1, 1, 8).expand(1, 4, 8)  # equal frames: only positions differ
    latest, legacy = make("latest"), make("legacy")
    query = latest.query_key_value(x)[..., :8] + latest.position_bias.flatten()
    place = latest.position(torch.stack([sinusoid(d, 8) for d in range(3, -4, -1)]))
    scores = shift_to_keys(query @ place.T)[0]
    assert (scores[1, 0] - scores[0, 1]).abs() > 1e-3  # distances 1 and -1
    torch.testing.assert_close(scores[1, 0], scores[3, 2])
    query = legacy.query_key_value(x)[..., :8] + legacy.position_bias.flatten()
    scores = legacy_shift(query @ legacy.position(legacy_positions(4, x)).T)[0]
    assert scores.diagonal(1).eq(0).all()
    torch.testing.assert_close(scores[1, 0], scores[3, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    attention, x = make(kind), torch.randn(3, 9, 8)
    lengths = [9, 4, 1]
    mask = torch.arange(9) < torch.tensor(lengths)[:, None, None]
    output = attention(x, mask)
    for b, length in enumerate(lengths):
        alone = attention(x[b : b + 1, :length])[0]
        torch.testing.assert_close(output[b, :length], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_without_frames_gives_zeros_and_finite_gradients(kind):
    attention, x = make(kind), torch.randn(2, 3, 8, requires_grad=True)
    output = attention(x, torch.tensor([[True, True, False], [False] * 3])[:, None])
    assert output[1].eq(0).all()
    output.sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad[1].eq(0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_the_output(kind, masked):
    attention = make(kind, dim=4).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * 3, [True, True, False]])[:, None] if masked else None
    assert torch.autograd.gradcheck(lambda x: attention(x, mask), (x,))


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_keeps_everything_finite(kind):
    attention, x = make(kind), torch.randn(2, 5, 8)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])[:, None]
    with torch.autocast("cpu", torch.bfloat16):
        output = attention(x, mask)
    torch.testing.assert_close(output.float(), attention(x, mask), atol=0.1, rtol=0.1)
