"""What is fitted on the training split: the tokenizer, the colours, the shape of the network.

With a checkpoint all three are the checkpoint's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maquette.data.catalogue import resolve
from maquette.errors import UsageError
from maquette.recipe import Recipe
from maquette.tasks.image_text.architectures import CONFIGURATIONS, ClipConfig
from maquette.tasks.image_text.checkpoints import ClipCheckpoint, fitted_config
from maquette.tasks.image_text.data import ImageTextSamples
from maquette.tasks.image_text.preprocess import ImageTextPreprocessor
from maquette.tasks.image_text.resolution import check_sizes
from maquette.tasks.image_text.setup import Setup
from maquette.tasks.image_text.tokenizer import ClipTokenizer

COLOUR_IMAGES = 500
"""Training images whose colours are measured: more would not move the mean."""

Colour = tuple[float, float, float]


def fit_pairs(
    recipe: Recipe, setup: Setup, train: ImageTextSamples, checkpoint: ClipCheckpoint | None
) -> ImageTextPreprocessor:
    """Fit everything between raw pairs and the network.

    Raises:
        UsageError: an image size that the patches do not divide, or no tokenizer for a checkpoint.
        DataError: a tokenizer file that cannot be read.
    """
    tokenizer = fit_tokenizer(setup, train, checkpoint)
    config = _shape(recipe, setup, tokenizer, checkpoint)
    mean, std = colours(train) if checkpoint is None else (checkpoint.mean, checkpoint.std)
    return ImageTextPreprocessor(
        image_size=setup.data.image_size,
        fit=setup.data.fit,
        mean=mean,
        std=std,
        tokenizer=tokenizer,
        classes=train.classes if train.is_prompted else None,
        prompts=setup.prompts,
        architecture=config.to_json(),
        similarity=setup.contrastive.similarity,
        max_pixels=setup.data.max_pixels,
    )


def fit_tokenizer(
    setup: Setup, train: ImageTextSamples, checkpoint: ClipCheckpoint | None
) -> ClipTokenizer:
    """Read the tokenizer a recipe or checkpoint has, or train one on the training captions."""
    data = setup.data
    length = data.context_length
    if checkpoint is not None:
        length = min(length, checkpoint.config.context_length)
    file = _tokenizer_file(data.tokenizer, checkpoint)
    if file is not None:
        return ClipTokenizer.from_file(file, context_length=length)
    captions = captions_of(train.texts)
    return ClipTokenizer.train(
        captions, vocabulary_size=data.vocabulary_size, context_length=length
    )


def _tokenizer_file(name: str, checkpoint: ClipCheckpoint | None) -> Path | None:
    """Return where the tokenizer is read from; None means that one is trained."""
    if name != "auto":
        return resolve(name)
    if checkpoint is None:
        return None
    if checkpoint.tokenizer_files is not None:
        return checkpoint.tokenizer_files
    if checkpoint.config.vocab_size == 49408:
        return resolve("catalogue:clip_vocab")
    raise UsageError(
        f"The checkpoint has {checkpoint.config.vocab_size} tokens and no tokenizer files beside "
        "it; set data.image_text.tokenizer to its merge list, or to a folder with vocab.json and "
        "merges.txt."
    )


def _shape(
    recipe: Recipe, setup: Setup, tokenizer: ClipTokenizer, checkpoint: ClipCheckpoint | None
) -> ClipConfig:
    data = setup.data
    if recipe.model.name == "clip":
        assert checkpoint is not None, "Recipe requires weights for this name"
        config = checkpoint.config
    else:
        config = CONFIGURATIONS[recipe.model.name]
        config = config if checkpoint is None else fitted_config(config, checkpoint)
    config = config.with_vocabulary(
        vocab_size=tokenizer.vocab_size, context_length=tokenizer.context_length
    )
    sizes = data.resolution
    others = {step.size for step in sizes.progressive} | {*sizes.multi_scale, *sizes.evaluate}
    check_sizes([data.image_size, *others], config.stride)
    return config.with_image_size(data.image_size)


def captions_of(texts: Sequence[Sequence[str]]) -> list[str]:
    """Every caption once, in order, for a tokenizer to be trained on."""
    return list(dict.fromkeys(text for alternatives in texts for text in alternatives))


def colours(train: ImageTextSamples) -> tuple[Colour, Colour]:
    """Return the mean and the deviation of red, green and blue over training images, in [0, 1]."""
    images = np.unique(train.images)
    chosen = images[np.linspace(0, len(images) - 1, min(len(images), COLOUR_IMAGES)).astype(int)]
    pixels = train.store.read(chosen, size=train.store.size).reshape(-1, 3) / 255.0
    mean, std = pixels.mean(axis=0), pixels.std(axis=0)
    red, green, blue = (float(value) for value in mean)
    spread = [max(float(value), 1 / 255) for value in std]  # one flat colour has no deviation
    return (red, green, blue), (spread[0], spread[1], spread[2])
