"""Each update rule, written out and fused, against torch.optim; decay, clipping, schedules."""

from typing import Any

import pytest
import torch
from torch import nn

from maquette.training.optim import RULES, Optimizer, clip_, decayed_parameters, global_norm

RATE = 0.02


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))


def set_gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def reference(name: str, model: nn.Module, decay: float, momentum: float) -> torch.optim.Optimizer:
    """The same rule from torch.optim; decay by parameter group."""
    chosen = decayed_parameters(model)
    groups: list[dict[str, Any]] = [
        {"params": [p for n, p in model.named_parameters() if n in chosen], "weight_decay": decay},
        {"params": [p for n, p in model.named_parameters() if n not in chosen], "weight_decay": 0},
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=RATE, momentum=momentum)
    if name == "rmsprop":
        return torch.optim.RMSprop(model.parameters(), lr=RATE, momentum=momentum)
    return torch.optim.AdamW(groups, lr=RATE)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", RULES)
def test_ten_steps_equal_torch_optim(name: str, decay: float, momentum: float, fused: bool) -> None:
    ours, theirs = network(), network()
    optimizer = Optimizer(ours, name=name, weight_decay=decay, momentum=momentum)  # type: ignore[arg-type]
    assert optimizer._fused
    optimizer._fused = fused
    peer = reference(name, theirs, decay, momentum)

    for step in range(10):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        if name == "rmsprop":  # torch's RMSprop has no decoupled decay: written out here
            with torch.no_grad():
                for n, p in theirs.named_parameters():
                    p.mul_(1 - RATE * decay if n in decayed_parameters(theirs) else 1)
        optimizer.step(optimizer.gradients(), RATE)
        peer.step()

    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_state_saved_and_loaded_continues_bit_for_bit(name: str) -> None:
    straight, resumed = network(), network()
    first = Optimizer(straight, name=name)  # type: ignore[arg-type]
    for step in range(3):
        set_gradients(straight, step)
        first.step(first.gradients(), RATE)
    resumed.load_state_dict(straight.state_dict())
    second = Optimizer(resumed, name=name)  # type: ignore[arg-type]
    second.load({name: tensor.clone() for name, tensor in first.tensors().items()}, first.steps)

    for model, optimizer in ((straight, first), (resumed, second)):
        set_gradients(model, 9)
        optimizer.step(optimizer.gradients(), RATE)

    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_state_is_named_by_slot_and_parameter() -> None:
    assert "first_moment/0.weight" in Optimizer(network(), name="adamw").tensors()


def test_a_parameter_without_a_gradient_has_gradient_zero() -> None:
    model = network()
    optimizer = Optimizer(model, name="sgd", weight_decay=0.0, momentum=0.0)
    model[0](torch.ones(1, 5)).sum().backward()  # type: ignore[index]
    before = model[2].weight.clone()  # type: ignore[index]

    optimizer.step(optimizer.gradients(), RATE)

    assert torch.equal(model[2].weight, before)  # type: ignore[index]


def test_frozen_parameters_are_left_alone() -> None:
    model = network()
    model[0].weight.requires_grad_(False)  # type: ignore[index]
    before = model[0].weight.clone()  # type: ignore[index]
    optimizer = Optimizer(model, name="adamw", weight_decay=0.5)
    optimizer.step(optimizer.gradients(), RATE)
    assert torch.equal(model[0].weight, before)  # type: ignore[index]


def test_decay_shrinks_weights_only() -> None:
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 3),
            "batch_norm": nn.BatchNorm2d(4),
            "layer_norm": nn.LayerNorm([4, 5]),
            "table": nn.Embedding(6, 2),
            "linear": nn.Linear(4, 2),
        }
    )
    assert decayed_parameters(model) == {"conv.weight", "linear.weight"}


def test_decay_leaves_tables_and_scalars_of_modules_that_hold_them_alone() -> None:
    model = nn.Module()
    model.positional_embedding = nn.Parameter(torch.ones(7, 4))
    model.class_embedding = nn.Parameter(torch.ones(4))
    model.logit_scale = nn.Parameter(torch.tensor(2.0))
    model.text_projection = nn.Parameter(torch.ones(4, 4))
    model.visual = nn.Module()
    model.visual.positional_embedding = nn.Parameter(torch.ones(7, 4))
    model.attn = nn.MultiheadAttention(4, 2)
    assert decayed_parameters(model) == {
        "text_projection",
        "attn.in_proj_weight",
        "attn.out_proj.weight",
    }


RATES = {"0.weight": 0.5, "0.bias": 0.5, "1.weight": 0.25, "2.bias": 1.0}
"""Three groups: a half, a quarter, and 1 for the named and the unnamed rest."""


