"""Sizes, inputs, weights and observations of the encoder parity tests; both sides use them.

Weights come from a formula on FunASR's parameter names (`vision_numbers.fill`), so none are stored.
Imports torch and NumPy alone, because it also runs beside the reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from vision_numbers import fill, uniform

DIM, HEADS, FFN, LAYERS = 12, 3, 20, 3
SANM_KERNEL, CONFORMER_KERNEL = 5, 7

SANM_LAYERS = {"first layer": 10, "later layer": DIM, "shifted memory": DIM}
"""One layer of the SAN-M encoder: the width of its input."""
SANM_SHIFT = {"shifted memory": 1}
SANM_ENCODERS = {"sanm": 10, "sanm of equal widths": DIM}
"""Whole encoders: the width of the features."""
CONFORMERS = {"conformer legacy": "legacy", "conformer latest": "latest"}
CONFORMER_INPUT = 15
NORM_EPS = 1e-12

SANM_LENGTHS = (9, 6, 1)
CONFORMER_LENGTHS = (43, 30)
"""With convolutions the reference lets padding leak in, so only the longest is comparable there."""


def lengths(case: str) -> Tensor:
    return torch.tensor(CONFORMER_LENGTHS if case.startswith("conformer") else SANM_LENGTHS)


def inputs(case: str, width: int, seed: int, *, equal: bool = False) -> Tensor:
    """(B, T, width) float64 with 0 in the padding, of order one; `equal`: all utterances full."""
    lens = lengths(case)
    x = uniform(f"input {case}", (len(lens), int(lens.max()), width), seed=seed).double()
    if not equal:
        x = x.masked_fill(torch.arange(x.shape[1])[:, None] >= lens[:, None, None], 0)
    return x * math.sqrt(3)


def weights(state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """A state dict with FunASR's names, filled, float64."""
    filled = {name: fill(name, value, gain=2.0, seed=seed) for name, value in state.items()}
    return {k: v.double() if v.is_floating_point() else v for k, v in filled.items()}


def probe(output: Tensor, seed: int) -> Tensor:
    """What gradients are taken of: the output's product with fixed numbers."""
    factors = uniform("probe", tuple(output.shape), seed=seed).to(output.dtype)
    return (output * factors).sum()


def condensed(name: str, tensor: Tensor, seed: int) -> list[float]:
    """Norm and projection on fixed numbers, which anything permuted or misplaced changes."""
    values = tensor.detach().double().flatten()
    factors = uniform(f"projection {name}", (len(values),), seed=seed).double()
    return [values.norm().item(), torch.dot(values, factors).item()]
