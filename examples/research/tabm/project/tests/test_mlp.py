import torch
from torch.nn import functional

from model.mlp import MLP


def test_it_is_the_formula():
    torch.manual_seed(0)
    network, x = MLP(7, 3, width=16).eval(), torch.randn(6, 7)
    first, second = network.layers[0], network.layers[3]
    h1 = torch.relu(x @ first.weight.T + first.bias)
    h2 = torch.relu(h1 @ second.weight.T + second.bias)
    expected = h2 @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(x)[:, 0], expected)
    assert network(x).shape == (6, 1, 3)


def test_it_learns_one_batch_by_heart():
    torch.manual_seed(0)
    network, x, y = MLP(7, 3), torch.randn(12, 7), torch.arange(12) % 3
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(x)[:, 0], y)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
