"""The training loop, the same for every arm."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from torch.optim import AdamW, lr_scheduler
from torch.utils.data import DataLoader

from data.dataset import CLASSES
from training.loss import label_smoothing, mixup, soft_cross_entropy

LEARNING_RATE = 0.003  # the highest


@dataclass(frozen=True)
class Arm:
    """What one arm of the comparison does to its targets; nothing by default."""

    epsilon: float = 0.0  # of label smoothing
    alpha: float = 0.0  # of mixup; 0 is no mixup


def train(
    model: nn.Module, batches: DataLoader[tuple[Tensor, ...]], arm: Arm, epochs: int, seed: int
) -> list[tuple[float, float]]:
    """Train `model`; return (mean loss, largest gradient norm) of each epoch.

    The learning rate rises and falls again, once over all steps. The seed is mixup's, which takes
    nothing from the order of the batches.
    """
    optimizer = AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * len(batches))
    generator = np.random.default_rng(seed)
    history = []
    model.train()
    for _ in range(epochs):
        losses, norms = [], []
        for images, labels in batches:
            targets = label_smoothing(labels, CLASSES, arm.epsilon)
            if arm.alpha > 0:
                images, targets = mixup(images, targets, arm.alpha, generator)
            loss = soft_cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.get_total_norm([p.grad for p in model.parameters()])
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            norms.append(norm.item())
        history.append((sum(losses) / len(losses), max(norms)))
    return history
