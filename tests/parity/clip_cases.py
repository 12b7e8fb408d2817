"""The models, weights and inputs that both sides of the CLIP parity tests use.

Weights come from a formula of their names (`vision_numbers.uniform`), by our keys, which are
open_clip's. Imports torch and NumPy alone, because it also runs beside the references.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from vision_numbers import uniform

CASES: dict[str, dict[str, Any]] = {
    "quick_gelu": {
        "embed_dim": 20,
        "image_size": 32,
        "patch_size": 8,
        "vision_width": 32,
        "vision_layers": 3,
        "vision_heads": 2,
        "text_width": 24,
        "text_layers": 2,
        "text_heads": 3,
        "vocab_size": 99,
        "context_length": 12,
        "activation": "quick_gelu",
    },
    "gelu": {
        "embed_dim": 32,
        "image_size": 48,
        "patch_size": 16,
        "vision_width": 48,
        "vision_layers": 2,
        "vision_heads": 4,
        "text_width": 32,
        "text_layers": 3,
        "text_heads": 2,
        "vocab_size": 120,
        "context_length": 16,
        "activation": "gelu",
    },
    "one_block": {
        "embed_dim": 16,
        "image_size": 20,
        "patch_size": 5,
        "vision_width": 24,
        "vision_layers": 1,
        "vision_heads": 1,
        "text_width": 16,
        "text_layers": 1,
        "text_heads": 1,
        "vocab_size": 60,
        "context_length": 5,
        "activation": "gelu",
    },
    "resnet": {
        "embed_dim": 24,
        "image_size": 64,
        "vision": "resnet",
        "patch_size": None,
        "vision_width": 8,
        "vision_layers": (1, 2, 1, 1),
        "vision_heads": 4,
        "text_width": 24,
        "text_layers": 1,
        "text_heads": 3,
        "vocab_size": 70,
        "context_length": 9,
        "activation": "quick_gelu",
    },
}
"""Fields of ClipConfig; E differs from the widths in most."""
BATCH = 3
OTHER_CELLS = (2, 3, 7)
"""Also run at images of this many patches a side (ResNets: cells), where it is another number."""


def images(case: Mapping[str, Any], cells: int | None = None, *, seed: int = 0) -> Tensor:
    """Return (3, 3, S, S) float32 of about unit variance; `cells` None: the case's own size."""
    stride = case["patch_size"] or 32
    side = case["image_size"] if cells is None else cells * stride
    return uniform(f"image {side}", (BATCH, 3, side, side), seed=seed) * math.sqrt(3)


def tokens(case: Mapping[str, Any]) -> Tensor:
    """Return (3, T) int64: start, words, end, zeros; one of full length, one with two ends."""
    length, end = case["context_length"], case["vocab_size"] - 1
    ids = torch.zeros(BATCH, length, dtype=torch.int64)
    for row, words in enumerate((length - 2, 1, 2)):
        chosen = (torch.arange(words) * 7 + row * 11 + 1) % (end - 1)
        ids[row, : words + 2] = torch.cat([torch.tensor([end - 1]), chosen, torch.tensor([end])])
    if length > 5:
        ids[1, -1] = end
    return ids


def fill(state: Mapping[str, Tensor], *, seed: int = 0) -> dict[str, Tensor]:
    """Fill a state dictionary with our keys, float32; counters are zero."""
    return {key: _value(key, tensor, seed) for key, tensor in state.items()}


def _value(key: str, tensor: Tensor, seed: int) -> Tensor:
    if not tensor.is_floating_point():
        return torch.zeros_like(tensor)
    u = uniform(key, tuple(tensor.shape), seed=seed)
    if key == "logit_scale":
        return torch.tensor(2.5)
    if "embedding" in key:
        return u * 0.5
    if key in ("text_projection", "visual.proj"):
        return u * math.sqrt(3 / tensor.shape[0])
    if tensor.ndim >= 2:
        return u * math.sqrt(3 / math.prod(tensor.shape[1:]))
    if key.endswith("running_var"):
        return 1 + u * 0.3
    return 1 + u * 0.2 if _is_norm(key) and key.endswith("weight") else u * 0.1


def _is_norm(key: str) -> bool:
    return any(part in key for part in ("ln_", "bn", "downsample.1"))


def cotangents(features: Tensor, what: str) -> Tensor:
    """Return fixed weights of the shape of `features`, for a scalar to differentiate."""
    return uniform(f"cotangent {what}", tuple(features.shape)).to(features)


def condense(key: str, tensor: Tensor) -> list[float]:
    """Return [root mean square, projection on fixed numbers / √n] of a gradient or buffer."""
    values = tensor.detach().double()
    weights = uniform(f"weights {key}", tuple(values.shape)).double()
    size = max(values.numel(), 1)
    return [
        math.sqrt(values.square().sum().item() / size),
        (values * weights).sum().item() / math.sqrt(size),
    ]
