"""Large contrastive batches in the memory of small ones: gradient caching.

Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup". The loss
L of a batch depends on the network through the representations z of its samples alone, so
∂L/∂θ = Σ ∂L/∂z · ∂z/∂θ can be summed piece by piece once ∂L/∂z is known:

1. each piece goes through the network without a graph; its z is kept, and the random state
   before it
2. the loss of the whole batch is computed once; its gradient gives ∂L/∂z, and the gradients of the
   loss's own parameters (temperature, bias), exactly once
3. each piece goes through the network again with the same random numbers, and ∂L/∂z goes back
   through it

The gradients are those of the whole batch up to rounding; the price is one more forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from maquette.tasks.base import Batch, CoupledTask
from maquette.training.seeding import device_random_state, restore_device_random_state

Autocast = Callable[[], AbstractContextManager[None]]


def coupled_backward(
    task: CoupledTask,
    model: nn.Module,
    pieces: Sequence[Batch],
    *,
    device: torch.device,
    autocast: Autocast,
    scale: float,
) -> tuple[Tensor, float]:
    """Add the gradients of `scale` · (summed loss of all pieces as one batch) to the parameters.

    Args:
        pieces: of one batch, on any device; each is moved when its turn comes.
        autocast: makes the context of a forward pass.
    Returns:
        the summed loss, 0-d and detached, and the number of samples.
    """
    if len(pieces) == 1:
        batch = pieces[0].to(device)
        with autocast():
            representations = task.represent(model, batch)
            total, count = task.coupled_loss(model, representations, batch.targets)
        torch.autograd.backward(total * scale)
        return total.detach(), count

    states, parts = [], []
    with torch.no_grad():
        for piece in pieces:
            states.append(device_random_state(device))
            with autocast():
                parts.append(task.represent(model, piece.to(device)))
    whole = tuple(torch.cat(tensors).requires_grad_() for tensors in zip(*parts, strict=True))
    targets = torch.cat([piece.targets for piece in pieces]).to(device)
    with autocast():
        total, count = task.coupled_loss(model, whole, targets)
    torch.autograd.backward(total * scale)

    sizes = [len(piece) for piece in pieces]
    gradients = [torch.split(_gradient(tensor), sizes) for tensor in whole]
    for index, piece in enumerate(pieces):
        restore_device_random_state(states[index], device)
        with autocast():
            representations = task.represent(model, piece.to(device))
        # A frozen tower or a teacher gives representations without a graph.
        learned = [i for i, tensor in enumerate(representations) if tensor.requires_grad]
        torch.autograd.backward(
            [representations[i] for i in learned], [gradients[i][index] for i in learned]
        )
    return total.detach(), count


def _gradient(tensor: Tensor) -> Tensor:
    """∂L/∂z; zero where the loss does not depend on it (a batch of one)."""
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
