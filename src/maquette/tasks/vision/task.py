"""The vision task: ties reading, preprocessing and network to the protocol of `tasks/base.py`.

Letters: B batch, n images, N classes, H W pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maquette.data.images import encode_png, resize
from maquette.errors import DataError, UsageError
from maquette.evaluation.accumulators import ClassificationMetrics
from maquette.nn.losses import CLASS_LOSSES, summed_loss
from maquette.recipe import Recipe
from maquette.recipe.schema import SplitRule, Training
from maquette.tasks.augment import Augmenter
from maquette.tasks.base import Batch, Json, MetricAccumulator, Predictions, Splits
from maquette.tasks.class_weights import balanced_weights
from maquette.tasks.image_profile import LUMA
from maquette.tasks.pixels import Colour, measure_colours
from maquette.tasks.vision.data import ImageSamples, load_images, load_labelled
from maquette.tasks.vision.models import VisionModel, build_model
from maquette.tasks.vision.prediction_file import predict_images
from maquette.tasks.vision.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImagePreprocessor,
)
from maquette.tasks.vision.profile import image_profile
from maquette.tasks.vision.source import ImageSource
from maquette.tasks.vision.weights import load_weights

BASELINE_SIDE = 16
"""Largest side, in pixels, of what scikit-learn's models see."""


