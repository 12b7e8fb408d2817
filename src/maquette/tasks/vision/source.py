"""Training and evaluation batches of images: pixels, augmentation, normalisation.

Letters: n samples, B batch, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from maquette.data.images import Pixels
from maquette.data.randomness import key_of
from maquette.tasks.augment import Augmenter
from maquette.tasks.base import Batch
from maquette.tasks.batching import batch_slices
from maquette.tasks.pixels import unit_range
from maquette.tasks.vision.data import ImageSamples
from maquette.tasks.vision.preprocess import ImagePreprocessor


class ImageSource:
    """A split of images, handed out as batches."""

    def __init__(
        self,
        samples: ImageSamples,
        preprocessor: ImagePreprocessor,
        *,
        targets: Tensor,
        weights: Tensor | None,
        augmenter: Augmenter | None,
    ) -> None:
        """Take (n,) int64 targets, (n,) float32 weights or None; `augmenter` is for training."""
        self.ids: Sequence[str] = samples.ids
        self._samples = samples
        self._preprocessor = preprocessor
        self._targets = targets
        self._weights = weights
        self._augmenter = augmenter
        self._keys = np.array([key_of(name) for name in samples.ids], dtype=np.uint64)

    def __len__(self) -> int:
        return len(self._samples)

    def batches(self, order: Tensor, batch_size: int, *, epoch: int) -> Iterator[Batch]:
        """Yield the samples of `order` (int64 positions) in turn; see `Source.batches`.

        Images that are not in memory are decoded two batches ahead of the network.
        """
        pixels = self._samples.read(order.tolist(), ahead=2 * batch_size)
        for part in batch_slices(len(order), batch_size):
            rows = order[part]
            yield Batch(
                inputs=(self._images(_gather(pixels, len(rows)), rows, epoch),),
                targets=self._targets[rows],
                rows=rows,
                weights=None if self._weights is None else self._weights[rows],
            )

    def _images(self, pixels: Pixels, rows: Tensor, epoch: int) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H, W) float32, augmented and normalised."""
        images = unit_range(torch.from_numpy(pixels))
        if self._augmenter is not None:
            images = self._augmenter(images, self._keys[rows.numpy()], epoch=epoch)
        return self._preprocessor.normalise(images)


def _gather(pixels: Iterator[Pixels], count: int) -> Pixels:
    return np.stack([next(pixels) for _ in range(count)])
