"""The expected calibration error: a case computed by hand, and the edges of its bins."""

import pytest
import torch

from testing.metrics import ece


def logits_with(confidences: list[float]) -> torch.Tensor:
    """Logits of two classes, the first with these probabilities of at least one half."""
    first = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack([first, 1 - first], dim=1).log()


def test_by_hand() -> None:
    """Bin 9 of 15 (0.533 to 0.6) holds 0.55 and 0.59, one right; bin 14 (0.867 to 0.933) holds
    0.87, 0.9 and 0.93, two right: |1 - 1.14| / 5 + |2 - 2.7| / 5 = 0.168."""
    logits = logits_with([0.55, 0.59, 0.87, 0.9, 0.93])
    labels = torch.tensor([0, 1, 0, 1, 0])
    assert ece(logits, labels) == pytest.approx((0.14 + 0.7) / 5)


def test_errors_of_a_bin_cancel_and_those_of_two_bins_do_not() -> None:
    labels = torch.tensor([0, 1])
    assert ece(logits_with([0.75, 0.75]), labels) == pytest.approx(0.25)
    assert ece(logits_with([0.7, 0.8]), labels) == pytest.approx((0.3 + 0.8) / 2)


def test_a_bin_holds_its_upper_edge() -> None:
    """0.6 belongs to bin 9 with 0.55, not to bin 10 with 0.65."""
    logits, labels = logits_with([0.55, 0.6, 0.65]), torch.tensor([0, 1, 1])
    assert ece(logits, labels) == pytest.approx((abs(1 - 1.15) + abs(0 - 0.65)) / 3)


def test_certain_and_right_is_calibrated() -> None:
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])
    assert ece(logits, torch.tensor([0, 1])) == 0
    assert ece(logits, torch.tensor([1, 0])) == 1
