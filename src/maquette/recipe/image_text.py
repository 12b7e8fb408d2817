"""The sections that only image-text recipes have: the pairs, and how they are learned.

`ImageTextData` is data.image_text, `Contrastive` and `Finetune` stand at the top of a recipe.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from maquette.recipe.augmentation import Augmentation, TextAugmentation
from maquette.recipe.section import Fraction, Section
from maquette.recipe.splitting import Splitting

Side = Annotated[int, Field(ge=8, le=1024)]
"""Height and width of square images, in pixels."""


class SizeStep(Section):
    """One step of a progressive schedule."""

    until: Annotated[float, Field(gt=0, le=1)]
    """Share of the epochs at whose end the next step begins."""
    size: Side
    """Side of the training images until then."""


class Resolution(Section):
    """At which sizes training images are seen; by default at `image_size` alone."""

    progressive: tuple[SizeStep, ...] = ()
    """Small images first: [{until: 0.5, size: 32}, …]; after the last step comes `image_size`."""
    multi_scale: tuple[Side, ...] = ()
    """Each batch has one of these sizes, drawn at random; larger ones run in smaller pieces."""
    evaluate: tuple[Side, ...] = ()
    """The finished model is tested at these sizes too."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.progressive and self.multi_scale:
            raise ValueError("resolution takes progressive or multi_scale, not both; remove one")
        shares = [step.until for step in self.progressive]
        if shares != sorted(set(shares)):
            raise ValueError(f"resolution.progressive: until must rise, found {shares}")
        return self


class ImageTextData(Splitting):
    """Pairs of an image and a text: a manifest, class folders, or tar shards."""

    path: str
    """A CSV, Parquet or JSONL manifest, a folder with one folder per class, tar shards
    ("shards/*.tar"), or `catalogue:NAME`."""
    image_column: str = "image"
    """Manifest column with paths, relative to the manifest."""
    text_columns: tuple[str, ...] = ("text",)
    """Manifest columns with captions; of several, training draws one and evaluation takes the
    first that is not empty. Empty, together with `label_column`: prompts stand for captions."""
    label_column: str | None = None
    """Manifest column with class names, for zero-shot classification and the linear probe."""
    where: dict[str, str] = Field(default={})
    """Use only the manifest rows whose columns have these values: {domain: medical}."""
    domain: str = "general"
    """A template for prompts, augmentation and loss: general, medical, industrial, scientific, or
    the path of a YAML file like theirs."""
    templates: tuple[str, ...] = ()
    """Prompts for a class, "{}" standing for its name; by default the domain's."""
    image_size: Side
    """Side in pixels of what the network sees."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How other shapes become square: fill and cut the middle, pad with grey, distort."""
    resolution: Resolution = Resolution()
    """Other sizes in training and in the final evaluation."""
    augmentation: Augmentation | None = None
    """How training images are varied; by default as the domain allows."""
    text_augmentation: TextAugmentation | None = None
    """How training captions are varied; by default as the domain allows; class prompts stay."""
    tokenizer: str = "auto"
    """`auto` is the checkpoint's own, or one trained on the captions; or a merge list, a folder
    with vocab.json and merges.txt, or catalogue:clip_vocab."""
    vocabulary_size: Annotated[int, Field(ge=514, le=49408)] = 2048
    """Tokens of a tokenizer that is trained."""
    context_length: Annotated[int, Field(ge=3, le=512)] = 77
    """Most tokens of a caption, start and end included."""
    long_captions: Literal["truncate", "error"] = "truncate"
    """What becomes of longer ones; how many were cut is reported."""
    shuffle_buffer: Annotated[int, Field(ge=1)] = 1000
    """Shards: samples among which the next one is drawn."""
    cache: Literal["auto", "memory", "disk", "off"] = "auto"
    """Where decoded images are kept for the next epoch; `auto` is memory while there is room."""
    max_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    """Larger images are refused before they are decoded."""

    @model_validator(mode="after")
    def _has_texts(self) -> Self:
        if not self.text_columns and self.label_column is None:
            raise ValueError("text_columns is empty, so label_column must name the classes")
        return self


class Contrastive(Section):
    """The loss that draws an image and its text together and others apart."""

    loss: str = "auto"
    """A name of `maquette.tasks.image_text.losses.LOSSES`; `auto` is the domain's."""
    parameters: dict[str, float] = Field(default={})
    """The loss's own parameters, {label_smoothing: 0.1}; by default the domain's, then the
    loss's."""
    similarity: Literal["cosine", "dot", "euclidean", "bilinear"] = "cosine"
    """How a pair of features is compared; `bilinear` learns a matrix between them."""
    temperature: Annotated[float, Field(gt=0.001, le=10)] | Literal["auto"] = "auto"
    """Where the temperature starts; `auto` is the checkpoint's, else the loss's own."""
    learn_temperature: bool = True
    """Off: it stays where it started."""
    teacher: str | None = None
    """distillation: the checkpoint whose similarities are learned."""


class Finetune(Section):
    """Which weights are trained, and how those of a checkpoint are kept close."""

    method: Literal["full", "lit", "lora", "flyp"] = "full"
    """All weights; the text tower alone (locked image tower); low-rank additions; or, for labelled
    images, all weights on class prompts, classified by the text tower."""
    lora_rank: Annotated[int, Field(ge=1, le=256)] = 8
    """lora: rank of the additions."""
    lora_alpha: Annotated[float, Field(gt=0)] | None = None
    """lora: their scale, divided by the rank; by default twice the rank."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """lora: dropout on their input."""
    lora_targets: tuple[Literal["q", "k", "v", "out", "fc", "proj"], ...] = ("q", "v")
    """lora: which linear layers of each block."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each layer further from the output learns this much slower than the one above it."""
    wise_ft: bool = False
    """After training, try averages of the old and the new weights and keep the best (needs
    `weights`)."""
    wise_ft_steps: Annotated[int, Field(ge=3, le=101)] = 11
    """wise_ft: how many averages from 0 to 1."""


class SearchRange(Section):
    """From where to where one number is searched."""

    low: float
    """The smallest value."""
    high: float
    """The largest value."""
    log: bool = False
    """Search the exponent: as much between 0.01 and 0.1 as between 0.1 and 1."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0, found {self.low:g}")
        return self


class Tune(Section):
    """`maquette tune`: which keys are searched, and how long."""

    space: dict[str, SearchRange | tuple[str | float | int | bool, ...]] = Field(default={})
    """Recipe key -> a range or a list of choices; empty: the loss's own ranges."""
    trials: Annotated[int, Field(ge=1)] = 20
    """How many recipes are tried, those of earlier calls included."""
    monitor: str | None = None
    """What is maximised; by default training.early_stopping.monitor."""
    prune: bool = True
    """Stop a trial early when it falls behind the median of the others."""
    startup_trials: Annotated[int, Field(ge=1)] = 5
    """Random trials before the search learns from them, and before anything is pruned."""
    share: Fraction = 1.0
    """Share of `training.epochs` that a trial runs."""
