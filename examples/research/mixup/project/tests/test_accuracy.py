"""Accuracy: counted by hand."""

import torch

from testing.metrics import accuracy


def test_three_of_four() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [5.0, 6.0]])
    assert accuracy(logits, torch.tensor([0, 1, 1, 1])) == 0.75
