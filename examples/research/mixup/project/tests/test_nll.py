"""The negative log-likelihood, in nats."""

import math

import pytest
import torch

from testing.metrics import nll


def test_by_hand() -> None:
    logits = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log()
    expected = -(math.log(0.25) + math.log(0.5)) / 2
    assert nll(logits, torch.tensor([1, 0])) == pytest.approx(expected, rel=1e-6)
