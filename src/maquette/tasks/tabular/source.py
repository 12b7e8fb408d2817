"""Training and evaluation batches of a table: everything is in tensors, a batch is a slice.

Letters: n rows, B batch, K category columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maquette.data.randomness import uniforms
from maquette.tasks.base import Batch
from maquette.tasks.batching import batch_slices

HIDDEN_SHARE = 0.01
"""Share of the training categories shown as unknown, so that slot 0 is trained before it is
needed: the first unseen category would otherwise meet random weights."""


@dataclass(frozen=True, kw_only=True)
class CategoryHider:
    """Turns a few categories into "unknown", chosen by (seed, epoch, row) alone."""

    slots: NDArray[np.int64]
    """(n, K)"""
    keys: NDArray[np.int64]
    """(n,) what identifies each row: its line in the file."""
    seed: int
    onehot_starts: NDArray[np.int64] | None
    """(K,) first column of each one-hot block; None when categories are embedded."""

    def hide(self, inputs: tuple[Tensor, ...], rows: Tensor, *, epoch: int) -> None:
        """Change in place the network inputs of the samples `rows`, (B,) positions."""
        chosen = rows.numpy()
        draws = uniforms(
            self.keys[chosen],
            self.slots.shape[1],
            seed=self.seed,
            epoch=epoch,
            purpose="hide categories",
        )
        row, column = np.nonzero(draws < HIDDEN_SHARE)
        if self.onehot_starts is None:
            inputs[1][row, column] = 0
            return
        starts = self.onehot_starts[column]
        inputs[0][row, starts + self.slots[chosen[row], column]] = 0
        inputs[0][row, starts] = 1


class TableSource:
    """A split in tensors, handed out as batches."""

    def __init__(
        self,
        *,
        inputs: tuple[Tensor, ...],
        targets: Tensor,
        weights: Tensor | None,
        ids: Sequence[str],
        hider: CategoryHider | None,
    ) -> None:
        """Each tensor has n first; `hider` is for training only."""
        self.ids = ids
        self._inputs = inputs
        self._targets = targets
        self._weights = weights
        self._hider = hider

    def __len__(self) -> int:
        return len(self._targets)

    def batches(self, order: Tensor, batch_size: int, *, epoch: int) -> Iterator[Batch]:
        """Yield the samples of `order` (int64 positions) in turn; see `Source.batches`.

        The rows are gathered once, then each batch is a view: nothing is paid per row or batch.
        """
        inputs = tuple(tensor.index_select(0, order) for tensor in self._inputs)
        targets = self._targets.index_select(0, order)
        weights = None if self._weights is None else self._weights.index_select(0, order)
        if self._hider is not None:
            self._hider.hide(inputs, order, epoch=epoch)
        for part in batch_slices(len(order), batch_size):
            yield Batch(
                inputs=tuple(tensor[part] for tensor in inputs),
                targets=targets[part],
                rows=order[part],
                weights=None if weights is None else weights[part],
            )
