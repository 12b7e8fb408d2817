"""How similar an image and a text are: features become vectors whose dot product says it.

`SIMILARITIES` is the list of the fixed ones, `make_similarity` the way in. Each is a dot product of
prepared vectors, so losses, retrieval and serving need no case for any of them: the similarities of
all pairs are one matrix product.

Letters: B images, C texts, E embedding width, F width of the prepared vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.errors import UsageError, one_of

Prepare: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Image features (B, E) and text features (C, E) of any float type -> (B, F) and (C, F), float32 at
least; the similarity of image b and text c is the dot product of their rows."""

_SMALLEST_NORM = 1e-6
"""Shorter features are divided by this, so that a feature of zeros has a finite gradient."""


def cosine(image_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine of the angle, -1 to 1: both of length one. F = E."""
    return normalise(image_features), normalise(text_features)


def dot(image_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
    """Dot product of the features as they are. F = E."""
    return at_least_float32(image_features), at_least_float32(text_features)


def euclidean(image_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
    """Negative *squared* Euclidean distance, at most 0. F = E + 2.

    Only the square is a dot product: -|i - t|² = (2i, -|i|², 1) · (t, 1, -|t|²).
    It orders the texts of an image as the distance does.
    """
    images, texts = dot(image_features, text_features)
    image_norms = images.square().sum(dim=1, keepdim=True)
    text_norms = texts.square().sum(dim=1, keepdim=True)
    return (
        torch.cat([2 * images, -image_norms, torch.ones_like(image_norms)], dim=1),
        torch.cat([texts, torch.ones_like(text_norms), -text_norms], dim=1),
    )


class Bilinear(nn.Module):
    """A learned similarity iᵀ W t of features of length one; with W = 1 it is the cosine. F = E.

    What is learned is W - 1, zero at the start: so training begins at the cosine, and weight decay
    pulls back to it and not to "everything is equally similar".
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(embed_dim, embed_dim))

    @property
    def matrix(self) -> Tensor:
        """W, (E, E)."""
        return self.offset + torch.eye(
            len(self.offset), dtype=self.offset.dtype, device=self.offset.device
        )

    def forward(self, image_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
        """Prepare features, as `Prepare` says; W acts on the images."""
        images, texts = cosine(image_features, text_features)
        matrix = self.matrix.to(images.dtype)
        return dot_products(images, matrix.T), texts


SIMILARITIES: Mapping[str, Prepare] = {"cosine": cosine, "dot": dot, "euclidean": euclidean}
"""Those without weights; `bilinear` has some, so `make_similarity` builds it."""


def make_similarity(name: str, *, embed_dim: int) -> Prepare:
    """Return the similarity called `name`; `bilinear` is a new `nn.Module` to train and to save.

    Raises:
        UsageError: there is no such similarity.
    """
    if name == "bilinear":
        return Bilinear(embed_dim)
    if name not in SIMILARITIES:
        raise UsageError(one_of("similarity", name, [*SIMILARITIES, "bilinear"]))
    return SIMILARITIES[name]


def normalise(features: Tensor) -> Tensor:
    """Divide each row of (B, E) by its length, in float32 at least; a row of zeros stays zeros."""
    return F.normalize(at_least_float32(features), dim=1, eps=_SMALLEST_NORM)


def dot_products(x: Tensor, y: Tensor) -> Tensor:
    """Return the dot product of every row of (B, F) with every row of (C, F), (B, C).

    In float32 at least, under autocast too: it would round to bfloat16, whose step just below 1 is
    1/256, while a logit is up to 100 times such a number.
    """
    with torch.autocast(x.device.type, enabled=False):
        return at_least_float32(x) @ at_least_float32(y).T


def at_least_float32(values: Tensor) -> Tensor:
    """Return half-precision values in float32, others as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
