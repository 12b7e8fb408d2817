"""The metric of logits that are divided by the temperature."""

import pytest
import torch

from model.temperature_scaling import TemperatureScaling
from testing.metrics import brier, brier_after_scaling


def test_it_is_the_metric_of_the_divided_logits() -> None:
    torch.manual_seed(0)
    logits, labels = 4 * torch.randn(50, 10), torch.randint(10, (50,))
    found = brier_after_scaling(logits, labels, TemperatureScaling(2.5))
    assert found == pytest.approx(brier(logits / 2.5, labels), rel=1e-5)
    assert brier_after_scaling(logits, labels, TemperatureScaling()) == brier(logits, labels)
    assert found != pytest.approx(brier(logits, labels), rel=1e-3)
