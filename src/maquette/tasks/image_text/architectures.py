"""The shapes of CLIP models: one frozen configuration, and the ones a recipe can name.

`CONFIGURATIONS` is the whole list. Imports no torch, so a recipe is checked without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from maquette.errors import UsageError, nearest, one_of

VISION = ("vit", "resnet")
ACTIVATIONS = ("quick_gelu", "gelu")
RESNET_STRIDE = 32
"""Pixels per cell of a ResNet's last feature grid."""
RESNET_EXPANSION = 32
"""Channels of a ResNet's last feature grid per unit of its width."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Every number that decides the shapes of a CLIP model, and what shapes cannot tell."""

    embed_dim: int
    """E, the width of the features that images and texts share."""
    image_size: int
    """Height and width in pixels for which the table of image positions is made."""
    vision: Literal["vit", "resnet"] = "vit"
    """The image tower: a vision transformer or CLIP's modified ResNet."""
    patch_size: int | None = None
    """ViT: side of a patch in pixels. ResNet: None."""
    vision_width: int
    """ViT: width of the blocks. ResNet: channels after the stem."""
    vision_layers: int | tuple[int, int, int, int]
    """ViT: number of blocks. ResNet: blocks of each of the four stages."""
    vision_heads: int
    """Attention heads of each block, or of the ResNet's attention pooling."""
    text_width: int
    text_layers: int
    text_heads: int
    vocab_size: int = 49_408
    """Tokens of the tokenizer, the two special ones included."""
    context_length: int = 77
    """Most tokens of a text, start and end included."""
    activation: Literal["quick_gelu", "gelu"] = "gelu"
    """x·σ(1.702 x), for weights of OpenAI, or the exact GELU. Both have the same shapes: the wrong
    one runs and gives worse features."""
    antialias_positions: bool = True
    """How position tables are resampled for other image sizes: as open_clip does (True) or as
    transformers does (False)."""

    def __post_init__(self) -> None:
        """Refuse what no model can be.

        Raises:
            UsageError: names the value and the nearest that is possible.
        """
        _check_choices(self)
        _check_counts(self)
        _check_stages(self)
        for tower in ("vision", "text"):
            width, heads = self._attention_width(tower), getattr(self, f"{tower}_heads")
            if width % heads:
                raise UsageError(
                    f"CLIP: {tower}_heads is {heads}, which does not divide {width}, the width "
                    f"that {tower} attention works in; take a divisor, as {_divisor(width, heads)}."
                )
        self.check_image_size(self.image_size)

    @property
    def stride(self) -> int:
        """Pixels per cell of the feature grid; image sizes are multiples of it."""
        return self.patch_size if self.patch_size is not None else RESNET_STRIDE

    @property
    def grid(self) -> int:
        """Cells along each side of the feature grid at `image_size`."""
        return self.image_size // self.stride

    @property
    def image_feature_width(self) -> int:
        """Width of the image features before they are projected to `embed_dim`."""
        return self._attention_width("vision")

    def check_image_size(self, size: int) -> None:
        """Refuse a size that does not divide into patches.

        Raises:
            UsageError: names the nearest sizes.
        """
        if size < self.stride or size % self.stride:
            below = size // self.stride * self.stride
            near = [str(s) for s in (below, below + self.stride) if s > 0]
            what = "patch_size" if self.vision == "vit" else "stride of the ResNet"
            raise UsageError(
                f"CLIP: image_size {size} is not a multiple of {self.stride}, the {what}; take "
                f"{' or '.join(near)}."
            )

    def with_image_size(self, size: int) -> ClipConfig:
        """Return this configuration with a table of image positions for another size."""
        return dataclasses.replace(self, image_size=size)

    def with_vocabulary(self, vocab_size: int, context_length: int) -> ClipConfig:
        """Return this configuration for another tokenizer."""
        return dataclasses.replace(self, vocab_size=vocab_size, context_length=context_length)

    def same_towers(self, other: ClipConfig) -> bool:
        """Whether weights fit, up to position tables, the vocabulary, and what shapes hide."""
        free = ("image_size", "vocab_size", "context_length", "activation", "antialias_positions")
        mine, theirs = self.to_json(), other.to_json()
        return all(mine[key] == theirs[key] for key in mine if key not in free)

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        state = dataclasses.asdict(self)
        if isinstance(self.vision_layers, tuple):
            state["vision_layers"] = list(self.vision_layers)
        return state

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> ClipConfig:
        """Restore what `to_json` gave.

        Raises:
            UsageError: an unknown or missing field, or a value that no model can have.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in state:
            if key not in fields:
                raise UsageError(
                    f"CLIP configuration: unknown field {key!r}.{nearest(key, fields)} "
                    f"Available: {', '.join(fields)}."
                )
        for name, field in fields.items():
            if name not in state and field.default is dataclasses.MISSING:
                raise UsageError(f"CLIP configuration: the field {name!r} is missing.")
        values = dict(state)
        if isinstance(values["vision_layers"], list):
            values["vision_layers"] = tuple(values["vision_layers"])
        return cls(**values)

    def _attention_width(self, tower: str) -> int:
        if tower == "vision" and self.vision == "resnet":
            return self.vision_width * RESNET_EXPANSION
        width: int = getattr(self, f"{tower}_width")
        return width


def _check_choices(config: ClipConfig) -> None:
    if config.vision not in VISION:
        raise UsageError(f"CLIP: {one_of('vision tower', str(config.vision), VISION)}")
    if config.activation not in ACTIVATIONS:
        raise UsageError(f"CLIP: {one_of('activation', str(config.activation), ACTIVATIONS)}")
    if not isinstance(config.antialias_positions, bool):
        raise UsageError(
            f"CLIP: antialias_positions is {config.antialias_positions!r}, expected true or false."
        )
    if (config.patch_size is None) == (config.vision == "vit"):
        needed = "needs" if config.vision == "vit" else "has no"
        raise UsageError(f"CLIP: a {config.vision} {needed} patch_size, found {config.patch_size}.")


def _check_counts(config: ClipConfig) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        least = 3 if field.name in ("vocab_size", "context_length") else 1
        if field.type.startswith("int") and not isinstance(value, tuple):
            if field.name == "patch_size" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(
                    f"CLIP: {field.name} is {value!r}, expected a whole number of at least {least}."
                )


def _check_stages(config: ClipConfig) -> None:
    layers = config.vision_layers
    if config.vision == "vit" and isinstance(layers, tuple):
        raise UsageError(f"CLIP: vision_layers of a vit is one number of blocks, found {layers}.")
    if config.vision == "resnet" and not (
        isinstance(layers, tuple)
        and len(layers) == 4
        and all(type(n) is int and n >= 1 for n in layers)
    ):
        raise UsageError(
            "CLIP: vision_layers of a resnet is the blocks of each of its four stages, as "
            f"(3, 4, 6, 3), found {layers}."
        )
    if config.vision == "resnet" and config.vision_width % 2:
        raise UsageError(
            f"CLIP: vision_width of a resnet is even, because its stem begins with half of it; "
            f"found {config.vision_width}."
        )


def _divisor(width: int, heads: int) -> int:
    """Return the largest divisor of `width` that is at most `heads`."""
    return max(n for n in range(1, heads + 1) if width % n == 0)


_VIT_B = ClipConfig(
    embed_dim=512,
    image_size=224,
    patch_size=32,
    vision_width=768,
    vision_layers=12,
    vision_heads=12,
    text_width=512,
    text_layers=12,
    text_heads=8,
    activation="quick_gelu",
)
_VIT_L = ClipConfig(
    embed_dim=768,
    image_size=224,
    patch_size=14,
    vision_width=1024,
    vision_layers=24,
    vision_heads=16,
    text_width=768,
    text_layers=12,
    text_heads=12,
    activation="quick_gelu",
)
_TINY = ClipConfig(
    embed_dim=128,
    image_size=64,
    patch_size=8,
    vision_width=128,
    vision_layers=4,
    vision_heads=4,
    text_width=128,
    text_layers=4,
    text_heads=4,
)

CONFIGURATIONS: Mapping[str, ClipConfig] = {
    "clip_tiny": _TINY,
    "clip_small": ClipConfig(
        embed_dim=192,
        image_size=96,
        patch_size=12,
        vision_width=192,
        vision_layers=6,
        vision_heads=6,
        text_width=192,
        text_layers=6,
        text_heads=6,
    ),
    "clip_tiny_resnet": dataclasses.replace(
        _TINY,
        vision="resnet",
        patch_size=None,
        vision_width=16,
        vision_layers=(1, 1, 1, 1),
        vision_heads=8,
    ),
    "clip_vit_b32": _VIT_B,
    "clip_vit_b16": dataclasses.replace(_VIT_B, patch_size=16),
    "clip_vit_l14": _VIT_L,
    "clip_vit_l14_336": dataclasses.replace(_VIT_L, image_size=336),
    "clip_rn50": dataclasses.replace(
        _VIT_B,
        embed_dim=1024,
        vision="resnet",
        patch_size=None,
        vision_width=64,
        vision_layers=(3, 4, 6, 3),
        vision_heads=32,
    ),
}
"""Name in a recipe -> shape. The large ones are OpenAI's (Radford et al. 2021, arXiv 2103.00020,
tables 19 and 20), with its activation. The tiny and small ones are ours, for a CPU; their
vocabulary and context length are replaced by the tokenizer's."""


def configuration(name: str) -> ClipConfig:
    """Return the configuration called `name`.

    Raises:
        UsageError: no such name.
    """
    if name not in CONFIGURATIONS:
        raise UsageError(one_of("CLIP model", name, CONFIGURATIONS))
    return CONFIGURATIONS[name]
