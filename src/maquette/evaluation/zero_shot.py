"""Zero-shot classification: images are compared with prompts that name the classes.

`zero_shot` measures it, for all prompts together and for one alone. A prompt is a sentence with the
name of a class in it, "an X-ray of {}"; averaging several of them (Radford et al. 2021, section
3.1.4) is worth a few points of accuracy.

Shapes: n images, P prompts, N classes, E width of the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from maquette.evaluation.accumulators import softmax
from maquette.evaluation.checks import Floats, Integers, class_indices
from maquette.evaluation.metrics import (
    PerClass,
    classification_metrics,
    confusion_matrix,
    per_class,
)


@dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """What the prompts are worth as a classifier of the test images."""

    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    """The templates, "{}" standing for the class."""
    metrics: dict[str, float]
    """Every classification metric, with all prompts together."""
    single: dict[str, float]
    """The same with the first prompt alone."""
    prompt_accuracy: tuple[float, ...]
    """Accuracy of each prompt alone."""
    table: PerClass
    """Precision, recall, F1 and number of images of each class, with all prompts."""


def ensemble(prompt_features: ArrayLike) -> Floats:
    """Return one unit vector for (P, E) features: normalise each, average, normalise again."""
    rows = unit(np.asarray(prompt_features, dtype=np.float64))
    return unit(rows.mean(axis=0))


def class_embeddings(prompt_features: ArrayLike) -> Floats:
    """Return (N, E), one unit vector per class, from (P, N, E): every prompt with every class.

    Where classes have different numbers of prompts, stack `ensemble` of each instead.

    Raises:
        ValueError: another number of dimensions, or no prompts.
    """
    features = np.asarray(prompt_features, dtype=np.float64)
    if features.ndim != 3 or len(features) == 0:
        raise ValueError(
            f"prompt features have shape {features.shape}, expected (prompts, classes, width)."
        )
    return np.stack([ensemble(of_class) for of_class in features.swapaxes(0, 1)])


def zero_shot_probabilities(
    image_features: ArrayLike, class_features: ArrayLike, *, scale: float
) -> Floats:
    """Return (n, N): softmax over the classes of scale · cosine(image, class).

    Args:
        scale: the model's own, the exponential of its logit scale (100 in OpenAI's models).
    """
    images = unit(np.asarray(image_features, dtype=np.float64))
    classes = unit(np.asarray(class_features, dtype=np.float64))
    return softmax(scale * images @ classes.T)


def zero_shot(
    image_features: ArrayLike,
    prompt_features: ArrayLike,
    targets: ArrayLike,
    *,
    classes: Sequence[str],
    prompts: Sequence[str],
    scale: float,
) -> ZeroShot:
    """Classify (n, E) images by (P, N, E) prompt features and compare with (n,) class indices.

    Raises:
        ValueError: shapes that do not fit, fewer than two classes, or features not finite.
    """
    features = np.asarray(prompt_features, dtype=np.float64)
    together = class_embeddings(features)
    if features.shape[:2] != (len(prompts), len(classes)):
        raise ValueError(
            f"prompt features have shape {features.shape}, expected {len(prompts)} prompts "
            f"of {len(classes)} classes."
        )
    truth = class_indices(targets, num_classes=len(classes), name="targets")
    found = zero_shot_probabilities(image_features, together, scale=scale)
    alone = [zero_shot_probabilities(image_features, one, scale=scale) for one in features]
    return ZeroShot(
        classes=tuple(classes),
        prompts=tuple(prompts),
        metrics=classification_metrics(truth, found),
        single=classification_metrics(truth, alone[0]),
        prompt_accuracy=tuple(_accuracy(truth, one) for one in alone),
        table=per_class(confusion_matrix(truth, found.argmax(axis=1), num_classes=len(classes))),
    )


def unit(rows: Floats) -> Floats:
    """Return the vectors of the last axis at length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1))


def _accuracy(truth: Integers, probabilities: Floats) -> float:
    return float((probabilities.argmax(axis=1) == truth).mean())
