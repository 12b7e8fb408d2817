"""The loop: AdamW until the validation log loss stops falling; the best epoch is kept."""

import copy
import math
from typing import Any

import torch
from torch import nn

from data.loader import batches
from data.preprocess import Part, Split
from testing.evaluator import probabilities
from testing.metrics import log_loss
from training.loss import mean_loss

BATCH_SIZE, WEIGHT_DECAY = 256, 3e-4
PATIENCE = 8  # epochs without a lower validation log loss


def train(model: nn.Module, split: Split, rate: float, epochs: int, seed: int) -> dict[str, Any]:
    """Train `model` in place up to its best epoch; return what happened, in the record's words."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(seed)
    history, best, best_epoch, weights = [], math.inf, 0, copy.deepcopy(model.state_dict())
    for epoch in range(1, epochs + 1):
        history.append(train_epoch(model, split.train, optimizer, generator))
        score = log_loss(split.valid.y.numpy(), probabilities(model, split.valid))
        if score < best:
            best, best_epoch, weights = score, epoch, copy.deepcopy(model.state_dict())
        elif epoch - best_epoch >= PATIENCE:
            break
    model.load_state_dict(weights)
    losses, grad_norms = zip(*history, strict=True)
    return {"losses": losses, "grad_norms": grad_norms, "best_epoch": best_epoch}


def train_epoch(
    model: nn.Module, part: Part, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> tuple[float, float]:
    """See every row once; return the mean loss of the rows and the largest gradient norm."""
    model.train()
    total, largest = torch.zeros(()), torch.zeros(())
    for x, y in batches(part, BATCH_SIZE, generator):
        loss = mean_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        grad_norm = nn.utils.get_total_norm([p.grad for p in model.parameters()])
        optimizer.step()
        total += loss.detach() * len(y)
        largest = torch.maximum(largest, grad_norm)  # keeps a NaN
    return total.item() / len(part.y), largest.item()
