"""The network: parity with NumPy and with torch's own modules, initialisation, and size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.nn.activations import ACTIVATIONS, gain
from maquette.tasks.tabular.model import NORMALIZATIONS, TabularMLP, embedding_width


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameters_counted_by_hand():
    model = TabularMLP(num_numbers=4, hidden_layers=(64, 32), num_outputs=3)
    assert count(model) == (4 * 64 + 64) + (64 * 32 + 32) + (32 * 3 + 3)


def test_parameters_counted_by_hand_with_embeddings_and_normalisation():
    model = TabularMLP(
        num_numbers=2,
        category_sizes=(3, 10),
        embedding_dim=5,
        hidden_layers=(8,),
        num_outputs=1,
        normalization="batch",
    )
    # No bias before batch normalisation, which has a scale and a shift per unit.
    assert count(model) == (3 + 10) * 5 + (2 + 5 + 5) * 8 + 2 * 8 + (8 + 1)


@pytest.mark.parametrize(("slots", "width"), [(2, 2), (10, 6), (100, 21), (10_000, 50)])
def test_width_of_embeddings(slots, width):
    assert embedding_width(slots) == width
    model = TabularMLP(num_numbers=0, category_sizes=(slots,), num_outputs=2)
    assert model.embeddings[0].weight.shape == (slots, width)


def test_values_equal_a_numpy_implementation():
    torch.manual_seed(0)
    model = TabularMLP(
        num_numbers=3, category_sizes=(4, 6), hidden_layers=(7, 5), num_outputs=2, activation="tanh"
    ).double()
    numbers = torch.randn(9, 3, dtype=torch.float64)
    categories = torch.stack([torch.randint(4, (9,)), torch.randint(6, (9,))], dim=1)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    hidden = np.concatenate(
        [
            numbers.numpy(),
            state["embeddings.0.weight"][categories[:, 0]],
            state["embeddings.1.weight"][categories[:, 1]],
        ],
        axis=1,
    )
    for layer in ("hidden.0", "hidden.2"):
        hidden = np.tanh(hidden @ state[f"{layer}.weight"].T + state[f"{layer}.bias"])
    expected = hidden @ state["output.weight"].T + state["output.bias"]
    with torch.no_grad():
        np.testing.assert_allclose(model(numbers, categories), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", ["none", *NORMALIZATIONS])
def test_values_and_gradients_equal_a_plain_sequential(activation, normalization):
    torch.manual_seed(0)
    model = TabularMLP(
        num_numbers=4,
        hidden_layers=(6,),
        num_outputs=3,
        activation=activation,
        normalization=normalization,
    ).double()
    names = {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "mish": "Mish", "selu": "SELU",
             "tanh": "Tanh", "leaky_relu": "LeakyReLU"}  # fmt: skip
    layers: list[nn.Module] = [nn.Linear(4, 6, bias=normalization != "batch")]
    if normalization != "none":
        layers.append(nn.BatchNorm1d(6) if normalization == "batch" else nn.LayerNorm(6))
    plain = nn.Sequential(*layers, getattr(nn, names[activation])(), nn.Linear(6, 3)).double()
    for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
        other.data.copy_(mine.data)

    inputs = torch.randn(8, 4, dtype=torch.float64)
    labels = torch.randint(3, (8,))
    for network in (model, plain):
        F.cross_entropy(network(inputs), labels).backward()
    torch.testing.assert_close(model(inputs), plain(inputs), rtol=1e-12, atol=1e-12)
    for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("num_classes", [2, 10])
def test_the_first_loss_is_near_that_of_guessing(activation, num_classes):
    torch.manual_seed(0)
    model = TabularMLP(
        num_numbers=20, hidden_layers=(64, 64, 64), num_outputs=num_classes, activation=activation
    )
    labels = torch.randint(num_classes, (512,))
    loss = F.cross_entropy(model(torch.randn(512, 20)), labels).item()
    assert loss == pytest.approx(math.log(num_classes), abs=0.05)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_signals_keep_their_size_through_four_layers(activation):
    torch.manual_seed(0)
    model = TabularMLP(
        num_numbers=256, hidden_layers=(256,) * 4, num_outputs=2, activation=activation
    )
    mean_square = model.hidden(torch.randn(256, 256)).square().mean().item()
    assert 0.5 < mean_square * gain(activation) ** 2 < 2


@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
def test_it_can_learn_one_batch_by_heart(normalization):
    torch.manual_seed(0)
    model = TabularMLP(
        num_numbers=5,
        category_sizes=(6,),
        hidden_layers=(64, 64),
        num_outputs=4,
        normalization=normalization,
    )
    inputs = (torch.randn(32, 5), torch.randint(6, (32, 1)))
    labels = torch.randint(4, (32,))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = F.cross_entropy(model(*inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


def predict(model: TabularMLP, *inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval()(*inputs)


def test_a_row_is_scored_alike_in_any_order_and_alone():
    torch.manual_seed(0)
    model = TabularMLP(num_numbers=5, num_outputs=3, normalization="batch", dropout=0.5)
    inputs = torch.randn(16, 5)
    together = predict(model, inputs)
    order = torch.randperm(16)
    torch.testing.assert_close(predict(model, inputs[order]), together[order])
    torch.testing.assert_close(predict(model, inputs[3:4]), together[3:4])
    assert predict(model, inputs[:0]).shape == (0, 3)


def test_one_output_is_one_number_per_row():
    model = TabularMLP(num_numbers=5, num_outputs=1)
    assert predict(model, torch.randn(7, 5)).shape == (7,)
    assert predict(model, torch.randn(1, 5)).shape == (1,)


def test_no_hidden_layer_is_a_linear_model():
    model = TabularMLP(num_numbers=3, hidden_layers=(), num_outputs=2)
    inputs = torch.randn(4, 3)
    expected = inputs @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(inputs), expected)


def test_dropout_is_off_in_evaluation():
    model = TabularMLP(num_numbers=3, num_outputs=2, dropout=0.5)
    inputs = torch.randn(4, 3)
    assert not torch.equal(model.train()(inputs), model(inputs))
    assert torch.equal(predict(model, inputs), predict(model, inputs))


def test_no_inputs_are_refused():
    with pytest.raises(ValueError, match="TabularMLP has no inputs: num_numbers is 0"):
        TabularMLP(num_numbers=0, num_outputs=2)


def test_unknown_names_are_refused_with_the_list():
    with pytest.raises(ValueError, match=r"'group'. Available: none, batch, layer"):
        TabularMLP(num_numbers=1, num_outputs=2, normalization="group")
    with pytest.raises(ValueError, match="Unknown activation 'swish'"):
        TabularMLP(num_numbers=1, num_outputs=2, activation="swish")
