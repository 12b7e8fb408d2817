"""Schedules, groups of parameters and the moving average, against hand-made numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from unet_seg.config import OptimConfig
from unet_seg.optim import WeightAverage, build_optimizer, learning_rate, set_learning_rate


def test_cosine_starts_at_the_peak_and_ends_at_its_share():
    config = OptimConfig(lr=2.0, warmup_steps=0, min_lr_ratio=0.1)
    assert learning_rate(config, 0, 0.0) == pytest.approx(2.0)
    assert learning_rate(config, 5, 0.5) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert learning_rate(config, 9, 1.0) == pytest.approx(0.2)
    assert learning_rate(config, 9, 1.5) == pytest.approx(0.2)


def test_poly_and_constant():
    poly = OptimConfig(lr=1.0, schedule="poly", warmup_steps=0, poly_power=0.9)
    assert learning_rate(poly, 0, 0.75) == pytest.approx(0.25**0.9)
    assert learning_rate(OptimConfig(lr=1.0, schedule="constant"), 99, 0.9) == 1.0


def test_warmup_rises_linearly_and_never_starts_at_zero():
    config = OptimConfig(lr=1.0, schedule="constant", warmup_steps=4)
    assert [learning_rate(config, step, 0.0) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_norms_and_biases_are_not_decayed(name):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    optimizer = build_optimizer(model, OptimConfig(name=name, weight_decay=0.3))
    decayed, rest = optimizer.param_groups
    assert [p.ndim for p in decayed["params"]] == [4]
    assert [p.ndim for p in rest["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)
    set_learning_rate(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


def test_sgd_without_momentum_is_plain_gradient_descent():
    weight = nn.Parameter(torch.tensor([[1.0]]))
    holder = nn.Module()
    holder.weight = weight
    optimizer = build_optimizer(
        holder, OptimConfig(name="sgd", momentum=0.0, lr=0.5, weight_decay=0)
    )
    weight.grad = torch.tensor([[1.0]])
    optimizer.step()
    assert weight.item() == 0.5


def test_average_follows_the_formula_and_copies_counters():
    model = nn.BatchNorm1d(1)
    average = WeightAverage(model, decay=0.5)
    expected = 1.0
    for step in range(5):
        with torch.no_grad():
            model.weight.fill_(10.0 + step)
            model.num_batches_tracked.fill_(step)
        average.update(model)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (10.0 + step)
    assert average.model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert average.model.num_batches_tracked.item() == 4
    assert not average.model.training
    assert not average.model.weight.requires_grad
    assert math.isfinite(expected)
