"""What each contrastive loss can be told, and where its temperature starts. Does not import torch.

`PARAMETERS` is the whole list; `check_parameters` is what a recipe's contrastive.parameters go
through; `start_of` says where the temperature begins. The losses themselves are in `losses.py`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import Parameter as Argument
from inspect import signature

from maquette.errors import UsageError, nearest, one_of

SHARED_ARGUMENTS = ("similarity", "logit_bias", "groups")
"""Keyword arguments that every loss takes; the rest are its own."""

LOSSES_MODULE = "maquette.tasks.image_text.losses"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A number that a loss takes."""

    default: float
    low: float
    """`maquette tune` searches from here…"""
    high: float
    """…to here."""
    log: bool = False
    """It searches the exponent."""
    least: float
    """The smallest value that can be meant…"""
    most: float
    """…and the largest; both are allowed."""
    about: str


PARAMETERS: dict[str, dict[str, Parameter]] = {
    "infonce": {
        "label_smoothing": Parameter(
            default=0.0,
            low=0.0,
            high=0.2,
            least=0.0,
            most=0.9,
            about="share of the target that is spread over all texts of the batch",
        ),
    },
    "siglip": {
        "bias": Parameter(
            default=-10.0,
            low=-20.0,
            high=-5.0,
            least=-100.0,
            most=100.0,
            about="where the learned bias starts; far below zero, as most pairs do not match",
        ),
    },
    "dcl": {},
    "hn_nce": {
        "alpha": Parameter(
            default=1.0,
            low=0.0,
            high=1.0,
            least=0.0,
            most=1.0,
            about="weight of the match in the denominator; 0 leaves it out, as in dcl",
        ),
        "beta": Parameter(
            default=0.25,
            low=0.0,
            high=0.5,
            least=0.0,
            most=5.0,
            about="how much more the hard negatives count; 0 is all alike",
        ),
    },
    "cyclip": {
        "in_modal": Parameter(
            default=0.25,
            low=0.05,
            high=0.5,
            log=True,
            least=0.0,
            most=100.0,
            about="weight of: two images are as similar as their texts",
        ),
        "cross_modal": Parameter(
            default=0.25,
            low=0.05,
            high=0.5,
            log=True,
            least=0.0,
            most=100.0,
            about="weight of: image i is as similar to text j as image j to text i",
        ),
    },
    "unicl": {},
    "triplet": {
        "margin": Parameter(
            default=0.2,
            low=0.05,
            high=0.4,
            log=True,
            least=0.0,
            most=2.0,
            about="by how much a match must be more similar than the rest",
        ),
        "hardest": Parameter(
            default=0.0,
            low=0.0,
            high=1.0,
            least=0.0,
            most=1.0,
            about="0 takes the mean of the negatives, 1 the hardest alone; between, a mixture",
        ),
    },
    "distillation": {
        "weight": Parameter(
            default=1.0,
            low=0.1,
            high=2.0,
            log=True,
            least=0.0,
            most=100.0,
            about="weight of the teacher's similarities beside the true pairs",
        ),
        "teacher_temperature": Parameter(
            default=0.01,
            low=0.01,
            high=0.1,
            log=True,
            least=0.001,
            most=10.0,
            about="what the teacher's cosines are divided by; higher is softer",
        ),
    },
}
"""Loss -> its parameters by name."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where the learned temperature of a loss starts: logits = exp(logit_scale) s + logit_bias."""

    logit_scale: float
    """The logarithm of 1/temperature."""
    logit_bias: float | None = None
    """None: the loss has none."""


CLIP_START = Start(logit_scale=math.log(1 / 0.07))
"""Of Radford et al. 2021, for every loss that is not in the next table."""
TEMPERATURE: Mapping[str, Start] = {
    name: Start(logit_scale=math.log(10), logit_bias=-10.0) if name == "siglip" else CLIP_START
    for name in PARAMETERS
}
"""Loss -> start, for cosines; SigLIP's is of Zhai et al. 2023, section 3.2."""
TEMPERATURE_RANGE = (0.01, 0.2)
"""`maquette tune` searches contrastive.temperature between these, by its logarithm."""
LOGIT_SCALE_RANGE = (0.0, math.log(100))
"""The logarithm is kept inside after every step, for cosines."""


def has_bias(loss: str) -> bool:
    """Say whether the loss learns a bias beside the temperature."""
    return loss in TEMPERATURE and TEMPERATURE[loss].logit_bias is not None


