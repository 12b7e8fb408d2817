"""The raw samples of image-text pairs: checked, split, and ready to be prepared. No torch here.

    check_pairs(data)                  what `maquette check` asks: is every pair usable?
    load_pairs(data, seed=…)           the three splits of a recipe
    load_labelled_pairs(data, …)       other pairs for a finished bundle, all of them one split

A sample is one row of a manifest: an image with its text, or with several of which training draws
one. Images with the same pixels are one image, whatever their names: they share a number, and are
dealt to one split.

Letters: n samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maquette.errors import DataError
from maquette.tasks.base import DataReport, Splits
from maquette.tasks.image_folders import count, some
from maquette.tasks.image_text.captions import check_lengths, normal_text
from maquette.tasks.image_text.checking import ReadPairs, read_pairs
from maquette.tasks.image_text.domains import read_domain
from maquette.tasks.image_text.image_store import ImageStore
from maquette.tasks.image_text.splitting import split_pairs
from maquette.tasks.image_text.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from maquette.recipe.image_text import ImageTextData


@dataclass(frozen=True, kw_only=True)
class ImageTextSamples:
    """Checked pairs of one split; n samples."""

    ids: tuple[str, ...]
    """The image as a user knows it; "cat.jpg#2" is the second row of one image."""
    places: tuple[str, ...]
    """Where each stands: "captions.csv:17"."""
    texts: tuple[tuple[str, ...], ...]
    """The captions of each sample, or the prompts of its class; evaluation takes the first."""
    images: NDArray[np.int64]
    """(n,) numbers in `store`; equal for equal pictures."""
    text_groups: NDArray[np.int64]
    """(n,) equal for equal first texts, or for equal classes when texts are prompts."""
    labels: NDArray[np.object_] | None
    """(n,) class names, where there are any."""
    classes: tuple[str, ...] | None
    """Every class name of the data, sorted; of all splits alike."""
    store: ImageStore
    is_prompted: bool
    """Whether the texts are prompts of classes, not captions of images."""
    shards: NDArray[np.int64] | None = None
    """(n,) the tar that each sample lies in, for data that is read fastest in its order."""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> ImageTextSamples:
        """The samples at these positions, in their order."""
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            places=tuple(self.places[row] for row in rows),
            texts=tuple(self.texts[row] for row in rows),
            images=self.images[rows],
            text_groups=self.text_groups[rows],
            labels=None if self.labels is None else self.labels[rows],
            shards=None if self.shards is None else self.shards[rows],
        )


def check_pairs(data: ImageTextData) -> DataReport:
    """Read every pair of a recipe and decode every image as training would; report what was found.

    Captions are measured when the recipe names a tokenizer; one that is trained is not there yet.

    Raises:
        DataError: more bad pairs than `tolerance` allows (each is listed with place and reason),
            captions that are too long, or the split cannot be made.
        UsageError: there is no such domain or tokenizer.
    """
    read = read_pairs(data, prompts=data.templates or read_domain(data.domain).prompts, keep=False)
    samples = _samples(read)
    rows = split_pairs(data, read.pairs, read.images, seed=0)
    sizes = {name: len(positions) for name, positions in rows.items()}
    warnings = [*read.report.warnings, *_leaks(samples, rows)]
    if data.tokenizer != "auto":
        length = data.context_length
        tokenizer = ClipTokenizer.from_file(data.tokenizer, context_length=length)
        warnings += check_lengths(
            samples.places, samples.texts, tokenizer, long_captions=data.long_captions
        )
    return replace(read.report, warnings=warnings, summary=read.report.summary | {"splits": sizes})


def load_pairs(
    data: ImageTextData, *, seed: int, prompts: Sequence[str]
) -> Splits[ImageTextSamples]:
    """Read, check and split the pairs of a recipe.

    Args:
        prompts: for class folders and labels without captions, each with "{}" for the class.
    Raises:
        DataError: as `check_pairs`.
    """
    read = read_pairs(data, prompts=prompts, keep=True)
    samples = _samples(read)
    rows = split_pairs(data, read.pairs, read.images, seed=seed)
    splits = {name: samples.take(positions) for name, positions in rows.items()}
    warnings = [*read.report.warnings, *_leaks(samples, rows)]
    return Splits(
        train=splits["train"],
        valid=splits["valid"],
        test=splits["test"],
        assignment={name: split.ids for name, split in splits.items()},
        report=replace(read.report, warnings=warnings),
    )


def load_labelled_pairs(
    data: ImageTextData,
    *,
    prompts: Sequence[str],
    classes: Sequence[str] | None = None,
) -> ImageTextSamples:
    """Read and check other pairs, all of them as one split.

    Args:
        classes: those that a finished network knows; None when it compares pairs.
    Raises:
        DataError: as `check_pairs`; or an image of a class that is not among `classes`.
    """
    samples = _samples(read_pairs(data, prompts=prompts, keep=True))
    if classes is None:
        return samples
    if samples.labels is None:
        raise DataError(
            f"{data.path} has no classes, and this model sorts images into "
            f"{some(list(classes))}; set data.image_text.label_column."
        )
    unknown = sorted(set(samples.labels) - set(classes))
    if unknown:
        raise DataError(
            f"{data.path} has images of {some(unknown)}, which the model was not trained on; "
            f"its classes are {', '.join(classes)}."
        )
    numbers = {name: number for number, name in enumerate(classes)}
    groups = samples.text_groups
    if samples.is_prompted:
        groups = np.array([numbers[label] for label in samples.labels], dtype=np.int64)
    return replace(samples, classes=tuple(classes), text_groups=groups)


def _samples(read: ReadPairs) -> ImageTextSamples:
    pairs = read.pairs
    has_labels = bool(pairs) and pairs[0].label is not None
    labels = np.array([pair.label for pair in pairs], dtype=object) if has_labels else None
    classes = tuple(sorted(set(labels))) if labels is not None else None
    shards = np.array([-1 if pair.shard is None else pair.shard for pair in pairs], dtype=np.int64)
    return ImageTextSamples(
        ids=tuple(pair.id for pair in pairs),
        places=tuple(pair.place for pair in pairs),
        texts=tuple(pair.texts for pair in pairs),
        images=read.images,
        text_groups=_text_groups(read, labels, classes),
        labels=labels,
        classes=classes,
        store=read.store,
        is_prompted=read.is_prompted,
        shards=shards if read.is_sharded else None,
    )


def _text_groups(
    read: ReadPairs, labels: NDArray[np.object_] | None, classes: tuple[str, ...] | None
) -> NDArray[np.int64]:
    """Number the classes in their order, or the distinct first texts in order of appearance."""
    if read.is_prompted:
        assert labels is not None, "prompts are of classes"
        assert classes is not None, "labels have classes"
        numbers = {name: number for number, name in enumerate(classes)}
        return np.array([numbers[label] for label in labels], dtype=np.int64)
    seen: dict[str, int] = {}
    groups = [seen.setdefault(normal_text(pair.texts[0]), len(seen)) for pair in read.pairs]
    return np.array(groups, dtype=np.int64)


def _leaks(samples: ImageTextSamples, rows: Mapping[str, NDArray[np.int64]]) -> Iterator[str]:
    """Warn of pictures in several splits, which only a split column can bring about."""
    places: dict[int, dict[str, str]] = {}
    for name, positions in rows.items():
        for row in positions:
            places.setdefault(int(samples.images[row]), {}).setdefault(name, samples.ids[row])
    shared = [
        " = ".join(f"{id} ({name})" for name, id in found.items())
        for found in places.values()
        if len(found) > 1
    ]
    if shared:
        yield (
            f"{count(shared, 'picture')} found in several splits, so the results look better than "
            f"they are: {some(shared)}"
        )
