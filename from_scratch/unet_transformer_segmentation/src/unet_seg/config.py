"""The configuration of a run: typed, frozen, one sentence under each field.

A YAML file holds values only. `load_config` reads it, applies `key=value` overrides and returns a
`Config` in which everything is known: unknown keys, wrong types and values that do not fit together
are refused with the key's dotted name. How YAML becomes dataclasses is in `parsing.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from unet_seg import parsing
from unet_seg.errors import SegError

ToyShape = Literal["circle", "rectangle", "triangle", "ring", "line"]
TOY_SHAPES: tuple[ToyShape, ...] = ("circle", "rectangle", "triangle", "ring", "line")
"""The shapes the toy generator can draw; class i + 1 is shape i, class 0 the background."""


def _need(true: bool, message: str) -> None:
    if not true:
        raise SegError(message)


def _need_fraction(name: str, value: float) -> None:
    _need(0 <= value <= 1, f"{name}={value:g} must be in [0, 1].")


def _need_pair(name: str, pair: Sequence[float], low: float) -> None:
    _need(
        low <= pair[0] <= pair[1],
        f"{name}={list(pair)} must be [fewest, most] with {low:g} <= fewest <= most.",
    )


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """Synthetic images of simple shapes (`data/toy.py`)."""

    image_size: tuple[int, int] = (64, 64)
    """Height and width in pixels."""
    num_train: int = 512
    num_valid: int = 64
    num_test: int = 128
    shapes: tuple[ToyShape, ...] = TOY_SHAPES
    """Shapes to draw; with the background in front they are the classes, in this order."""
    class_weights: tuple[float, ...] | None = None
    """How often each shape is drawn, relative to the others; null draws all equally often."""
    count: tuple[int, int] = (1, 4)
    """Fewest and most shapes in an image."""
    size: tuple[float, float] = (0.12, 0.3)
    """Smallest and largest radius, as a fraction of the shorter side."""
    noise: float = 0.05
    """Standard deviation of Gaussian pixel noise; images lie in [0, 1]."""
    blur: float = 0.0
    """Standard deviation of the Gaussian blur in pixels; the mask stays sharp."""
    occlusion: float = 0.0
    """Probability that a bar of background hides part of a shape; hidden pixels are background."""
    texture: float = 0.0
    """Contrast of the random background texture, 0 (plain) to 1."""

    def __post_init__(self) -> None:
        _need(
            min(self.image_size) >= 8, f"data.toy.image_size={list(self.image_size)}: at least 8."
        )
        for name in ("num_train", "num_valid", "num_test"):
            _need(getattr(self, name) >= 1, f"data.toy.{name}={getattr(self, name)}: at least 1.")
        _need(len(self.shapes) >= 1, "data.toy.shapes is empty; name at least one shape.")
        _need(
            len(set(self.shapes)) == len(self.shapes),
            f"data.toy.shapes={list(self.shapes)} names a shape twice.",
        )
        weights = self.class_weights
        if weights is not None:
            _need(
                len(weights) == len(self.shapes) and min(weights) >= 0 and sum(weights) > 0,
                f"data.toy.class_weights={list(weights)} must be {len(self.shapes)} numbers >= 0, "
                f"one for each of {', '.join(self.shapes)}, not all 0.",
            )
        _need_pair("data.toy.count", self.count, 1)
        _need_pair("data.toy.size", self.size, 0.02)
        _need(self.size[1] <= 0.5, f"data.toy.size={list(self.size)}: a radius is at most 0.5.")
        _need(self.noise >= 0, f"data.toy.noise={self.noise:g} must not be negative.")
        _need(self.blur >= 0, f"data.toy.blur={self.blur:g} must not be negative.")
        _need_fraction("data.toy.occlusion", self.occlusion)
        _need_fraction("data.toy.texture", self.texture)


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """Your own images and masks (`data/folder.py`)."""

    root: str
    """Folder that the other paths start from; itself relative to the working folder."""
    class_map: dict[str, int | str | list[int]]
    """Class name -> what it is in a mask: a grey or palette index, a list of them, a range
    "1-255", or a colour "#ff0000". The order of the names is the order of the classes."""
    manifest: str | None = None
    """CSV file with the columns image, mask and optionally split (train, valid, test); null pairs
    the files of `images` and `masks` by name."""
    images: str = "images"
    masks: str = "masks"
    ignore: int | str | None = None
    """Mask value or colour of pixels that count neither in the loss nor in the metrics."""
    valid_fraction: float = 0.15
    """Part of the training images held out for validation where no split is given for it."""
    test_fraction: float = 0.15
    """Part of all images held out for the test where there is no manifest with splits."""
    split_seed: int = 0
    """Seed of those random splits, apart from the run's seed so that runs compare."""
    cache: bool = True
    """Keep decoded images in memory from the check of all files onwards."""

    def __post_init__(self) -> None:
        _need(
            len(self.class_map) >= 2,
            f"data.folder.class_map has {len(self.class_map)} classes; name at least two, the "
            "background among them: {background: 0, thing: 1}.",
        )
        for name in ("valid_fraction", "test_fraction"):
            value = getattr(self, name)
            _need(0 < value < 1, f"data.folder.{name}={value:g} must be between 0 and 1.")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of training images; masks follow (`data/transforms.py`)."""

    crop: tuple[int, int] | None = None
    """Height and width of a random crop; null keeps the image."""
    crop_scale: tuple[float, float] = (0.7, 1.4)
    """Smallest and largest zoom of the crop's content; 1 keeps pixels as they are."""
    hflip: float = 0.0
    """Probability of mirroring left and right."""
    vflip: float = 0.0
    """Probability of mirroring top and bottom."""
    rotate: float = 0.0
    """Largest rotation in degrees, to either side."""
    brightness: float = 0.0
    """Brightness is multiplied by a factor in [1 - x, 1 + x]."""
    contrast: float = 0.0
    """Distance from the image's mean is multiplied by a factor in [1 - x, 1 + x]."""
    saturation: float = 0.0
    """Distance from grey is multiplied by a factor in [1 - x, 1 + x]."""
    elastic: float = 0.0
    """Largest displacement of the smooth random deformation in pixels."""
    elastic_grid: int = 8
    """Control points of that deformation along each side; fewer are smoother."""

    def __post_init__(self) -> None:
        if self.crop is not None:
            _need(min(self.crop) >= 8, f"data.augment.crop={list(self.crop)}: at least 8 pixels.")
        _need_pair("data.augment.crop_scale", self.crop_scale, 0.1)
        for name in ("hflip", "vflip", "brightness", "contrast", "saturation"):
            _need_fraction(f"data.augment.{name}", getattr(self, name))
        _need(0 <= self.rotate <= 180, f"data.augment.rotate={self.rotate:g}: 0 to 180 degrees.")
        _need(self.elastic >= 0, f"data.augment.elastic={self.elastic:g} must not be negative.")
        _need(self.elastic_grid >= 3, f"data.augment.elastic_grid={self.elastic_grid}: at least 3.")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images come from and what they look like to the network."""

    kind: Literal["toy", "folder"] = "toy"
    toy: ToyConfig = field(default_factory=ToyConfig)
    folder: FolderConfig | None = None
    channels: Literal[1, 3] = 3
    """3 reads grey images as RGB, 1 turns colour into grey."""
    resize: tuple[int, int] | None = None
    """Height and width every image is resized to; null keeps each image's own size."""
    normalize: Literal["image", "fixed"] = "fixed"
    """`fixed` uses mean and std below; `image` uses each image's own mean and deviation."""
    mean: float = 0.5
    std: float = 0.25
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        _need(
            self.kind == "toy" or self.folder is not None,
            "data.kind=folder needs data.folder with at least root and class_map.",
        )
        _need(self.std > 0, f"data.std={self.std:g} must be positive.")
        if self.resize is not None:
            _need(min(self.resize) >= 8, f"data.resize={list(self.resize)}: at least 8 pixels.")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; the position is the class index in masks and logits."""
        if self.kind == "folder":
            assert self.folder is not None
            return tuple(self.folder.class_map)
        return ("background", *self.toy.shapes)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network (`models.py`)."""

    name: str = "unet"
    """A key of `unet_seg.models.MODELS`."""
    in_channels: int | None = None
    """Image channels; null takes data.channels."""
    num_classes: int | None = None
    """Logit channels; null takes the number of classes of the data."""
    widths: tuple[int, ...] = (16, 32, 64, 128)
    """Channels of each level, from the finest to the bottleneck."""
    convs_per_stage: int = 2
    """3x3 convolutions in each encoder and decoder stage."""
    stem_stride: Literal[1, 2, 4] = 1
    """How much the first level is smaller than the image; logits are upsampled back."""
    residual: bool = False
    """Add each stage's input to its output."""
    norm: Literal["batch", "group", "instance"] = "batch"
    activation: Literal["relu", "leaky_relu", "gelu", "silu"] = "relu"
    down: Literal["max_pool", "conv"] = "max_pool"
    """How the encoder halves the resolution."""
    up: Literal["transpose", "bilinear"] = "bilinear"
    """How the decoder doubles it."""
    dropout: float = 0.0
    """Dropout in the bottleneck (convolutions) and in the transformer."""
    deep_supervision: bool = False
    """Train logits at every decoder level, not only at the finest."""
    dim: int = 128
    """Token width of the transformer; divisible by 4 and by heads."""
    depth: int = 4
    """Transformer blocks."""
    heads: int = 4
    mlp_ratio: float = 4.0
    """Width of the feed-forward layer over dim."""
    window: int | None = None
    """Attention within windows of this many tokens a side, every second block shifted by half;
    null attends over the whole grid."""
    attention: Literal["explicit", "fused"] = "explicit"
    """`explicit` is written out; `fused` is PyTorch's kernel, equal and faster on large grids."""

    def __post_init__(self) -> None:
        _need(len(self.widths) >= 1 and min(self.widths) >= 1, "model.widths needs numbers >= 1.")
        _need(
            self.convs_per_stage >= 1, f"model.convs_per_stage={self.convs_per_stage}: at least 1."
        )
        _need(0 <= self.dropout < 1, f"model.dropout={self.dropout:g} must be in [0, 1).")
        _need(
            self.dim % 4 == 0 and self.dim % self.heads == 0,
            f"model.dim={self.dim} must be divisible by 4 (sine and cosine of x and y) and by "
            f"model.heads={self.heads}.",
        )
        _need(self.depth >= 1, f"model.depth={self.depth}: at least 1 block.")
        _need(self.window is None or self.window >= 2, f"model.window={self.window}: at least 2.")
        _need(self.mlp_ratio > 0, f"model.mlp_ratio={self.mlp_ratio:g} must be positive.")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised (`losses.py`)."""

    name: str = "ce_dice"
    """A key of `unet_seg.losses.LOSSES`."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each class in the loss, in the order of the classes; null weighs all equally."""
    options: dict[str, float] = field(default_factory=dict)
    """The loss function's own numbers, such as gamma of `focal`."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser, schedule, clipping and weight averaging (`optim.py`)."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = 2e-3
    """Peak learning rate, reached after the warm-up."""
    weight_decay: float = 1e-2
    """Not applied to norms and biases."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's decay rates of the gradient's mean and mean square."""
    momentum: float = 0.9
    """SGD's momentum (Nesterov)."""
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    warmup_steps: int = 20
    min_lr_ratio: float = 0.01
    """Where cosine ends, as a fraction of lr."""
    poly_power: float = 0.9
    grad_clip: float | None = 1.0
    """Largest L2 norm of all gradients together; null does not clip."""
    ema_decay: float | None = None
    """Decay of the moving average of the weights, which is then what is validated and saved."""

    def __post_init__(self) -> None:
        _need(self.lr > 0, f"optim.lr={self.lr:g} must be positive.")
        _need(self.weight_decay >= 0, f"optim.weight_decay={self.weight_decay:g} is negative.")
        _need(self.warmup_steps >= 0, f"optim.warmup_steps={self.warmup_steps} is negative.")
        _need_fraction("optim.min_lr_ratio", self.min_lr_ratio)
        if self.grad_clip is not None:
            _need(
                self.grad_clip > 0, f"optim.grad_clip={self.grad_clip:g} must be positive or null."
            )
        if self.ema_decay is not None:
            _need(0 < self.ema_decay < 1, f"optim.ema_decay={self.ema_decay:g}: between 0 and 1.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The loop (`train.py`)."""

    steps: int = 600
    """Optimiser steps of the whole run."""
    batch_size: int = 8
    """Images of an optimiser step."""
    accumulate: int = 1
    """Parts a batch is computed in, to save memory; the gradient is the whole batch's."""
    valid_every: int = 100
    """Steps between validations; the last step validates too."""
    log_every: int = 10
    checkpoint_every: int = 100
    """Steps between checkpoints; a killed run loses at most these."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    """Memory layout in which CPU and CUDA convolve faster."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    deterministic: bool = True
    """Only algorithms that give the same bits each time."""
    num_workers: int = 0
    """Processes that prepare images; the result does not depend on it."""
    threads: int | None = None
    """CPU threads; null leaves the number to PyTorch. Small images are faster with 1."""
    max_minutes: float | None = None
    """Stop after this wall-clock time, with the same files as a finished run; null does not."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "valid_every", "log_every"):
            _need(getattr(self, name) >= 1, f"train.{name}={getattr(self, name)}: at least 1.")
        _need(self.checkpoint_every >= 1, "train.checkpoint_every: at least 1.")
        _need(self.num_workers >= 0, f"train.num_workers={self.num_workers} is negative.")
        threads = self.threads
        _need(threads is None or threads >= 1, f"train.threads={threads}: at least 1, or null.")
        _need(
            self.max_minutes is None or self.max_minutes > 0,
            f"train.max_minutes={self.max_minutes or 0:g} must be positive or null.",
        )
        _need(
            self.accumulate <= self.batch_size,
            f"train.accumulate={self.accumulate} parts cannot be made of "
            f"train.batch_size={self.batch_size} images.",
        )


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a run depends on; saved with it as config.yaml."""

    name: str = "run"
    """What the run folder is called, after the time."""
    seed: int = 0
    out: str = "runs"
    """Folder for run folders."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        _need(
            self.name.replace("-", "").replace("_", "").isalnum(),
            f"name={self.name!r} becomes a folder's name: letters, digits, - and _ only.",
        )
        _need(0 <= self.seed < 2**32, f"seed={self.seed} must be in [0, 2**32).")
        _need(
            self.optim.warmup_steps < self.train.steps,
            f"optim.warmup_steps={self.optim.warmup_steps} must be below "
            f"train.steps={self.train.steps}.",
        )
        num_classes = len(self.data.classes)
        if self.model.num_classes is not None:
            _need(
                self.model.num_classes == num_classes,
                f"model.num_classes={self.model.num_classes}, but the data has {num_classes} "
                f"classes ({', '.join(self.data.classes)}); leave it out.",
            )
        if self.model.in_channels is not None:
            _need(
                self.model.in_channels == self.data.channels,
                f"model.in_channels={self.model.in_channels}, but data.channels="
                f"{self.data.channels}; leave it out.",
            )
        weights = self.loss.class_weights
        if weights is not None:
            _need(
                len(weights) == num_classes and min(weights) >= 0 and sum(weights) > 0,
                f"loss.class_weights={list(weights)} must be {num_classes} numbers >= 0, not all "
                f"0, one for each of {', '.join(self.data.classes)}.",
            )


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `key=value` overrides and fill in what follows from the data.

    Args:
        path: the YAML file.
        overrides: such as "train.steps=100"; the value is read as YAML.
    Raises:
        SegError: no such file, no YAML, an unknown key, a wrong type or a value out of range.
    """
    values = parsing.read_yaml(Path(path))
    for override in overrides:
        parsing.apply_override(values, override)
    return config_from_dict(values, where=str(path))


def config_from_dict(values: dict[str, object], *, where: str = "config") -> Config:
    """Make a `Config` of nested plain values; `where` starts the error messages."""
    try:
        config = parsing.build(Config, values)
    except SegError as error:
        raise SegError(f"{where}: {error}") from None
    model = replace(
        config.model, in_channels=config.data.channels, num_classes=len(config.data.classes)
    )
    return replace(config, model=model)


def config_to_dict(config: Config) -> dict[str, object]:
    """The inverse of `config_from_dict`: nested dicts, lists and plain values for YAML."""
    values: dict[str, object] = parsing.to_plain(config)
    return values
