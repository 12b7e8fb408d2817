"""The contrastive losses by name: `LOSSES` is the whole list, `loss_parts` what training calls.

The formulas are in `loss_functions.py`, their parameters and starts in `loss_parameters.py`. A loss
of your own is one line in Python, before training:

    LOSSES["mine"] = my_function  # or add_loss("mine", "package.module:my_function")

and takes what `loss_functions.py` says at its top.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from typing import Any, TypeAlias

import torch
from torch import Tensor

from maquette.errors import UsageError, nearest, one_of
from maquette.tasks.image_text.loss_functions import (
    cyclip,
    cyclip_parts,
    dcl,
    distillation,
    distillation_parts,
    hn_nce,
    infonce,
    pair_logits,
    siglip,
    triplet,
    unicl,
)
from maquette.tasks.image_text.loss_parameters import (
    LOGIT_SCALE_RANGE,
    PARAMETERS,
    SHARED_ARGUMENTS,
    TEMPERATURE,
    TEMPERATURE_RANGE,
    Parameter,
    Start,
    check_parameters,
    duplicates_warning,
    has_bias,
    logit_scale_range,
    start_of,
)
from maquette.tasks.image_text.similarity import Prepare, at_least_float32, cosine

__all__ = [
    "LOGIT_SCALE_RANGE",
    "LOSSES",
    "PARAMETERS",
    "PARTS",
    "TEMPERATURE",
    "TEMPERATURE_RANGE",
    "Parameter",
    "Start",
    "add_loss",
    "chance_loss",
    "check_parameters",
    "duplicates_warning",
    "has_bias",
    "logit_scale_range",
    "loss_parts",
    "pair_logits",
    "start_of",
]

Loss: TypeAlias = Callable[..., Tensor]
"""(image_features (B, E), text_features (B, E), logit_scale (), *, similarity, logit_bias, groups,
**own parameters) -> (), the mean over the batch."""

LOSSES: dict[str, Loss] = {
    "infonce": infonce,
    "siglip": siglip,
    "dcl": dcl,
    "hn_nce": hn_nce,
    "cyclip": cyclip,
    "unicl": unicl,
    "triplet": triplet,
    "distillation": distillation,
}
"""Name in a recipe -> the loss."""

PARTS: Mapping[str, Callable[..., dict[str, Tensor]]] = {
    "cyclip": cyclip_parts,
    "distillation": distillation_parts,
}
"""Those that are sums -> their terms by name."""


def loss_parts(
    name: str,
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: Tensor,
    *,
    similarity: Prepare = cosine,
    logit_bias: Tensor | None = None,
    groups: Tensor | None = None,
    **own: Any,
) -> dict[str, Tensor]:
    """Return the terms whose sum is the loss, (name -> ()); of most losses just {name: loss}.

    Features are in float32 at least and autocast is off, so a loss of one's own need not see to it.

    Args:
        own: the loss's own parameters, and `teacher_image_features`, `teacher_text_features`.
    Raises:
        UsageError: there is no such loss, or distillation was not given a teacher's features.
    """
    if name not in LOSSES:
        raise UsageError(one_of("loss", name, LOSSES))
    if name == "distillation" and "teacher_image_features" not in own:
        raise UsageError(
            "The loss distillation learns from another model; "
            "set contrastive.teacher to its checkpoint, or choose another contrastive.loss."
        )
    shared = {"similarity": similarity, "logit_bias": logit_bias, "groups": groups}
    features = at_least_float32(image_features), at_least_float32(text_features)
    with torch.autocast(image_features.device.type, enabled=False):
        if name in PARTS:
            return PARTS[name](*features, logit_scale, **shared, **own)
        return {name: LOSSES[name](*features, logit_scale, **shared, **own)}


def add_loss(name: str, path: str, parameters: Mapping[str, Parameter] | None = None) -> None:
    """Import a loss of your own and add it to `LOSSES` under `name`.

    Args:
        name: what a recipe calls it in contrastive.loss.
        path: "package.module:function"; the module must be importable.
        parameters: its own parameters with their ranges; without, it takes the function's keyword
            arguments at any value, and `maquette tune` needs a search space in the recipe.
    Raises:
        UsageError: the name is taken, nothing can be imported there, or the function does not take
            what a loss is given.
    """
    if name in LOSSES:
        raise UsageError(f"There is a loss {name!r} already; choose another name for {path}.")
    LOSSES[name] = _resolve(path)
    if parameters is not None:
        PARAMETERS[name] = dict(parameters)


def _resolve(path: str) -> Loss:
    module_name, colon, function_name = path.partition(":")
    if not colon or not module_name or not function_name:
        raise UsageError(f"{path!r} does not name a loss; write package.module:function.")
    try:
        module = import_module(module_name)
    except Exception as error:  # whatever a user's module raises when it runs
        raise UsageError(
            f"Could not import {module_name!r} for the loss {path}: {error}. "
            "Run from the folder that holds it, or install it."
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [key for key, value in vars(module).items() if callable(value)]
        raise UsageError(
            f"{module_name} has no function {function_name!r}.{nearest(function_name, names)}"
        )
    _refuse_other_signature(function, path)
    loss: Loss = function
    return loss


def _refuse_other_signature(function: Callable[..., Any], path: str) -> None:
    shared = dict.fromkeys(SHARED_ARGUMENTS)
    try:
        signature(function).bind_partial(None, None, None, **shared)
    except TypeError as error:
        raise UsageError(
            f"{path} cannot be called as a loss: {error}. It must take (image_features, "
            f"text_features, logit_scale, *, {', '.join(shared)}), and may have parameters "
            "of its own after them."
        ) from None


def chance_loss(name: str, batch_size: int, **own: Any) -> float:
    """Return the loss of features that say nothing, ln B for InfoNCE: where training starts.

    All similarities are equal, here cosines of 0, and the temperature is at its start.

    Args:
        batch_size: B.
        own: the loss's own parameters.
    """
    images, texts = torch.eye(2).repeat_interleave(batch_size, dim=0).chunk(2)
    start = start_of(name, parameters=own)
    if name == "distillation":
        own |= {"teacher_image_features": images, "teacher_text_features": texts}
    logit_bias = None if start.logit_bias is None else torch.tensor(start.logit_bias)
    scale = torch.tensor(start.logit_scale)
    parts = loss_parts(name, images, texts, scale, logit_bias=logit_bias, **own)
    return sum(part.item() for part in parts.values())
