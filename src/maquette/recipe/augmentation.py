"""How training images and captions are varied; tasks share it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from maquette.recipe.section import Fraction, Section


class Augmentation(Section):
    """Random changes of training images, each a pure function of (seed, epoch, sample)."""

    horizontal_flip: bool = False
    """Mirror left and right, half of the time."""
    vertical_flip: bool = False
    """Mirror top and bottom, half of the time."""
    rotation_range: Annotated[int, Field(ge=0, le=180)] = 0
    """Rotate by up to this many degrees either way."""
    translate: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Move by up to this share of the side."""
    scale: tuple[Annotated[float, Field(gt=0.1, le=4)], Annotated[float, Field(gt=0.1, le=4)]] = (
        1.0,
        1.0,
    )
    """Zoom by a factor drawn from this range."""
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Multiply the brightness by 1 ± this."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Multiply the contrast by 1 ± this."""
    saturation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Multiply the colourfulness by 1 ± this."""
    erase: Fraction = 0.0
    """Probability of hiding one rectangle of 2 to 20 % of the image (random erasing)."""
    normalize: bool = True
    """Subtract the mean and divide by the deviation of the training pixels (not random)."""

    @model_validator(mode="after")
    def _scale_in_order(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale {list(self.scale)} must be [smallest, largest]")
        return self


class TextAugmentation(Section):
    """Random changes of training captions, each a pure function of (seed, epoch, sample)."""

    sentence_start: Fraction = 0.0
    """Probability that a caption begins at a random one of its sentences."""
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a word is left out; a dropped "no" turns a finding round."""
