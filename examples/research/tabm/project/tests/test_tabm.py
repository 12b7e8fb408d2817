import pytest
import torch
from torch.nn import functional

from model.mlp import MLP
from model.tabm import TabM
from testing.evaluator import probabilities
from training.loss import mean_loss


def one_member(network: TabM, i: int) -> MLP:
    """Return member i as an MLP with weights of its own."""
    width, classes = network.head_weight.shape[2], network.head_weight.shape[1]
    single = MLP(network.layers[0].weight.shape[1], classes, width=width)
    with torch.no_grad():
        for layer, linear in zip(network.layers, (single.layers[0], single.layers[3]), strict=True):
            linear.weight.copy_(layer.s[i][:, None] * layer.weight * layer.r[i])
            linear.bias.copy_(layer.bias[i])
        single.head.weight.copy_(network.head_weight[i])
        single.head.bias.copy_(network.head_bias[i])
    return single.eval()


def test_each_member_is_an_mlp_of_the_same_shape():
    torch.manual_seed(0)
    network, x = TabM(7, 3, members=4, width=16).eval(), torch.randn(6, 7)
    logits = network(x)
    assert logits.shape == (6, 4, 3)
    for i in range(4):
        torch.testing.assert_close(logits[:, i : i + 1], one_member(network, i)(x))


def test_a_members_loss_moves_no_vector_of_another():
    torch.manual_seed(0)
    network = TabM(7, 3, members=4, width=16)
    mean_loss(network(torch.randn(6, 7))[:, 2:3], torch.tensor([0, 1, 2, 0, 1, 2])).backward()
    own = [network.head_weight, network.head_bias]
    own += [p for layer in network.layers for p in (layer.r, layer.s, layer.bias)]
    for parameter in own:
        moved = parameter.grad.flatten(1).abs().sum(dim=1) > 0
        assert moved.tolist() == [False, False, True, False]
    assert all(layer.weight.grad.abs().sum() > 0 for layer in network.layers)


def test_dropout_draws_for_each_member():
    torch.manual_seed(0)
    network = TabM(7, 3, members=2, width=64)
    with torch.no_grad():
        for layer in network.layers:
            layer.r.fill_(1)
        network.head_weight[1] = network.head_weight[0]
        network.head_bias[1] = network.head_bias[0]
    x = torch.randn(6, 7)
    logits = network(x)
    assert not torch.allclose(logits[:, 0], logits[:, 1])
    logits = network.eval()(x)
    torch.testing.assert_close(logits[:, 0], logits[:, 1])


def test_the_prediction_is_the_mean_of_probabilities(wine_part):
    torch.manual_seed(0)
    network = TabM(wine_part.x.shape[1], 5, members=4, width=16)
    found = torch.tensor(probabilities(network, wine_part))
    assert not network.training
    logits = network(wine_part.x).double()
    mean = sum(functional.softmax(logits[:, i], dim=-1) for i in range(4)) / 4
    torch.testing.assert_close(found, mean)
    assert not torch.allclose(found, logits.mean(dim=1).softmax(dim=-1))


@pytest.fixture
def wine_part(wine):
    from data.preprocess import prepare

    return prepare(wine, seed=0).valid
