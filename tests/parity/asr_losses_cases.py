"""The inputs that both sides of the speech losses parity tests use.

Made from the formula of `vision_numbers.uniform`: the same on every machine. Imports torch alone,
because it also runs beside the reference.
"""

from __future__ import annotations

import torch
from torch import Tensor
from vision_numbers import uniform

VOCABULARY = 9
LENS = (40, 33, 25, 12, 20, 6)
"""Encoder frames; the last utterance has too few of them for CTC."""
TOKEN_LENS = (11, 8, 0, 5, 1, 7)
SMOOTHINGS = (0.0, 0.1, 0.4)


def lens() -> Tensor:
    return torch.tensor(LENS)


def token_lens() -> Tensor:
    return torch.tensor(TOKEN_LENS)


def tokens(seed: int) -> Tensor:
    """(B, K) int64 from 3 to 5, so that many neighbours are equal; -1 in the padding."""
    drawn = uniform("tokens", (len(LENS), max(TOKEN_LENS)), seed=seed)
    ids = 3 + ((drawn + 1) * 1.5).long()
    return ids.where(torch.arange(max(TOKEN_LENS)) < token_lens()[:, None], -1)


def logits(name: str, seed: int) -> Tensor:
    """float64 "decoder" (B, K, V) or "ctc" (B, T, V)."""
    size = {"decoder": max(TOKEN_LENS), "ctc": max(LENS)}[name]
    return 4 * uniform(name, (len(LENS), size, VOCABULARY), seed=seed).double()


def total(seed: int) -> Tensor:
    """(B,) float64 predicted numbers of tokens."""
    return token_lens() + 2 * uniform("total", (len(LENS),), seed=seed).double()


def observe(loss: Tensor, given: Tensor) -> dict[str, object]:
    """A scalar or a vector of losses, and the gradient of their sum."""
    (gradient,) = torch.autograd.grad(loss.sum(), given)
    return {"loss": loss.tolist(), "gradient": gradient.tolist()}
