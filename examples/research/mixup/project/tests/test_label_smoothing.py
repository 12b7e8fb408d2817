"""Label smoothing: its definition, and PyTorch's."""

import torch
from torch.nn import functional as F

from training.loss import label_smoothing, soft_cross_entropy


def test_by_hand() -> None:
    """A tenth over four classes: 0.025 each, and 0.9 more for the true one."""
    targets = label_smoothing(torch.tensor([2, 0]), 4, 0.1)
    expected = [[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]]
    torch.testing.assert_close(targets, torch.tensor(expected))


def test_without_epsilon_targets_are_one_hot() -> None:
    assert label_smoothing(torch.tensor([1]), 3, 0.0).tolist() == [[0.0, 1.0, 0.0]]


def test_the_loss_is_that_of_pytorchs_label_smoothing() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 10), torch.randint(10, (7,))
    ours = soft_cross_entropy(logits, label_smoothing(labels, 10, 0.1))
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, label_smoothing=0.1))
