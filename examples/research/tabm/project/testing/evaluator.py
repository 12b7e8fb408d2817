"""Probabilities of a network, and scores of them and of the trivial answer."""

import numpy as np
import torch
from torch import nn

from data.preprocess import Part, Split
from testing.metrics import METRICS


@torch.no_grad()
def probabilities(model: nn.Module, part: Part) -> np.ndarray:
    """Return the mean of the members' probabilities, (rows, classes); softmax comes first."""
    model.eval()
    chunks = [model(x).double().softmax(dim=-1).mean(dim=1) for x in part.x.split(4096)]
    return torch.cat(chunks).numpy()


def evaluate(part: Part, p: np.ndarray) -> dict[str, float]:
    """Return every metric of the plan."""
    return {name: metric(part.y.numpy(), p) for name, metric in METRICS.items()}


def trivial(split: Split) -> dict[str, float]:
    """Return the test metrics of always answering the class frequencies of the training rows."""
    frequencies = np.bincount(split.train.y.numpy(), minlength=split.classes) / len(split.train.y)
    return evaluate(split.test, np.tile(frequencies, (len(split.test.y), 1)))
