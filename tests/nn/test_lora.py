"""Low-rank additions: the formula, the start, merging, and what is refused."""

import pytest
import torch
from torch import nn

from maquette.nn.lora import LoraLinear, LowRank, add_to_linear, merged


def linear(*, bias: bool = True, dtype: torch.dtype = torch.float64) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 4, bias=bias, dtype=dtype)


def trained(layer: LoraLinear) -> LoraLinear:
    """The layer with additions that are not zero any more."""
    with torch.no_grad():
        layer.low_rank.up.normal_()
    return layer


def test_outputs_and_gradients_are_those_of_the_formula() -> None:
    plain = linear()
    layer = trained(LoraLinear(plain, rank=2, alpha=3.0))
    x = torch.randn(3, 5, 6, dtype=torch.float64, requires_grad=True)
    down = layer.low_rank.down.detach().clone().requires_grad_()
    up = layer.low_rank.up.detach().clone().requires_grad_()

    y = layer(x)
    torch.autograd.backward(y.square().sum())
    gradient_x = x.grad
    x.grad = None
    expected = x @ (plain.weight + 3.0 / 2 * up @ down).T + plain.bias
    torch.autograd.backward(expected.square().sum())

    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient_x, x.grad, rtol=0, atol=1e-10)
    torch.testing.assert_close(layer.low_rank.down.grad, down.grad, rtol=0, atol=1e-10)
    torch.testing.assert_close(layer.low_rank.up.grad, up.grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_at_the_start_nothing_changes_bit_for_bit(bias: bool) -> None:
    plain = linear(bias=bias, dtype=torch.float32)
    x = torch.randn(7, 6)
    expected = plain(x)
    layer = LoraLinear(plain, rank=4, alpha=8.0, dropout=0.5)
    assert torch.equal(layer(x), expected)
    assert float(layer.low_rank.down.detach().abs().sum()) > 0


@pytest.mark.parametrize("bias", [True, False])
def test_a_merged_layer_is_plain_and_gives_the_same(bias: bool) -> None:
    layer = trained(LoraLinear(linear(bias=bias, dtype=torch.float32), rank=2, alpha=4.0))
    layer.eval()
    x = torch.randn(7, 6)
    expected = layer(x)
    plain = merged(layer)
    assert type(plain) is nn.Linear
    assert set(plain.state_dict()) == set(linear(bias=bias).state_dict())
    assert not plain.training
    torch.testing.assert_close(plain(x), expected, rtol=0, atol=1e-6)


def test_only_the_additions_learn_and_frozen_names_stay() -> None:
    layer = LoraLinear(linear(), rank=2, alpha=4.0)
    assert list(layer.state_dict()) == ["weight", "bias", "low_rank.down", "low_rank.up"]
    learned = [name for name, p in layer.named_parameters() if p.requires_grad]
    assert learned == ["low_rank.down", "low_rank.up"]


def test_additions_have_the_type_of_the_layer() -> None:
    assert LoraLinear(linear(), rank=2, alpha=4.0).low_rank.down.dtype == torch.float64


def test_dropout_touches_the_addition_alone_and_only_in_training() -> None:
    layer = trained(LoraLinear(linear(), rank=2, alpha=4.0, dropout=0.5))
    x = torch.ones(1, 6, dtype=torch.float64)
    without = nn.functional.linear(x, layer.weight, layer.bias)
    torch.manual_seed(1)
    draws = layer(x.expand(20_000, 6)) - without
    layer.eval()

    assert torch.equal(layer(x), layer(x))
    assert draws.std() > 0.1
    torch.testing.assert_close(draws.mean(dim=0), (layer(x) - without)[0], rtol=0, atol=0.1)


def test_a_batch_of_none_and_of_one() -> None:
    layer = trained(LoraLinear(linear(), rank=2, alpha=4.0))
    x = torch.randn(3, 6, dtype=torch.float64)
    assert layer(x[:0]).shape == (0, 4)
    torch.testing.assert_close(layer(x[1:2]), layer(x)[1:2])


def test_a_layer_is_replaced_where_it_stands() -> None:
    model = nn.Sequential(linear(), nn.ReLU())
    add_to_linear(model, "0", rank=1, alpha=2.0)
    assert isinstance(model[0], LoraLinear)
    assert "rank=1, scale=2" in repr(model)


@pytest.mark.parametrize("rank", [0, 5])
def test_a_rank_that_is_none_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=rf"rank is {rank}; a matrix of 4 × 6 takes 1 to 4\."):
        LowRank(in_features=6, out_features=4, rank=rank, alpha=1.0)


def test_alpha_must_be_positive() -> None:
    with pytest.raises(ValueError, match="alpha is 0, expected a number above 0"):
        LowRank(in_features=6, out_features=4, rank=1, alpha=0.0)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_dropout_must_be_a_share(dropout: float) -> None:
    with pytest.raises(ValueError, match=rf"dropout is {dropout:g}, expected a share"):
        LowRank(in_features=6, out_features=4, rank=1, alpha=1.0, dropout=dropout)
