"""Stochastic depth: whole samples, the right expectation, nothing in evaluation."""

from __future__ import annotations

import pytest
import torch

from maquette.nn.drop_path import DropPath


def test_identity_in_evaluation_and_at_zero():
    x = torch.randn(4, 3, 2, 2)
    assert DropPath(0.5).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


def test_drops_whole_samples_and_scales_the_rest():
    torch.manual_seed(0)
    x = torch.randn(1000, 3, 2, 2)
    out = DropPath(0.25).train()(x)
    dropped = (out == 0).flatten(1).all(dim=1)
    torch.testing.assert_close(out[~dropped], x[~dropped] / 0.75)
    assert 0.2 < dropped.float().mean() < 0.3


def test_expected_value_is_the_input():
    torch.manual_seed(0)
    x = torch.tensor([[1.0], [-2.0]])
    layer = DropPath(0.3).train()
    mean = torch.stack([layer(x) for _ in range(20_000)]).mean(dim=0)
    torch.testing.assert_close(mean, x, rtol=0, atol=0.03)  # 4 standard errors are 0.037, 0.019


def test_gradient_is_zero_exactly_where_dropped():
    torch.manual_seed(1)
    x = torch.ones(64, 5, requires_grad=True)
    out = DropPath(0.5).train()(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())  # the mask over 1 - p, in both directions


@pytest.mark.parametrize("probability", [-0.1, 1.0, 1.5])
def test_refuses_what_is_no_probability(probability):
    with pytest.raises(ValueError, match=r"drop_path is .*, expected a probability in \[0, 1\)"):
        DropPath(probability)
