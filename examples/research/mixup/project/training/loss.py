"""What an arm asks of the network: targets, mixed images, one loss. B images, C classes."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def label_smoothing(labels: Tensor, classes: int, epsilon: float) -> Tensor:
    r"""Return targets that give `epsilon` of their weight to all classes alike, (B,) -> (B, C).

    $$ q_{ic} = (1 - \varepsilon) [c = y_i] + \frac{\varepsilon}{C} $$
    """
    return (1 - epsilon) * F.one_hot(labels, classes) + epsilon / classes


def mixup(
    images: Tensor, targets: Tensor, alpha: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    r"""Blend each image, and its target by the same share, with another one of the batch.

    $$ \tilde x_i = \lambda x_i + (1 - \lambda) x_{\pi(i)}, \quad
       \tilde q_i = \lambda q_i + (1 - \lambda) q_{\pi(i)}, \quad
       \lambda \sim \mathrm{Beta}(\alpha, \alpha) $$
    """
    share = generator.beta(alpha, alpha)
    partner = torch.from_numpy(generator.permutation(len(images)))
    mixed_images = share * images + (1 - share) * images[partner]
    return mixed_images, share * targets + (1 - share) * targets[partner]


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    r"""Return the mean cross-entropy, logits and targets (B, C) -> a scalar.

    $$ L = -\frac{1}{n} \sum_{i=1}^{n} \sum_{c=1}^{C} q_{ic} \log p_{ic} $$
    """
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()
