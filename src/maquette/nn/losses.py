"""Losses: one number per sample, and the sum a trainer divides by the count of its whole step.

`LOSSES` is the whole list, written out from the definitions; `summed_loss` is what tasks call. It
uses PyTorch's fused form of the same formula where there is one (the tests hold the two equal).
All losses are computed in float32 at least, whatever precision the network ran in.

Letters: B batch, N classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Negative log-likelihood of the true class, (B, N) logits and (B,) int64 targets -> (B,).

    With `label_smoothing` ε the target is 1 - ε on the true class plus ε/N on every class
    (Szegedy et al. 2016, eq. 7): the loss is log Z - (1 - ε) z_true - ε mean(z).
    """
    # Shifting by the largest logit changes nothing in exact arithmetic and keeps exp() finite.
    shifted = logits - logits.amax(dim=1, keepdim=True).detach()
    log_normaliser = shifted.exp().sum(dim=1).log()
    true_logit = shifted.gather(1, targets[:, None]).squeeze(1)
    if label_smoothing == 0:
        return log_normaliser - true_logit
    return (
        log_normaliser - (1 - label_smoothing) * true_logit - label_smoothing * shifted.mean(dim=1)
    )


def focal(logits: Tensor, targets: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017, eq. 4), (B, N) logits and (B,) int64 targets -> (B,).

    -(1 - p)^γ log p with p the probability of the true class: easy samples weigh less. `gamma`
    is at least 1; below that the gradient is infinite where p is 1.
    """
    log_p = -cross_entropy(logits, targets)
    # -expm1(log p) is 1 - p without the cancellation when p is near 1.
    return (-torch.expm1(log_p)).pow(gamma) * -log_p


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error, (B,) and (B,) -> (B,)."""
    return (outputs - targets).square()


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """Absolute error, (B,) and (B,) -> (B,)."""
    return (outputs - targets).abs()


def huber(outputs: Tensor, targets: Tensor, *, delta: float = 1.0) -> Tensor:
    """Huber loss (1964): squared/2 up to `delta`, linear beyond, (B,) and (B,) -> (B,)."""
    error = (outputs - targets).abs()
    return torch.where(error <= delta, error.square() / 2, delta * (error - delta / 2))


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "mse": mse,
    "mae": mae,
    "huber": huber,
}
"""Name in a recipe -> per-sample loss."""

CLASS_LOSSES = ("cross_entropy", "focal")
"""Losses of (B, N) logits and class indices; the others compare (B,) numbers."""

_FUSED: Mapping[str, Callable[..., Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber": F.huber_loss,
}


def summed_loss(
    name: str,
    outputs: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, float | Tensor]:
    """Return the (weighted) sum of a batch's losses, and the count it sums over.

    Args:
        name: a key of `LOSSES`.
        outputs: (B, N) logits for class losses, (B,) numbers otherwise.
        targets: (B,) int64 class indices, or (B,) numbers.
        weights: (B,) at least 0, or None for all 1.
        label_smoothing: ε in [0, 1), cross_entropy only.
    Returns:
        The sum, 0-d float32 (or float64), and B; with weights, their sum as a 0-d tensor, which
        stays on its device so that nothing waits for it.
    Raises:
        ValueError: unknown name, shapes that do not fit the loss, smoothing without a meaning.
    """
    _check(name, outputs, targets, label_smoothing)
    if outputs.dtype in (torch.bfloat16, torch.float16):
        outputs = outputs.float()
    options = {"label_smoothing": label_smoothing} if label_smoothing else {}
    if weights is not None:
        losses = LOSSES[name](outputs, targets, **options)
        return (losses * weights).sum(), weights.sum()
    if name in _FUSED:
        return _FUSED[name](outputs, targets, reduction="sum", **options), float(len(targets))
    return LOSSES[name](outputs, targets).sum(), float(len(targets))


def _check(name: str, outputs: Tensor, targets: Tensor, label_smoothing: float) -> None:
    if name not in LOSSES:
        raise ValueError(f"Unknown loss {name!r}. Available: {', '.join(LOSSES)}.")
    if label_smoothing and name != "cross_entropy":
        raise ValueError(
            f"label_smoothing is {label_smoothing:g}, which the loss {name!r} does not have; "
            "use label_smoothing 0 or the loss 'cross_entropy'."
        )
    # Without this check (B, 1) against (B,) would broadcast to (B, B) and train on nonsense.
    wanted = 2 if name in CLASS_LOSSES else 1
    if outputs.ndim != wanted or targets.ndim != 1 or len(outputs) != len(targets):
        expected = "(B, N) and (B,)" if wanted == 2 else "(B,) and (B,)"
        raise ValueError(
            f"The loss {name!r} got outputs {tuple(outputs.shape)} and targets "
            f"{tuple(targets.shape)}, expected {expected}."
        )
