"""The inputs that both sides of the CIF parity tests use.

Made from the formula of `vision_numbers.uniform`: the same on every machine. Imports torch alone,
because it also runs beside the reference.
"""

from __future__ import annotations

import torch
from torch import Tensor
from vision_numbers import uniform

DIM = 6
LENS = (20, 11, 16)
TAIL = 0.45
NUM_TOKENS = (6, 3, 4)
"""Tokens of each utterance in training."""

PREDICTOR = {
    "full": {"cif_conv1d.weight": (DIM, DIM, 3)},
    "depthwise": {"cif_conv1d.weight": (DIM, 1, 3)},
}
for _shapes in PREDICTOR.values():
    _shapes |= {"cif_conv1d.bias": (DIM,), "cif_output.weight": (1, DIM), "cif_output.bias": (1,)}


def lengths() -> Tensor:
    return torch.tensor(LENS)


def mask() -> Tensor:
    """(B, T) bool."""
    return torch.arange(max(LENS)) < lengths()[:, None]


def hidden(seed: int) -> Tensor:
    """(B, T, D), 0 in the padding, so that the reference's convolution has nothing to leak."""
    return 2 * uniform("hidden", (len(LENS), max(LENS), DIM), seed=seed) * mask()[..., None]


def alphas(seed: int) -> Tensor:
    """(B, T) in [0, 1), 0 in the padding."""
    return (uniform("alphas", (len(LENS), max(LENS)), seed=seed) + 1) / 2 * mask()


def predictor_weights(kind: str, seed: int) -> dict[str, Tensor]:
    """By FunASR's names."""
    return {n: uniform(f"{kind} {n}", s, seed=seed) / 2 for n, s in PREDICTOR[kind].items()}


def probe(counts: Tensor, width: int) -> Tensor:
    """(B, K, D) to multiply the token vectors by before they are summed; 0 at each last token,
    which the reference may lose, and beyond."""
    rows = torch.arange(width) < counts[:, None] - 1
    return uniform("probe", (len(LENS), width, DIM)) * rows[..., None]


def many(seed: int, count: int = 200) -> list[tuple[Tensor, int]]:
    """Utterances of 20 to 400 frames: (alphas (1, T), tokens to scale them to)."""
    sizes = (uniform("sizes", (count,), seed=seed) + 1) / 2
    frames = (20 + 380 * sizes).long().tolist()
    return [
        ((uniform(f"long {i}", (1, T), seed=seed) + 1) / 2, max(1, T // 5))
        for i, T in enumerate(frames)
    ]


TWO_IN_ONE = torch.tensor([[0.5, 2.0, 0.5]])
"""A frame that two tokens are completed in."""
SILENT_LAST = torch.tensor([[0.6, 0.7, 0.9], [0.1, 0.1, 0.1]])
"""The second utterance never reaches a token."""
ONE_TOKEN = torch.tensor([[0.3, 0.4, 0.5]])
"""One token and a rest that is none."""
