"""The vision networks by name: one table, and the step from a recipe's keys to a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

from maquette.errors import UsageError, one_of
from maquette.tasks.vision.efficientnet import EfficientNet
from maquette.tasks.vision.resnet import BasicBlock, Bottleneck, ResNet

if TYPE_CHECKING:
    from maquette.recipe.schema import Architecture

VisionModel = ResNet | EfficientNet

MODELS: Mapping[str, Callable[..., VisionModel]] = {
    "resnet18": partial(ResNet, block=BasicBlock, depths=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, block=BasicBlock, depths=(3, 4, 6, 3)),
    "resnet50": partial(ResNet, block=Bottleneck, depths=(3, 4, 6, 3)),
    "efficientnet_b0": partial(EfficientNet, width=1.0, depth=1.0),
    "efficientnet_b1": partial(EfficientNet, width=1.0, depth=1.1),
    "efficientnet_b2": partial(EfficientNet, width=1.1, depth=1.2),
    "efficientnet_b3": partial(EfficientNet, width=1.2, depth=1.4),
}
"""Every vision network; call an entry with `num_classes` and the other keywords of its class."""

SMALL_SIDE = 32
"""Images whose longer side is at most this get the small stem when the recipe says `auto`."""


def build_model(
    name: str, *, num_classes: int, image_size: tuple[int, int], architecture: Architecture
) -> VisionModel:
    """Build the network called `name` with new random weights.

    Args:
        image_size: (height, width) in pixels of the training images; decides `stem: auto`.
        architecture: the recipe's `model.architecture`. `weights` is not read here: that is
            `weights.load_weights`, needed when training starts and never when a bundle is loaded.
    Raises:
        UsageError: an unknown name, or a key that this network does not have.
    """
    if name not in MODELS:
        raise UsageError(one_of("vision model", name, MODELS))
    taken = ["dropout", "drop_path"] + ["base_width"] * name.startswith("resnet")
    _refuse_other_keys(name, architecture, allowed=[*taken, "stem", "weights"])
    return MODELS[name](
        num_classes=num_classes,
        stem=choose_stem(architecture.stem, image_size),
        **{key: getattr(architecture, key) for key in taken},
    )


def choose_stem(
    wanted: Literal["auto", "standard", "small"], image_size: tuple[int, int]
) -> Literal["standard", "small"]:
    """Resolve `auto`: small images would otherwise shrink to one cell before the last stage."""
    if wanted != "auto":
        return wanted
    return "small" if max(image_size) <= SMALL_SIDE else "standard"


def _refuse_other_keys(name: str, architecture: Architecture, *, allowed: list[str]) -> None:
    """Refuse keys that were set and would do nothing.

    A key set to its default is let through: the resolved recipe of every run writes all of them.
    """
    for key, field in type(architecture).model_fields.items():
        given = getattr(architecture, key)
        if key not in allowed and key in architecture.model_fields_set and given != field.default:
            shown = list(given) if isinstance(given, tuple) else given
            raise UsageError(
                f"model.architecture.{key} is {shown}, but {name} has no such key, so it would do "
                f"nothing; remove it. {name} takes: {', '.join(sorted(allowed))}."
            )
