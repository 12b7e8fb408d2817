"""The loss: by hand, and against the one that takes labels."""

import math

import pytest
import torch
from torch.nn import functional as F

from training.loss import label_smoothing, soft_cross_entropy


def test_by_hand() -> None:
    """Probabilities 3/4 and 1/4, targets 1/2 and 1/2; then certainty about the first class."""
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    targets = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    first = -0.5 * math.log(3 / 4) - 0.5 * math.log(1 / 4)
    second = -math.log(3 / 4)
    assert soft_cross_entropy(logits, targets).item() == pytest.approx((first + second) / 2)


def test_with_one_hot_targets_it_is_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 10), torch.randint(10, (5,))
    ours = soft_cross_entropy(logits, label_smoothing(labels, 10, 0.0))
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels))
