"""Mixup: images and targets are blended by the same share with the same partner."""

import numpy as np
import torch
from torch.nn import functional as F

from training.loss import label_smoothing, mixup, soft_cross_entropy


class Fixed:
    """Draws what the test says."""

    def beta(self, a: float, b: float) -> float:
        assert a == b == 0.2
        return 0.75

    def permutation(self, count: int) -> np.ndarray:
        return np.array([1, 2, 0])[:count]


def test_by_hand() -> None:
    """Three quarters of each image and one of the next, and so the targets."""
    images = torch.tensor([0.0, 4.0, 8.0])[:, None, None, None].expand(3, 3, 2, 2)
    targets = torch.eye(3)
    mixed, mixed_targets = mixup(images, targets, 0.2, Fixed())
    assert mixed.shape == (3, 3, 2, 2)
    assert mixed[:, 0, 0, 0].tolist() == [1.0, 5.0, 6.0]
    assert mixed_targets.tolist() == [[0.75, 0.25, 0.0], [0.0, 0.75, 0.25], [0.25, 0.0, 0.75]]


def test_the_loss_is_the_mixture_of_the_losses_against_both_labels() -> None:
    """The way the authors write it: lambda of one cross-entropy and the rest of the other."""
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 10), torch.tensor([4, 0, 7])
    one_hot = label_smoothing(labels, 10, 0.0)
    _, targets = mixup(torch.randn(3, 3, 2, 2), one_hot, 0.2, Fixed())
    both = 0.75 * F.cross_entropy(logits, labels)
    both += 0.25 * F.cross_entropy(logits, labels[[1, 2, 0]])
    torch.testing.assert_close(soft_cross_entropy(logits, targets), both)


def test_smoothing_before_or_after_mixing_is_the_same() -> None:
    images, labels = torch.zeros(3, 3, 2, 2), torch.tensor([0, 1, 1])
    _, smooth_first = mixup(images, label_smoothing(labels, 4, 0.1), 0.2, Fixed())
    _, mixed = mixup(images, label_smoothing(labels, 4, 0.0), 0.2, Fixed())
    torch.testing.assert_close(smooth_first, 0.9 * mixed + 0.1 / 4)


def test_real_draws() -> None:
    """Means and deviations of Beta(0.2, 0.2): 1/2 and sqrt(1 / (4 · 1.4)); rows still sum to 1."""
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(4000):
        _, targets = mixup(torch.zeros(2, 3, 1, 1), torch.eye(2), 0.2, generator)
        assert abs(targets.sum().item() - 2) < 1e-6
        shares.append(targets[0, 0].item())
    swapped = [share for share in shares if share != 1]  # half of all permutations of two swap
    assert abs(len(swapped) / 4000 - 0.5) < 0.05
    assert abs(np.mean(swapped) - 0.5) < 0.04
    assert abs(np.std(swapped) - np.sqrt(1 / 5.6)) < 0.02