def grouped_reference(name: str, model: nn.Module, decay: float) -> torch.optim.Optimizer:
    """torch.optim with one parameter group per parameter."""
    chosen = decayed_parameters(model)
    groups: list[dict[str, Any]] = [
        {
            "params": [p],
            "lr": RATE * RATES.get(n, 1.0),
            "weight_decay": decay if n in chosen else 0,
        }
        for n, p in model.named_parameters()
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=0.9)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, momentum=0.9)
    return torch.optim.AdamW(groups)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", RULES)
def test_rates_equal_parameter_groups_of_torch_optim(name: str, fused: bool) -> None:
    decay = 0.0 if name == "rmsprop" else 0.1
    ours, theirs = network(), network()
    optimizer = Optimizer(ours, name=name, weight_decay=decay, rates=RATES)  # type: ignore[arg-type]
    optimizer._fused = fused
    peer = grouped_reference(name, theirs, decay)

    for step in range(10):
        set_gradients(ours, step)
        set_gradients(theirs, step)
        optimizer.step(optimizer.gradients(), RATE)
        peer.step()

    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_decoupled_decay_follows_the_rate() -> None:
    model = network()
    before = model[0].weight.clone()  # type: ignore[index]
    optimizer = Optimizer(model, name="rmsprop", weight_decay=0.5, rates={"0.weight": 0.5})
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(optimizer.gradients(), RATE)
    torch.testing.assert_close(model[0].weight, before * (1 - RATE * 0.5 * 0.5))  # type: ignore[index]


@pytest.mark.parametrize("name", RULES)
def test_rates_of_one_change_nothing_bit_for_bit(name: str) -> None:
    with_rates, without = network(), network()
    rates = dict.fromkeys(dict(with_rates.named_parameters()), 1.0)
    one = Optimizer(with_rates, name=name, weight_decay=0.1, rates=rates)  # type: ignore[arg-type]
    other = Optimizer(without, name=name, weight_decay=0.1)  # type: ignore[arg-type]
    for step in range(3):
        for model, optimizer in ((with_rates, one), (without, other)):
            set_gradients(model, step)
            optimizer.step(optimizer.gradients(), RATE)
    for mine, theirs in zip(with_rates.parameters(), without.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", RULES)
def test_state_with_rates_has_the_same_names_and_continues_bit_for_bit(name: str) -> None:
    straight, resumed = network(), network()
    first = Optimizer(straight, name=name, rates=RATES)  # type: ignore[arg-type]
    assert list(first.tensors()) == list(Optimizer(network(), name=name).tensors())  # type: ignore[arg-type]
    for step in range(3):
        set_gradients(straight, step)
        first.step(first.gradients(), RATE)
    resumed.load_state_dict(straight.state_dict())
    second = Optimizer(resumed, name=name, rates=RATES)  # type: ignore[arg-type]
    second.load({name: tensor.clone() for name, tensor in first.tensors().items()}, first.steps)

    for model, optimizer in ((straight, first), (resumed, second)):
        set_gradients(model, 9)
        optimizer.step(optimizer.gradients(), RATE)

    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_rates_of_frozen_parameters_are_not_used() -> None:
    model = network()
    model[0].weight.requires_grad_(False)  # type: ignore[index]
    optimizer = Optimizer(model, name="adamw", rates={"0.weight": 0.5})
    assert "first_moment/0.weight" not in optimizer.tensors()


def test_a_rate_of_no_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rates name '7\.weight', which is no parameter"):
        Optimizer(network(), name="adamw", rates={"7.weight": 0.5})


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_no_factor_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"the rate of '0\.bias' is .*; expected a finite factor"):
        Optimizer(network(), name="adamw", rates={"0.bias": rate})


def test_norm_and_clipping_equal_torch() -> None:
    ours, theirs = network(), network()
    set_gradients(ours, 0)
    set_gradients(theirs, 0)
    gradients = [p.grad for p in ours.parameters() if p.grad is not None]

    norm = global_norm(gradients)
    clip_(gradients, norm, 0.5)
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)

    torch.testing.assert_close(norm, expected)
    torch.testing.assert_close(gradients, [p.grad for p in theirs.parameters()])
    torch.testing.assert_close(global_norm(gradients), torch.tensor(0.5))


def test_clipping_leaves_small_gradients_bit_for_bit() -> None:
    gradients = [torch.tensor([0.3, 0.4])]
    clip_(gradients, global_norm(gradients), 1.0)
    assert torch.equal(gradients[0], torch.tensor([0.3, 0.4]))