def start_of(
    loss: str,
    *,
    similarity: str = "cosine",
    embed_dim: int = 1,
    parameters: Mapping[str, float] | None = None,
) -> Start:
    """Return where temperature and bias start for a loss and a similarity.

    The published starts are for cosines. Features come out of a new CLIP with length √E, so that
    their dot product is E cosines and their squared distance 2E (1 - cosine); scale and bias are
    changed so that the logits are those of the cosine.

    Args:
        loss: a name of `LOSSES`.
        similarity: a name of the recipe's contrastive.similarity.
        embed_dim: E; the cosine and `bilinear` do not need it.
        parameters: the loss's own; `bias` of siglip is its start.
    """
    start = TEMPERATURE.get(loss, CLIP_START)
    bias = start.logit_bias
    if bias is not None and parameters is not None:
        bias = parameters.get("bias", bias)
    if bias is not None and similarity == "euclidean":
        bias += math.exp(start.logit_scale)
    scale = start.logit_scale - math.log(_cosines_in(similarity, embed_dim))
    return Start(logit_scale=scale, logit_bias=bias)


def logit_scale_range(similarity: str = "cosine", *, embed_dim: int = 1) -> tuple[float, float]:
    """Return between which values logit_scale is kept: CLIP's for cosines, moved as `start_of`."""
    shift = math.log(_cosines_in(similarity, embed_dim))
    return LOGIT_SCALE_RANGE[0] - shift, LOGIT_SCALE_RANGE[1] - shift


def _cosines_in(similarity: str, embed_dim: int) -> float:
    """By how much a similarity changes when the cosine of features of length √E changes by 1."""
    return {"dot": embed_dim, "euclidean": 2 * embed_dim}.get(similarity, 1)


def check_parameters(loss: str, given: Mapping[str, float]) -> dict[str, float]:
    """Return all own parameters of a loss, the given ones and defaults for the rest.

    A loss that was put into `LOSSES` without a line in `PARAMETERS` takes the keyword arguments of
    its function, at any finite value, and has its own defaults.

    Raises:
        UsageError: an unknown loss or parameter, or a value out of range.
    """
    if loss not in PARAMETERS:
        return _check_own_parameters(loss, given)
    known = PARAMETERS[loss]
    for name, value in given.items():
        if name not in known:
            raise UsageError(_no_such_parameter(loss, name, list(known)))
        allowed = known[name]
        # Written so that NaN, which is neither below nor above anything, is refused too.
        if not allowed.least <= value <= allowed.most:
            raise UsageError(
                f"contrastive.parameters.{name} is {value:g}; the loss {loss} takes "
                f"{allowed.least:g} to {allowed.most:g} ({allowed.about}). "
                f"Its default is {allowed.default:g}."
            )
    return {name: given.get(name, parameter.default) for name, parameter in known.items()}


def _check_own_parameters(loss: str, given: Mapping[str, float]) -> dict[str, float]:
    # Whoever added a loss has imported the module, so torch need not be imported to look there.
    module = sys.modules.get(LOSSES_MODULE)
    functions = {} if module is None else module.LOSSES
    if loss not in functions:
        raise UsageError(
            f"contrastive.loss: {one_of('loss', loss, {*PARAMETERS, *functions})} "
            f'Add one of your own in Python: add_loss("{loss}", "package.module:function").'
        )
    taken = signature(functions[loss]).parameters.values()
    names = [each.name for each in taken if each.kind is Argument.KEYWORD_ONLY]
    own = [name for name in names if name not in SHARED_ARGUMENTS]
    for name, value in given.items():
        if name not in own:
            raise UsageError(_no_such_parameter(loss, name, own))
        if not math.isfinite(value):
            raise UsageError(f"contrastive.parameters.{name} is {value:g}; give a finite number.")
    return dict(given)


def _no_such_parameter(loss: str, name: str, known: list[str]) -> str:
    takes = f"It takes: {', '.join(known)}." if known else "It takes none."
    return (
        f"contrastive.parameters.{name}: the loss {loss} has no such parameter."
        f"{nearest(name, known)} {takes}"
    )


def duplicates_warning(loss: str, *, num_duplicates: int, num_texts: int) -> str | None:
    """Return what to tell about captions that other images have too; None where it does no harm.

    Args:
        loss: a name of `LOSSES`.
        num_duplicates: captions that equal that of another image.
        num_texts: all captions.
    """
    if num_duplicates == 0 or loss == "unicl":
        return None
    share = num_duplicates / num_texts
    shown = f"{share:.0%}".replace("%", " %") if share >= 0.01 else "Less than 1 %"
    return (
        f"{shown} of the captions ({num_duplicates} of {num_texts}) repeat that of another image. "
        f"The loss {loss} pushes such a pair apart although it matches; "
        "contrastive.loss: unicl counts it as a match."
    )
