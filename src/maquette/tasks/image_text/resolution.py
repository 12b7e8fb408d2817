"""At which size each batch of training images is seen. No torch here.

    schedule = SizeSchedule(image_size=64, multi_scale=(48, 64), epochs=10, seed=0)
    schedule.size_of(epoch, key)    the side of a batch
    schedule.pieces(size, 32)       how many of them fit where 32 of `image_size` fit

By default every batch has `image_size`. A progressive schedule begins with small images (Tan and Le
2021, EfficientNetV2, section 4); multi-scale batches have one of several sizes each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maquette.data.randomness import uniforms
from maquette.errors import UsageError

if TYPE_CHECKING:
    from maquette.recipe.image_text import SizeStep

LAST_SHARE = 0.1
"""Share of the epochs that should run at the final size (FixRes, Touvron et al. 2019)."""


@dataclass(frozen=True, kw_only=True)
class SizeSchedule:
    """The sizes of training; a pure function of epoch and batch."""

    image_size: int
    """Side in pixels of the finished network's images."""
    progressive: tuple[SizeStep, ...] = ()
    """Steps with rising `until`; after the last comes `image_size`."""
    multi_scale: tuple[int, ...] = ()
    """Sides among which each batch draws."""
    epochs: int = 1
    seed: int = 0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Every side that training or evaluation at `image_size` reads, ascending."""
        steps = (step.size for step in self.progressive)
        return tuple(sorted({self.image_size, *steps, *self.multi_scale}))

    def size_of(self, epoch: int, key: np.uint64) -> int:
        """Return the side of one batch.

        Args:
            epoch: counts from 1.
            key: names the batch: `key_of` its first sample's id.
        """
        if self.multi_scale:
            keys = np.array([key], dtype=np.uint64)
            draw = uniforms(keys, 1, seed=self.seed, epoch=epoch, purpose="size")[0, 0]
            return self.multi_scale[int(draw * len(self.multi_scale))]
        done = (epoch - 1) / self.epochs
        steps = (step.size for step in self.progressive if done < step.until)
        return next(steps, self.image_size)

    def pieces(self, size: int, batch_size: int) -> int:
        """How many images of `size` take the memory of `batch_size` images of `image_size`.

        Tokens, and so activations, grow with the square of the side. Small images do not make a
        batch larger: the loss compares the samples of a batch, and their number should stay.
        """
        return min(max(int(batch_size * (self.image_size / size) ** 2), 1), batch_size)

    def warnings(self) -> Iterator[str]:
        """Say when the network hardly sees the size it is made for."""
        if self.progressive:
            last = sum(self.size_of(epoch, np.uint64(0)) == self.image_size for epoch in self._all)
            if last < LAST_SHARE * self.epochs:
                yield (
                    f"resolution.progressive leaves {last} of {self.epochs} epochs to image_size "
                    f"{self.image_size}; networks are best at the size they saw last, so end the "
                    f"last step by until: {1 - LAST_SHARE:g}"
                )
        elif self.multi_scale and self.image_size not in self.multi_scale:
            yield (
                f"resolution.multi_scale {list(self.multi_scale)} does not hold image_size "
                f"{self.image_size}, the size of the finished network: training never sees it"
            )

    @property
    def _all(self) -> Iterable[int]:
        return range(1, self.epochs + 1)


def check_sizes(sizes: Iterable[int], patch: int) -> None:
    """Refuse sides that do not divide into patches.

    Args:
        patch: side of a patch; for ResNets the 32 pixels that become one position.
    Raises:
        UsageError: names every such side and the nearest one that divides.
    """
    wrong = sorted({size for size in sizes if size % patch})
    if wrong:
        fixes = [f"{size} (nearest: {max(round(size / patch), 1) * patch})" for size in wrong]
        raise UsageError(
            f"Image sizes must be multiples of the network's patch of {patch} pixels, and these of "
            "data.image_text.image_size, data.image_text.resolution or --sizes are not: "
            f"{', '.join(fixes)}."
        )
