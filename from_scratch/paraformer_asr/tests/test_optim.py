"""Groups of parameters, learning rates against their formulas, the moving average."""

import math

import pytest
import torch
from torch import nn

from paraformer_asr.config import OptimConfig
from paraformer_asr.errors import AsrError
from paraformer_asr.optim import Average, build_optimizer, learning_rate, set_learning_rate


class Parts(nn.Module):
    """One of each kind of parameter, and a matrix that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.linear = nn.Linear(4, 4)
        self.conv = nn.Conv1d(4, 4, 3, padding=1, groups=4)
        self.norm = nn.BatchNorm1d(4)
        self.pos_bias_u = nn.Parameter(torch.ones(2, 2))
        self.output = nn.Linear(4, 5, bias=False)
        self.output.weight = self.embed.weight
        self.frozen = nn.Parameter(torch.ones(3, 3), requires_grad=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.linear(self.embed(tokens)) * self.pos_bias_u.sum()
        return self.output(self.norm(self.conv(x.transpose(1, 2))).transpose(1, 2))


def names_of(model: nn.Module, parameters: list[torch.Tensor]) -> set[str]:
    ids = {id(parameter) for parameter in parameters}
    return {name for name, parameter in model.named_parameters() if id(parameter) in ids}


def test_matrices_and_filters_decay_and_nothing_else_does():
    model = Parts()
    decayed, kept = build_optimizer(model, OptimConfig(weight_decay=0.3)).param_groups
    assert names_of(model, decayed["params"]) == {"linear.weight", "conv.weight"}
    assert names_of(model, kept["params"]) == {
        *("embed.weight", "linear.bias", "conv.bias", "norm.weight", "norm.bias", "pos_bias_u"),
    }
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)],
)
def test_every_name_builds_its_optimiser_and_lowers_a_loss(name, kind):
    torch.manual_seed(0)
    model = Parts()
    optimizer = build_optimizer(model, OptimConfig(name=name, lr=0.05, betas=(0.8, 0.9)))
    assert type(optimizer) is kind
    tokens = torch.tensor([[0, 1, 2], [3, 4, 0]])
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2


def test_a_step_of_adamw_equals_the_formula():
    model = nn.Linear(3, 2)
    config = OptimConfig(lr=0.1, weight_decay=0.2, betas=(0.9, 0.98))
    optimizer = build_optimizer(model, config)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(torch.tensor([[1.0, -2.0, 3.0]])).square().sum().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        decay = 0.2 if name == "weight" else 0.0
        # After one step both moments, corrected for their start, are those of this gradient.
        expected = before[name] * (1 - 0.1 * decay) - 0.1 * grad / (grad.abs() + 1e-8)
        torch.testing.assert_close(parameter.detach(), expected)


def test_set_learning_rate_reaches_all_groups():
    optimizer = build_optimizer(Parts(), OptimConfig())
    set_learning_rate(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


def test_cosine_starts_at_the_peak_halves_in_the_middle_and_ends_at_final_lr():
    config = OptimConfig(lr=2.0, final_lr=0.1, warmup_steps=0)
    rates = [learning_rate(config, 10, p) for p in (-1.0, 0.0, 0.5, 1.0, 7.0)]
    assert rates == pytest.approx([2.0, 2.0, 1.1, 0.2, 0.2])


def test_warm_up_rises_in_equal_steps_and_the_first_step_is_not_lost():
    config = OptimConfig(lr=1.0, schedule="constant", warmup_steps=4)
    rates = [learning_rate(config, step, 0.0) for step in range(6)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


def test_inverse_sqrt_is_highest_at_the_end_of_the_warm_up_and_ignores_progress():
    config = OptimConfig(lr=5e-4, schedule="inverse_sqrt", warmup_steps=100)
    rates = {s: learning_rate(config, s - 1, 0.9) for s in (1, 50, 99, 100, 101, 400)}
    assert max(rates, key=rates.__getitem__) == 100
    assert rates[100] == pytest.approx(5e-4)
    for s, rate in rates.items():
        assert rate == pytest.approx(5e-4 * 100**0.5 * min(s**-0.5, s * 100**-1.5))


def test_inverse_sqrt_without_a_warm_up_falls_from_the_first_step():
    config = OptimConfig(lr=1.0, schedule="inverse_sqrt", warmup_steps=0)
    assert learning_rate(config, 0, 0.0) == pytest.approx(1.0)
    assert learning_rate(config, 3, 0.0) == pytest.approx(0.5)


def test_the_average_follows_weights_and_buffers_by_its_formula():
    torch.manual_seed(0)
    model = nn.BatchNorm1d(3)
    average = Average(model, decay=0.15)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for n in range(3):
        with torch.no_grad():
            model.weight.add_(torch.randn(3))
        model(torch.randn(8, 3))
        average.update(model)
        d = min(0.15, (1 + n) / (10 + n))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = d * expected[name] + (1 - d) * value
            else:
                expected[name] = value.clone()
    for name, value in average.copy.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert int(average.copy.num_batches_tracked) == 3


def test_the_average_is_ready_for_validation_and_apart_from_the_model():
    model = Parts()
    average = Average(model, decay=0.9)
    assert not average.copy.training
    assert not any(p.requires_grad for p in average.copy.parameters())
    with torch.no_grad():
        model.linear.weight.fill_(9.0)
    assert not bool((average.copy.linear.weight == 9).any())
    assert average.copy.output.weight is average.copy.embed.weight


def test_the_average_goes_on_where_its_state_was_saved():
    torch.manual_seed(0)
    steps = [nn.Linear(2, 2) for _ in range(6)]
    whole, first, second = (Average(steps[0], decay=0.5) for _ in range(3))
    for model in steps:
        whole.update(model)
    for model in steps[:3]:
        first.update(model)
    second.load_state_dict(first.state_dict())
    for model in steps[3:]:
        second.update(model)
    assert second.steps == 6
    assert torch.equal(whole.copy.weight, second.copy.weight)


@pytest.mark.parametrize("state", [{}, {"steps": 1, "weights": {"weight": torch.ones(9, 9)}}])
def test_a_state_of_another_model_is_refused(state):
    average = Average(nn.Linear(2, 2), decay=0.5)
    with pytest.raises(
        AsrError, match=r"the averaged weights do not fit the model .*; resume with"
    ):
        average.load_state_dict(state)


def test_a_rate_is_finite_and_positive_all_the_way():
    for schedule in ("cosine", "inverse_sqrt", "constant"):
        config = OptimConfig(schedule=schedule, final_lr=0.01, warmup_steps=7)
        rates = [learning_rate(config, step, step / 99) for step in range(100)]
        assert all(math.isfinite(rate) and 0 < rate <= config.lr * 1.0001 for rate in rates)
