"""The network: shapes, gradients, and whether it can learn at all."""

import math

import torch

from model.small_cnn import SmallCNN
from training.loss import label_smoothing, soft_cross_entropy


def test_shapes_and_gradients() -> None:
    torch.manual_seed(0)
    model = SmallCNN(widths=(4, 4, 8, 8), classes=10)
    logits = model(torch.randn(6, 3, 32, 32))
    assert logits.shape == (6, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_there_are_four_stages_as_planned() -> None:
    """Kernels of 9 weights, two numbers per normalised channel, and the linear layer."""
    kernels = 9 * (3 * 16 + 16 * 32 + 32 * 64 + 64 * 128)
    norms, head = 2 * (16 + 32 + 64 + 128), 128 * 10 + 10
    assert sum(p.numel() for p in SmallCNN().parameters()) == kernels + norms + head


def test_it_starts_near_the_loss_of_knowing_nothing_and_overfits_one_batch() -> None:
    torch.manual_seed(0)
    model = SmallCNN(widths=(8, 8, 8, 16))
    images, labels = torch.randn(10, 3, 16, 16), torch.arange(10)
    targets = label_smoothing(labels, 10, 0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        loss = soft_cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert abs(losses[0] - math.log(10)) < 0.5
    assert losses[-1] < 0.05
