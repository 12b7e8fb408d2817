import torch
from torch import nn

from model.batch_ensemble import BatchEnsemble


def spread(layer: BatchEnsemble) -> None:
    """Give every member vectors of its own."""
    for parameter in (layer.r, layer.s, layer.bias):
        nn.init.normal_(parameter)


def test_it_equals_one_explicit_linear_layer_per_member_forward_and_backward():
    torch.manual_seed(0)
    layer = BatchEnsemble(7, 5, 4, random_signs=True)
    spread(layer)
    x = torch.randn(6, 4, 7)
    linears = [nn.Linear(7, 5) for _ in range(4)]
    with torch.no_grad():
        for i, linear in enumerate(linears):
            linear.weight.copy_(torch.diag(layer.s[i]) @ layer.weight @ torch.diag(layer.r[i]))
            linear.bias.copy_(layer.bias[i])
    expected = torch.stack([linear(x[:, i]) for i, linear in enumerate(linears)], dim=1)
    found = layer(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)

    towards = torch.randn_like(found)
    (found * towards).sum().backward()
    (expected * towards).sum().backward()
    # dL/dW = sum_i diag(s_i) (dL/dV_i) diag(r_i) for V_i = diag(s_i) W diag(r_i).
    by_members = sum(
        layer.s[i][:, None] * linear.weight.grad * layer.r[i] for i, linear in enumerate(linears)
    )
    torch.testing.assert_close(layer.weight.grad, by_members, rtol=1e-5, atol=1e-5)
    biases = torch.stack([linear.bias.grad for linear in linears])
    torch.testing.assert_close(layer.bias.grad, biases, rtol=1e-5, atol=1e-6)


def test_a_member_reads_nothing_of_another():
    torch.manual_seed(0)
    layer = BatchEnsemble(7, 5, 4, random_signs=True)
    x = torch.randn(6, 4, 7)
    poisoned = x.clone()
    poisoned[:, 2] = float("nan")
    others = [0, 1, 3]
    assert layer(poisoned)[:, others].equal(layer(x)[:, others])
    assert layer(poisoned)[:, 2].isnan().all()


def test_only_random_signs_tell_members_apart_at_the_start():
    torch.manual_seed(0)
    x = torch.randn(6, 1, 7).expand(-1, 4, -1)
    alike = BatchEnsemble(7, 5, 4, random_signs=False)(x)
    torch.testing.assert_close(alike, alike[:, :1].expand_as(alike))
    layer = BatchEnsemble(7, 5, 4, random_signs=True)
    assert set(layer.r.unique().tolist()) == {-1.0, 1.0}
    apart = layer(x)
    assert not torch.allclose(apart[:, 0], apart[:, 1])