class VisionTask:
    """Classification of images with a ResNet or an EfficientNet."""

    def __init__(self, recipe: Recipe) -> None:
        """Take the recipe.

        Raises:
            UsageError: its training asks for what a classifier of images cannot do.
        """
        assert recipe.data.image is not None, "Recipe guarantees data.image for this task"
        _refuse_misfit(recipe.training)
        self.recipe = recipe
        self._data = recipe.data.image

    def load(self) -> Splits[ImageSamples]:
        """Read, check and split the images; raises DataError."""
        return load_images(self._data, seed=self.recipe.seed)

    def load_labelled(self, path: str, preprocessor: ImagePreprocessor) -> ImageSamples:
        """Read other class folders, or another manifest with the same columns, as one split."""
        data = self._data.model_copy(update={"path": path, "split": SplitRule()})
        return load_labelled(data, preprocessor.classes)

    def fit_preprocessor(self, train: ImageSamples) -> ImagePreprocessor:
        """Fit the classes and the pixels' mean and deviation (ImageNet's for loaded weights)."""
        counts = Counter(train.labels.tolist())
        classes = tuple(sorted(counts))
        mean, std = self._colours(train)
        return ImagePreprocessor(
            image_size=train.image_size,
            fit=train.fit,
            mean=mean,
            std=std,
            classes=classes,
            class_counts=tuple(counts[name] for name in classes),
            max_pixels=train.max_pixels,
        )

    def preprocessor_from_json(self, state: Json) -> ImagePreprocessor:
        """Restore a preprocessor saved by `to_json`."""
        return ImagePreprocessor.from_json(state)

    def prepare(
        self, samples: ImageSamples, preprocessor: ImagePreprocessor, *, augment: bool
    ) -> ImageSource:
        """Turn a split into batches.

        Class weights apply to every split, so that train and validation losses are the same
        quantity.
        """
        targets = _encode_targets(samples, preprocessor.classes)
        weights = None
        if self.recipe.training.class_weights == "balanced":
            weights = balanced_weights(preprocessor.class_counts)[targets]
        return ImageSource(
            samples,
            preprocessor,
            targets=targets,
            weights=weights,
            augmenter=self._augmenter(preprocessor) if augment else None,
        )

    def build_model(self, preprocessor: ImagePreprocessor) -> VisionModel:
        """Build the network with random weights.

        Raises:
            UsageError: an architecture key that this network does not have.
        """
        return build_model(
            self.recipe.model.name,
            num_classes=len(preprocessor.classes),
            image_size=preprocessor.image_size,
            architecture=self.recipe.model.architecture,
        )

    def load_initial_weights(self, model: VisionModel) -> str | None:
        """Start the network from `architecture.weights`; return what was and was not used.

        Raises:
            UsageError: there is no such file, or it belongs to another network.
            DataError: the weight file is damaged.
        """
        path = self.recipe.model.architecture.weights
        return None if path is None else str(load_weights(model, path))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, float | Tensor]:
        """Return the (weighted) sum of the batch's losses and what it sums over."""
        training = self.recipe.training
        return summed_loss(
            "cross_entropy" if training.loss == "auto" else training.loss,
            model(*batch.inputs),
            batch.targets,
            weights=batch.weights,
            label_smoothing=training.label_smoothing,
        )

    def metrics(self, preprocessor: ImagePreprocessor) -> MetricAccumulator:
        """Return an empty accumulator."""
        return ClassificationMetrics(preprocessor.classes)

    def decode(self, outputs: Tensor, preprocessor: ImagePreprocessor) -> Predictions:
        """Turn logits (B, N) into class names and probabilities."""
        classes = preprocessor.classes
        probabilities = outputs.detach().cpu().float().softmax(dim=1)
        winners = probabilities.argmax(dim=1).tolist()
        return Predictions([classes[n] for n in winners], probabilities.numpy(), classes)

    def raw_inputs(self, samples: ImageSamples, rows: Sequence[int]) -> list[Any]:
        """Return the resized images at these positions as the bytes of PNG files."""
        return [encode_png(pixels) for pixels in samples.read(rows)]

    def baseline_features(self, samples: ImageSamples) -> NDArray[np.float32]:
        """(n, F) grey values in [0, 1] of the images reduced to at most 16 × 16 pixels."""
        height, width = (min(side, BASELINE_SIDE) for side in samples.image_size)
        small = [
            resize(pixels, (height, width), "stretch")
            for pixels in samples.read(range(len(samples)))
        ]
        grey = np.stack(small).reshape(len(samples), -1, 3) @ np.array(LUMA) / 255
        return np.asarray(grey, dtype=np.float32)

    def target_values(self, samples: ImageSamples) -> NDArray[Any]:
        """(n,) class names."""
        return samples.labels

    def profile(self, samples: ImageSamples) -> Json:
        """Describe the brightness, contrast, colours, sizes and classes of the images."""
        return image_profile(samples)

    def predict_file(
        self,
        predict: Callable[[Sequence[Any]], Predictions],
        preprocessor: ImagePreprocessor,
        *,
        source: Path,
        output: Path,
    ) -> list[str]:
        """Predict an image or a folder of them into JSON lines; return lines that say so."""
        return predict_images(
            predict, source=source, output=output, max_pixels=preprocessor.max_pixels
        )

    def example(self, preprocessor: ImagePreprocessor) -> bytes:
        """Return a smooth colour gradient as the bytes of a PNG file."""
        height, width = preprocessor.image_size
        down, right = np.meshgrid(
            np.linspace(0, 255, height), np.linspace(0, 255, width), indexing="ij"
        )
        return encode_png(np.stack([down, right, 255 - down], axis=2).astype(np.uint8))

    def _colours(self, train: ImageSamples) -> tuple[Colour, Colour]:
        if not self._data.augmentation.normalize:
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if self.recipe.model.architecture.weights is not None:
            return IMAGENET_MEAN, IMAGENET_STD
        return measure_colours(train.read(range(len(train))))

    def _augmenter(self, preprocessor: ImagePreprocessor) -> Augmenter | None:
        """The recipe's changes, or None when it asks for none."""
        wanted = self._data.augmentation.model_dump(exclude={"normalize"})
        fill = preprocessor.mean if self._data.augmentation.normalize else (0.5, 0.5, 0.5)
        augmenter = Augmenter(seed=self.recipe.seed, fill=fill, **wanted)
        nothing = Augmenter(seed=self.recipe.seed, fill=fill)
        return None if augmenter == nothing else augmenter


def _encode_targets(samples: ImageSamples, classes: Sequence[str]) -> Tensor:
    """(n,) int64 class indices."""
    index = {name: number for number, name in enumerate(classes)}
    unknown = sorted(set(samples.labels) - set(index))
    if unknown:
        raise DataError(f"The labels {', '.join(unknown)} are none of {', '.join(classes)}.")
    return torch.tensor([index[label] for label in samples.labels])


def _refuse_misfit(training: Training) -> None:
    if training.loss not in ("auto", *CLASS_LOSSES):
        raise UsageError(
            f"training.loss is {training.loss!r}, a loss of numbers, but images are sorted into "
            f"classes; use {', '.join(CLASS_LOSSES)} or auto."
        )
    if training.label_smoothing and training.loss == "focal":
        raise UsageError(
            f"training.label_smoothing is {training.label_smoothing:g}, which the loss 'focal' "
            "does not have; use label_smoothing: 0, or the loss cross_entropy."
        )
    if training.batch_size == 1:
        raise UsageError(
            "training.batch_size is 1, but the networks normalise over each batch, which needs at "
            "least two images; use batch_size: 2 or more, with accumulate if memory is short."
        )
