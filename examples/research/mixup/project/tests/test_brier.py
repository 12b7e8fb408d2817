"""The Brier score: by hand, and its ends."""

import pytest
import torch

from testing.metrics import brier


def test_by_hand() -> None:
    """(0.5 - 1)² + 0.3² + 0.2² = 0.38, and 0.1² + 0.1² + (0.8 - 1)² = 0.06."""
    logits = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]).log()
    assert brier(logits, torch.tensor([0, 2])) == pytest.approx((0.38 + 0.06) / 2)


def test_it_goes_from_0_to_2() -> None:
    certain = torch.tensor([[100.0, 0.0]])
    assert brier(certain, torch.tensor([0])) == pytest.approx(0)
    assert brier(certain, torch.tensor([1])) == pytest.approx(2)
