"""The moving average is the weighted mean it says it is, and gives the weights back."""

import torch
from torch import nn

from maquette.training.ema import Ema

DECAY = 0.9


def walk(model: nn.Linear, ema: Ema, steps: int) -> list[torch.Tensor]:
    """Move the weights at random, and return every position."""
    seen = []
    for _ in range(steps):
        with torch.no_grad():
            model.weight.add_(torch.randn(model.weight.shape))
        ema.update()
        seen.append(model.weight.detach().clone())
    return seen


def test_the_average_is_the_normalised_sum_of_all_weights_seen() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2, dtype=torch.float64)
    ema = Ema(model, DECAY)
    seen = walk(model, ema, 12)

    powers = torch.tensor([DECAY ** (12 - i) for i in range(1, 13)], dtype=torch.float64)
    expected = (powers[:, None, None] * torch.stack(seen)).sum(0) / powers.sum()

    torch.testing.assert_close(ema.tensors()["weight"], expected, rtol=1e-12, atol=1e-12)


def test_the_first_average_is_the_first_weights_not_the_initial_ones() -> None:
    model = nn.Linear(3, 2)
    ema = Ema(model, 0.999)
    (first,) = walk(model, ema, 1)
    assert torch.equal(ema.tensors()["weight"], first)


def test_applied_lends_the_average_and_gives_back_the_weights_and_keeps_buffers() -> None:
    model = nn.BatchNorm1d(4)
    ema = Ema(model, DECAY)
    with torch.no_grad():
        model.weight.fill_(5.0)
    model(torch.randn(8, 4))  # moves the running mean
    running_mean = model.running_mean.clone()  # type: ignore[union-attr]

    with ema.applied():
        assert torch.equal(model.weight, torch.ones(4))
        assert torch.equal(model.running_mean, running_mean)  # type: ignore[arg-type]

    assert torch.equal(model.weight, torch.full((4,), 5.0))


def test_saved_and_loaded_it_continues_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    ema = Ema(model, DECAY)
    walk(model, ema, 3)
    copy = Ema(model, DECAY)
    copy.load({name: tensor.clone() for name, tensor in ema.tensors().items()}, ema.updates)

    with torch.no_grad():
        model.weight.add_(1.0)
    ema.update()
    copy.update()

    assert torch.equal(ema.tensors()["weight"], copy.tensors()["weight"])
