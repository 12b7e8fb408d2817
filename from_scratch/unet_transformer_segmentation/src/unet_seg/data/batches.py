"""Batches: a dataset of samples in, batches for the network out.

Start reading at `train_batches`. Which images a training step sees, and how each is augmented, is a
function of (seed, step) alone: nothing is remembered between steps, so to resume at step k is to
start at step k, and the number of worker processes changes nothing but the speed.

Letters: B batch, C channels, H, W the common, padded size.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from unet_seg.config import DataConfig
from unet_seg.contracts import check_dtype, check_shape
from unet_seg.data.sample import IGNORE, Sample, Samples
from unet_seg.data.transforms import prepare
from unet_seg.errors import SegError
from unet_seg.seed import generator_for

# Keys of generator_for after the seed, so that no two uses of one seed share a stream.
ORDER_STREAM = 0x0DE2
AUGMENT_STREAM = 0xA061

T = TypeVar("T")

Key = tuple[int, int]
"""(epoch, index): the sample `index` as augmented in `epoch`."""


@dataclass(frozen=True)
class Batch:
    """Samples of one step, padded right and bottom to a common size."""

    image: Tensor
    """float32 (B,C,H,W), normalised; padding is 0."""
    mask: Tensor
    """int64 (B,H,W), class ids; IGNORE where a pixel does not count, padding among them."""
    valid: Tensor
    """bool (B,H,W), False on padding."""
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each image without padding."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            image=self.image.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            valid=self.valid.to(device, non_blocking=True),
        )


def collate(samples: Sequence[Sample], multiple: int = 1) -> Batch:
    """Stack prepared samples, padding to the largest height and width among them.

    Args:
        samples: at least one; image float32 (C,h,w) after normalisation, mask uint8 (h,w).
        multiple: height and width of the batch are rounded up to multiples of this.
    Raises:
        SegError: no samples, images that are not float32, or different numbers of channels.
    """
    if not samples:
        raise SegError("collate got no samples; a batch needs at least one.")
    C = samples[0].image.shape[0]
    for sample in samples:
        check_dtype(sample.image, torch.float32, name=f"{sample.name}: image")
        sizes = check_shape(sample.image, f"{C} H W", name=f"{sample.name}: image")
        check_shape(sample.mask, "H W", name=f"{sample.name}: mask", sizes=sizes)
    B = len(samples)
    H, W = (
        -(-max(sample.mask.shape[axis] for sample in samples) // multiple) * multiple
        for axis in (0, 1)
    )
    image_BCHW = torch.zeros(B, C, H, W)
    mask_BHW = torch.full((B, H, W), IGNORE, dtype=torch.int64)
    valid_BHW = torch.zeros(B, H, W, dtype=torch.bool)
    for row, sample in enumerate(samples):
        h, w = sample.mask.shape
        image_BCHW[row, :, :h, :w] = sample.image
        mask_BHW[row, :h, :w] = sample.mask
        valid_BHW[row, :h, :w] = True
    return Batch(
        image=image_BCHW,
        mask=mask_BHW,
        valid=valid_BHW,
        names=tuple(sample.name for sample in samples),
        sizes=tuple((sample.mask.shape[0], sample.mask.shape[1]) for sample in samples),
    )


class PreparedDataset(Dataset[Sample]):
    """Another dataset's samples, ready for the network.

    `prepared[i]` is sample i resized and normalised. `prepared[epoch, i]` is also augmented, by
    random numbers that depend on (seed, epoch, i) alone; the epoch travels with the index because
    worker processes never see an attribute that changes after they have started.
    """

    def __init__(self, dataset: Samples, data: DataConfig, *, seed: int = 0) -> None:
        self.dataset = dataset
        self.data = data
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | Key) -> Sample:
        with _one_thread():
            if isinstance(key, tuple):
                epoch, index = key
                generator = generator_for(self.seed, AUGMENT_STREAM, epoch, index)
                return prepare(self.dataset[index], self.data, generator)
            return prepare(self.dataset[key], self.data)


class StepSampler(Sampler[list[Key]]):
    """The keys of the samples of each step, start_step <= step < stop_step.

    All epochs stand in one endless row, each a permutation of the dataset that depends on
    (seed, epoch) alone; step s takes the positions s * batch_size up to (s + 1) * batch_size. A
    batch is therefore always full, an epoch's last images share a batch with the next epoch's
    first, and every image is seen equally often up to one.
    """

    def __init__(
        self, num_samples: int, *, seed: int, batch_size: int, start_step: int, stop_step: int
    ) -> None:
        if num_samples < 1:
            raise SegError("The training data has no samples; add images or lower valid_fraction.")
        if batch_size < 1:
            raise SegError(f"batch_size={batch_size} must be at least 1.")
        self.num_samples = num_samples
        self.seed = seed
        self.batch_size = batch_size
        self.steps = range(start_step, stop_step)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Key]]:
        for step in self.steps:
            first = step * self.batch_size
            yield [self.key(position) for position in range(first, first + self.batch_size)]

    def key(self, position: int) -> Key:
        """The (epoch, index) at a position of the endless row."""
        epoch, place = divmod(position, self.num_samples)
        return epoch, int(_permutation(self.num_samples, self.seed, epoch)[place])


@lru_cache(maxsize=2)
def _permutation(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    return generator_for(seed, ORDER_STREAM, epoch).permutation(num_samples)


def train_batches(
    dataset: Samples,
    data: DataConfig,
    *,
    seed: int,
    batch_size: int,
    start_step: int = 0,
    steps: int,
    num_workers: int = 0,
    multiple: int = 1,
) -> Iterator[Batch]:
    """The batches of the steps start_step, ..., steps - 1 of a run; `steps` is the whole run's.

    Args:
        dataset: samples of the training split.
        data: how samples are resized, augmented and normalised.
        seed: decides the order and the augmentation, with the step and nothing else.
        batch_size: images in every batch, also at the end of an epoch.
        num_workers: processes that load ahead; 0 loads in this one. They start with `spawn`, so a
            script needs `if __name__ == "__main__":` around what it does.
        multiple: image sizes are padded to multiples of this, the model's stride.
    Raises:
        SegError: the dataset is empty; later, while iterating, a damaged sample (with the same
            message from a worker process as from this one).
    """
    sampler = StepSampler(
        len(dataset),
        seed=seed,
        batch_size=batch_size,
        start_step=start_step,
        stop_step=steps,
    )
    loader = DataLoader(
        _ErrorsAsValues(PreparedDataset(dataset, data, seed=seed)),
        batch_sampler=sampler,
        collate_fn=partial(_collate_or_error, multiple=multiple),
        num_workers=num_workers,
        worker_init_fn=_ignore_stop_signals,
        multiprocessing_context="spawn" if num_workers else None,
        generator=torch.Generator(),  # its own, so that a loader draws nothing from the global one
    )
    batches: Iterable[Batch | SegError] = loader  # its type tells of samples, before collating
    return _raised(batches)


def eval_batches(
    dataset: Samples,
    data: DataConfig,
    *,
    batch_size: int,
    num_workers: int = 0,
    multiple: int = 1,
) -> Iterator[Batch]:
    """Every sample once, in order, without augmentation.

    Neighbours share a batch only if they have the same size, so that an image is padded to the
    model's stride and no further: a score must not depend on which images an image is loaded with.
    A batch holds at most `batch_size` images; the last one, and those where sizes change, fewer.

    Raises:
        SegError: the dataset is empty; while iterating, a damaged sample.
    """
    if len(dataset) == 0:
        raise SegError("The data to evaluate has no samples; add images to this split.")
    if batch_size < 1:
        raise SegError(f"batch_size={batch_size} must be at least 1.")
    loader = DataLoader(
        _ErrorsAsValues(PreparedDataset(dataset, data)),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=num_workers,
        worker_init_fn=_ignore_stop_signals,
        multiprocessing_context="spawn" if num_workers else None,
        generator=torch.Generator(),
    )
    return _equal_sizes(_raised(loader), batch_size, multiple)


def _equal_sizes(samples: Iterable[Sample], batch_size: int, multiple: int) -> Iterator[Batch]:
    """Collate runs of samples of one size."""
    waiting: list[Sample] = []
    for sample in samples:
        is_full = len(waiting) == batch_size
        if waiting and (is_full or sample.mask.shape != waiting[0].mask.shape):
            yield collate(waiting, multiple)
            waiting = []
        waiting.append(sample)
    yield collate(waiting, multiple)


class _ErrorsAsValues(Dataset[Sample | SegError]):
    """The same samples, with a SegError returned where it was raised.

    What a worker process raises reaches the main process as text inside another traceback; what it
    returns arrives as it is. `_raised` raises it there.
    """

    def __init__(self, dataset: PreparedDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | Key) -> Sample | SegError:
        try:
            return self.dataset[key]
        except SegError as error:
            return error


def _collate_or_error(samples: Sequence[Sample | SegError], multiple: int) -> Batch | SegError:
    """A batch, or the first error among the samples or in putting them together."""
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, SegError):
            return sample
        good.append(sample)
    try:
        return collate(good, multiple)
    except SegError as error:
        return error


def _raised(values: Iterable[T | SegError]) -> Iterator[T]:
    """The values, up to the first that is an error."""
    for value in values:
        if isinstance(value, SegError):
            raise value
        yield value


def _unchanged(sample: Any) -> Any:
    """Stands in for collating where samples are loaded one by one; spawn needs a named function."""
    return sample


def _ignore_stop_signals(_worker: int) -> None:
    """Let the main process decide when to stop; it ends its workers.

    Ctrl-C and schedulers signal the whole process group. Workers that died of it would take the
    step along that the main process still finishes and saves.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Prepare samples on one thread, as worker processes do.

    Both then round alike: with more threads PyTorch adds up a sum in other parts. A sample is also
    too small to gain from a second one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
