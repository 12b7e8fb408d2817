"""The non-linearities a recipe can name, and the gain that keeps signals at one size through them.

`ACTIVATIONS` is the whole list; `gain` says how large the weights behind one should start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import nn

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "selu": nn.SELU,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
}
"""Name in a recipe -> builder of the module."""


@cache
def gain(name: str) -> float:
    """Return 1/√E[f(z)²] for z ~ N(0, 1), f the activation called `name`.

    In z' = W f(z), weights of variance gain²/fan_in keep the variance of z' at that of z, which is
    He et al. 2015, section 2.2, for any f. For ReLU the gain is their √2, for SELU 1.

    Raises:
        ValueError: `name` is not in `ACTIVATIONS`.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"Unknown activation {name!r}. Available: {', '.join(ACTIVATIONS)}.")
    z = torch.linspace(-12, 12, 24_001, dtype=torch.float64)  # the density is below 1e-31 outside
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    mean_square = torch.trapezoid(ACTIVATIONS[name]()(z).square() * density, z)
    return float(mean_square.rsqrt())
