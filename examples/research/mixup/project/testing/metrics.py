"""Accuracy, and how well probabilities agree with what happens.

All take logits (N, C) and labels (N,); those "after scaling" a temperature of other images, too.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.temperature_scaling import TemperatureScaling

BINS = 15


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of images whose most probable class is the true one."""
    return float((logits.argmax(dim=1) == labels).double().mean())


def nll(logits: Tensor, labels: Tensor) -> float:
    """Return the mean negative log-likelihood of the true class, in nats."""
    return float(F.cross_entropy(logits.double(), labels))


def brier(logits: Tensor, labels: Tensor) -> float:
    """Return the mean squared distance of the probabilities from the truth, 0 to 2."""
    truth = F.one_hot(labels, logits.shape[1])
    return float((logits.double().softmax(dim=1) - truth).square().sum(dim=1).mean())


def ece(logits: Tensor, labels: Tensor) -> float:
    r"""Return the expected calibration error; an empty bin adds nothing.

    $$ \mathrm{ECE} = \sum_{m=1}^{15} \frac{|B_m|}{n} | \mathrm{acc}(B_m) - \mathrm{conf}(B_m) | $$
    """
    confidence, guess = logits.double().softmax(dim=1).max(dim=1)
    bins = (confidence * BINS).ceil().long() - 1  # above m / 15, up to (m + 1) / 15
    # |B| (acc - conf) of a bin is the sum of what is right minus the confidence there.
    gaps = torch.zeros(BINS, dtype=torch.float64)
    gaps.index_add_(0, bins, (guess == labels).double() - confidence)
    return float(gaps.abs().sum() / len(labels))


def nll_after_scaling(logits: Tensor, labels: Tensor, scaling: TemperatureScaling) -> float:
    """Return the negative log-likelihood of the scaled logits."""
    return nll(scaling(logits), labels)


def brier_after_scaling(logits: Tensor, labels: Tensor, scaling: TemperatureScaling) -> float:
    """Return the Brier score of the scaled logits."""
    return brier(scaling(logits), labels)


def ece_after_scaling(logits: Tensor, labels: Tensor, scaling: TemperatureScaling) -> float:
    """Return the expected calibration error of the scaled logits."""
    return ece(scaling(logits), labels)
