"""Dropout: share, scale, gradient, seeds."""

from __future__ import annotations

import pytest
import torch

from paraformer_asr.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_p_and_the_mean_stays(p):
    torch.manual_seed(0)
    output = dropout(torch.ones(1000, 401), p)
    assert output.eq(0).float().mean().item() == pytest.approx(p, abs=0.003)
    assert output.mean().item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(output.max(), torch.tensor(1 / (1 - p)), rtol=2e-4, atol=0)


def test_elements_are_dropped_one_by_one_and_not_in_groups():
    torch.manual_seed(0)
    dropped = dropout(torch.ones(100_000, 4), 0.3).eq(0).double()
    neighbours = torch.corrcoef(dropped.T)
    assert (neighbours - torch.eye(4)).abs().max() < 0.02


def test_the_gradient_is_the_mask_of_the_forward_pass():
    torch.manual_seed(0)
    x = torch.rand(7, 5, requires_grad=True)
    output = dropout(x, 0.4)
    output.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), output.detach())


def test_a_seed_repeats_the_draws_and_the_next_draw_differs():
    torch.manual_seed(3)
    first, second = dropout(torch.ones(64), 0.5), dropout(torch.ones(64), 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(torch.ones(64), 0.5), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (3, 5)])
def test_any_shape_and_dtype_keeps_its_own(shape):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        output = dropout(torch.ones(shape, dtype=dtype), 0.5)
        assert output.shape == shape
        assert output.dtype == dtype


def test_nothing_is_dropped_at_p_zero_or_outside_training():
    x = torch.rand(4, 4)
    assert dropout(x, 0.0) is x
    assert Dropout(0.5).eval()(x) is x
    assert not torch.equal(Dropout(0.5)(x), x)
