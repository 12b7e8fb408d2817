"""Training and evaluation batches of pairs: pixels, augmentation, normalisation, tokens.

Letters: n samples, b samples of a piece, s side of its images, T tokens of its longest text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.data.images import Pixels
from maquette.data.randomness import key_of, uniforms
from maquette.tasks.augment import Augmenter
from maquette.tasks.base import Batch
from maquette.tasks.batching import batch_slices
from maquette.tasks.image_text.data import ImageTextSamples
from maquette.tasks.image_text.preprocess import ImageTextPreprocessor
from maquette.tasks.image_text.resolution import SizeSchedule
from maquette.tasks.image_text.shards import stream_order
from maquette.tasks.image_text.text_augment import TextAugmenter
from maquette.tasks.pixels import unit_range


@dataclass(frozen=True)
class _Piece:
    """Samples that go through the network together."""

    rows: Tensor
    """(b,) int64 positions in the split."""
    size: int
    """s."""


class PairSource:
    """A split of pairs, handed out as batches."""

    def __init__(
        self,
        samples: ImageTextSamples,
        preprocessor: ImageTextPreprocessor,
        *,
        sizes: SizeSchedule,
        seed: int = 0,
        augmenter: Augmenter | None = None,
        text_augmenter: TextAugmenter | None = None,
        is_training: bool = False,
        shuffle_buffer: int = 1000,
    ) -> None:
        """Take a split.

        Args:
            sizes: the side of each batch's images; one size alone for evaluation.
            augmenter: changes training images; None leaves them.
            text_augmenter: the same for captions.
            is_training: draw one of a sample's texts per epoch, else take the first; read shards
                in their order.
            shuffle_buffer: of shards, see `stream_order`.
        """
        self.ids: Sequence[str] = samples.ids
        self._samples = samples
        self._preprocessor = preprocessor
        self._sizes = sizes
        self._seed = seed
        self._augmenter = augmenter
        self._text_augmenter = text_augmenter
        self._is_training = is_training
        self._shuffle_buffer = shuffle_buffer
        self._keys = np.array([key_of(name) for name in samples.ids], dtype=np.uint64)
        self._targets = torch.from_numpy(np.stack([samples.images, samples.text_groups], axis=1))

    def __len__(self) -> int:
        return len(self._samples)

    def epoch_order(self, epoch: int) -> Tensor | None:
        """Return the order that reads shards in sequence, (n,) int64; None where any is as good."""
        if self._samples.shards is None or not self._is_training:
            return None
        order = stream_order(
            self._samples.shards, seed=self._seed, epoch=epoch, buffer=self._shuffle_buffer
        )
        return torch.from_numpy(order)

    def batches(self, order: Tensor, batch_size: int, *, epoch: int) -> Iterator[Batch]:
        """Yield the samples of `order` (int64 positions) in turn; see `Source.batches`.

        Blocks of `batch_size` samples share one image size. Larger images than `image_size` come in
        several pieces, which never reach into the next block.

        Returns:
            batches with inputs (b, 3, s, s) float32 and (b, T) int64, and targets (b, 2) int64: the
            number of the image and of the text, equal for equal ones.
        """
        pieces = self._pieces(order, batch_size, epoch)
        for piece, pixels in self._with_pixels(pieces, ahead=2 * batch_size):
            keys = self._keys[piece.rows.numpy()]
            yield Batch(
                inputs=(self._images(pixels, keys, epoch), self._ids(piece.rows, keys, epoch)),
                targets=self._targets[piece.rows],
                rows=piece.rows,
            )

    def _pieces(self, order: Tensor, batch_size: int, epoch: int) -> list[_Piece]:
        pieces = []
        for block in batch_slices(len(order), batch_size):
            rows = order[block]
            size = self._sizes.size_of(epoch, self._keys[int(rows[0])])
            largest = self._sizes.pieces(size, batch_size)
            pieces += [_Piece(rows[part], size) for part in batch_slices(len(rows), largest)]
        return pieces

    def _with_pixels(
        self, pieces: Sequence[_Piece], *, ahead: int
    ) -> Iterator[tuple[_Piece, Pixels]]:
        """Pair each piece with (b, s, s, 3) uint8: from the store, or decoded ahead in threads."""
        store, images = self._samples.store, self._samples.images
        if all(store.holds(piece.size) for piece in pieces):
            for piece in pieces:
                yield piece, store.read(images[piece.rows.numpy()], size=piece.size)
            return
        wanted = ((int(images[row]), piece.size) for piece in pieces for row in piece.rows.tolist())
        stream = store.stream(wanted, ahead=ahead)
        for piece in pieces:
            yield piece, np.stack([next(stream) for _ in range(len(piece.rows))])

    def _images(self, pixels: Pixels, keys: NDArray[np.uint64], epoch: int) -> Tensor:
        """(b, s, s, 3) uint8 -> (b, 3, s, s) float32, augmented and normalised."""
        images = unit_range(torch.from_numpy(pixels))
        if self._augmenter is not None:
            images = self._augmenter(images, keys, epoch=epoch)
        return self._preprocessor.normalise(images)

    def _ids(self, rows: Tensor, keys: NDArray[np.uint64], epoch: int) -> Tensor:
        """(b, T) int64 tokens of each sample's text of this epoch."""
        choices = [self._samples.texts[row] for row in rows.tolist()]
        if not self._is_training:
            return self._preprocessor.tokenizer.trimmed([texts[0] for texts in choices])
        draws = uniforms(keys, 1, seed=self._seed, epoch=epoch, purpose="text")[:, 0].tolist()
        drawn = [texts[int(u * len(texts))] for texts, u in zip(choices, draws, strict=True)]
        if self._text_augmenter is not None:
            drawn = self._text_augmenter(drawn, keys, epoch=epoch)
        return self._preprocessor.tokenizer.trimmed(drawn)
