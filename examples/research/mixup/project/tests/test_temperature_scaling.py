"""Temperature scaling: the answers stay, the confidence becomes right."""

import math

import pytest
import torch

from model.temperature_scaling import HIGHEST, LOWEST, TemperatureScaling
from testing.metrics import accuracy, nll


def test_a_temperature_known_by_hand() -> None:
    """Two classes, logits (4, 0), right three times of four: p = 3/4 needs 4 / T = log 3."""
    logits = torch.tensor([[4.0, 0.0]] * 4)
    scaling = TemperatureScaling.fit(logits, torch.tensor([0, 0, 0, 1]))
    assert scaling.temperature == pytest.approx(4 / math.log(3), rel=1e-9)
    assert scaling(logits).softmax(dim=1)[0, 0].item() == pytest.approx(0.75)


def test_no_other_temperature_is_better_and_accuracy_stays() -> None:
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(200, 10), torch.randint(10, (200,))
    labels[:120] = logits[:120].argmax(dim=1)
    scaling = TemperatureScaling.fit(logits, labels)
    best = nll(scaling(logits), labels)
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert best < nll(TemperatureScaling(scaling.temperature * factor)(logits), labels)
    assert accuracy(scaling(logits), labels) == accuracy(logits, labels)


@pytest.mark.parametrize(("label", "bound"), [(0, LOWEST), (1, HIGHEST)])
def test_it_stays_within_bounds_where_the_best_would_be_zero_or_infinite(
    label: int, bound: float
) -> None:
    scaling = TemperatureScaling.fit(torch.tensor([[2.0, 0.0]]), torch.tensor([label]))
    assert scaling.temperature == pytest.approx(bound)
