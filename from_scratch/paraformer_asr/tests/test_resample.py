"""Resampling against the formula summed in float64, and against sounds known at both rates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from paraformer_asr import resample as module
from paraformer_asr.errors import AsrError
from paraformer_asr.resample import KAISER_BETA, ROLLOFF, ZEROS, resample

RATES = [
    (44100, 16000),
    (8000, 16000),
    (48000, 16000),
    (16000, 11025),
    (10, 9),
    (9, 10),
    (501, 500),
]


def tone(hz: float, rate: float, seconds: float) -> Tensor:
    times = torch.arange(int(rate * seconds), dtype=torch.float64) / rate
    return torch.sin(2 * math.pi * hz * times + 0.3)


def by_the_formula(samples: Tensor, source: int, target: int) -> Tensor:
    """Every output as a sum over every input, weights divided by their sum."""
    c = ROLLOFF * min(1.0, target / source)
    length = math.ceil(len(samples) * target / source)
    at = torch.arange(length, dtype=torch.float64)[:, None] * source / target
    # Positions beyond both ends, where the sound is 0, belong to the sum of the weights.
    reach = int(ZEROS / c) + 2
    positions = torch.arange(-reach, len(samples) + reach, dtype=torch.float64)
    x = (at - positions) * c
    inside = (1 - (x / ZEROS) ** 2).clamp(min=0).sqrt()
    weights = torch.sinc(x) * torch.i0(KAISER_BETA * inside) * (x.abs() < ZEROS)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return weights[:, reach:-reach] @ samples


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("size", [1, 50, 1203])
def test_it_is_the_sum_of_windowed_sincs(source: int, target: int, size: int):
    torch.manual_seed(0)
    samples = torch.randn(size, dtype=torch.float64)
    found = resample(samples.float(), source, target)
    torch.testing.assert_close(
        found, by_the_formula(samples, source, target).float(), atol=1e-5, rtol=1e-5
    )


def test_long_input_in_blocks_equals_one_block(monkeypatch: pytest.MonkeyPatch):
    samples = torch.randn(5000)
    whole = resample(samples, 9, 10)
    monkeypatch.setattr(module, "ROWS", 7)
    torch.testing.assert_close(resample(samples, 9, 10), whole)


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (8000, 16000), (11025, 8000)])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.87])
def test_a_tone_that_both_rates_hold_passes_within_a_thousandth(source, target, share):
    hz = share * min(source, target) / 2
    found = resample(tone(hz, source, 0.2).float(), source, target).double()
    expected = tone(hz, target, 0.2)
    inner = slice(len(expected) // 3, 2 * len(expected) // 3)
    assert (found[inner] - expected[inner]).abs().max() < 1e-3


@pytest.mark.parametrize("share", [1.03, 1.2, 2.0])
def test_a_tone_above_the_new_nyquist_frequency_is_70_db_weaker(share: float):
    found = resample(tone(share * 8000, 44100, 0.3).float(), 44100, 16000)
    inner = found[len(found) // 3 : 2 * len(found) // 3]
    assert 20 * math.log10(float(inner.square().mean().sqrt()) * math.sqrt(2)) < -70


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_constant_stays_constant_away_from_the_ends(source: int, target: int):
    found = resample(torch.full((4000,), 0.5), source, target)
    inner = found[len(found) // 4 : 3 * len(found) // 4]
    assert (inner - 0.5).abs().max() < 1e-6


@pytest.mark.parametrize(("source", "target"), RATES)
def test_the_length_is_rounded_up(source: int, target: int):
    for size in (1, 2, 99, 100, 441):
        expected = -(-size * target // source)
        assert len(resample(torch.randn(size), source, target)) == expected


def test_equal_rates_and_empty_input_are_left_alone():
    samples = torch.randn(10)
    assert resample(samples, 16000, 16000) is samples
    assert resample(samples[:0], 8000, 16000).shape == (0,)


def test_gradients_flow_to_the_samples():
    samples = torch.randn(40, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(80, dtype=torch.float64)
    (found,) = torch.autograd.grad((resample(samples, 1, 2) * weight).sum(), samples)
    (expected,) = torch.autograd.grad((by_the_formula(samples, 1, 2) * weight).sum(), samples)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_what_is_not_mono_float_is_refused():
    with pytest.raises(AsrError, match=r"samples are \[2, 5\] of torch.float32; expected \(N,\)"):
        resample(torch.zeros(2, 5), 1, 2)
    with pytest.raises(AsrError, match=r"samples are \[5\] of torch.int16; expected \(N,\) float"):
        resample(torch.zeros(5, dtype=torch.int16), 1, 2)


def test_rates_below_1_are_refused():
    with pytest.raises(AsrError, match="sample rates 16000 and 0 must be whole and above 0"):
        resample(torch.zeros(5), 16000, 0)
