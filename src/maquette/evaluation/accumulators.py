"""Metrics over a whole split, fed batch by batch; what tasks hand to the trainer.

Batches are only kept; everything is computed once, over all samples, so the result does not depend
on how they were batched. B batch, n samples so far, N classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maquette.errors import RunError
from maquette.evaluation.checks import Floats, Integers
from maquette.evaluation.metrics import classification_metrics, regression_metrics

if TYPE_CHECKING:
    from torch import Tensor


class ClassificationMetrics:
    """Collects logits and class indices; every metric of `classification_metrics`."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._logits: list[Floats] = []
        self._targets: list[Integers] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take logits (B, N) of any floating type and device, and class indices (B,).

        Raises:
            ValueError: the outputs do not have one column per class.
        """
        if outputs.ndim != 2 or outputs.shape[1] != len(self.classes):
            raise ValueError(
                f"network outputs are {tuple(outputs.shape)}, "
                f"expected (batch, {len(self.classes)}): one column per class."
            )
        self._logits.append(_to_floats(outputs))
        self._targets.append(targets.cpu().numpy())

    @property
    def targets(self) -> Integers:
        """(n,) class indices."""
        return np.concatenate(self._targets) if self._targets else np.zeros(0, dtype=np.int64)

    @property
    def logits(self) -> Floats:
        """(n, N) network outputs."""
        return _joined(self._logits, np.zeros((0, len(self.classes))))

    @property
    def probabilities(self) -> Floats:
        """(n, N) softmax of the logits, in float64."""
        return softmax(self.logits)

    def compute(self) -> dict[str, float]:
        """Return every metric by its plain name.

        Raises:
            ValueError: no sample was given.
            RunError: the network's outputs are not finite.
        """
        _refuse_divergence(self.logits)
        return classification_metrics(self.targets, self.probabilities)


class RegressionMetrics:
    """Collects standardised outputs and targets; rmse, mae and r2 in the user's unit."""

    def __init__(self, mean: float, scale: float) -> None:
        self.mean = mean
        self.scale = scale
        self._outputs: list[Floats] = []
        self._targets: list[Floats] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Take standardised outputs and targets, both (B,), of any floating type and device.

        Raises:
            ValueError: the two do not have the same shape (B,).
        """
        if outputs.ndim != 1 or outputs.shape != targets.shape:
            raise ValueError(
                f"network outputs are {tuple(outputs.shape)} and targets {tuple(targets.shape)}, "
                "expected (batch,) for both."
            )
        self._outputs.append(_to_floats(outputs))
        self._targets.append(_to_floats(targets))

    @property
    def targets(self) -> Floats:
        """(n,) targets in the user's unit."""
        return _joined(self._targets, np.zeros(0)) * self.scale + self.mean

    @property
    def predictions(self) -> Floats:
        """(n,) predictions in the user's unit."""
        return _joined(self._outputs, np.zeros(0)) * self.scale + self.mean

    def compute(self) -> dict[str, float]:
        """Return rmse, mae and r2.

        Raises:
            ValueError: no sample was given.
            RunError: the network's outputs are not finite.
        """
        _refuse_divergence(self.predictions)
        return regression_metrics(self.targets, self.predictions)


def softmax(logits: NDArray[np.floating]) -> Floats:
    """Return exp(logits) / Σ exp(logits) over the last axis, in float64 and without overflow."""
    scores = np.asarray(logits, dtype=np.float64)
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def _to_floats(values: Tensor) -> Floats:
    """Copy to the CPU first: not every device has float64, and NumPy has no bfloat16."""
    array: Floats = values.detach().cpu().double().numpy()
    return array


def _joined(parts: list[Floats], empty: Floats) -> Floats:
    return np.concatenate(parts) if parts else empty


def _refuse_divergence(outputs: Floats) -> None:
    if np.isfinite(outputs).all():
        return
    row = int(np.argwhere(~np.isfinite(outputs))[0, 0])
    raise RunError(
        f"The network's outputs are not finite: sample {row + 1} of {len(outputs)} in this split "
        f"gave {outputs[row]}. The weights have diverged; lower training.learning_rate, "
        "or set training.clip_norm=1."
    )
