"""The numbers that both sides of the vision parity tests use: fills, probes, observations.

The networks are filled by a formula on the parameter's name, so no weights are stored. Everything
is exact integer arithmetic and correctly rounded operations up to the network itself: the same
bits on every machine. Imports torch and NumPy alone, because it also runs beside the references.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

NUM_CLASSES = 10
IMAGE_SHAPE = (2, 3, 64, 48)
"""Two images in evaluation; not square, so that swapped sides would show."""
TRAINING_SHAPE = (8, 3, 64, 48)
"""More in training: few values behind a batch statistic would amplify rounding."""
GAIN = {"resnet": 0.7, "efficientnet": 2.1}
"""Variance of a convolution's output per unit of its input's mean square: chosen so that values
stay of order one through the depth, although the norms of these fills do not normalise."""


def uniform(name: str, shape: tuple[int, ...], *, seed: int = 0) -> Tensor:
    """Return float32 numbers in [-1, 1), a pure function of (seed, name, position).

    The i-th number is the top 24 bits of SplitMix64's i-th output, started at
    crc32(name) · 2^20 + seed · 2^52, divided by 2^23, minus 1.
    """
    start = (zlib.crc32(name.encode()) << 20) + (seed << 52)
    with np.errstate(over="ignore"):
        z = np.arange(1, math.prod(shape) + 1, dtype=np.uint64)
        z = z * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    values = (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def fill(name: str, tensor: Tensor, *, gain: float, seed: int) -> Tensor:
    """Return the value of the state-dict entry `name` (by timm's names), float32 (int64: zeros).

    Kernels: uniform with variance gain / fan-in (linear: 1 / fan-in). Norm weights 1 ± 0.2,
    running variances 1 ± 0.3, all other vectors ± 0.1.
    """
    shape = tuple(tensor.shape)
    u = uniform(name, shape, seed=seed)
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if tensor.ndim > 1:
        variance = (gain if tensor.ndim == 4 else 1.0) / math.prod(shape[1:])
        return u * np.float32(math.sqrt(3 * variance)).item()
    if name.endswith("running_var"):
        return 1 + u * 0.3
    is_norm_weight = name.endswith("weight")
    return 1 + u * 0.2 if is_norm_weight else u * 0.1


def fill_state(state: Mapping[str, Tensor], family: str, *, seed: int = 0) -> dict[str, Tensor]:
    """Fill a whole state dict whose keys are timm's names."""
    return {k: fill(k, v, gain=GAIN[family], seed=seed) for k, v in state.items()}


def key_hash(state: Mapping[str, Tensor]) -> str:
    """Return a hash of every key and shape, in the order of registration."""
    lines = "".join(f"{key} {tuple(value.shape)}\n" for key, value in state.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def observe(
    model: nn.Module,
    *,
    stages: Mapping[str, nn.Module],
    names: Mapping[str, str],
    training: bool,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Any]:
    """Run a filled network forward and backward and condense what can be seen of it.

    Args:
        stages: modules whose outputs are condensed, by the name to store them under.
        names: the network's own parameter and buffer names -> timm's names.
    Returns:
        logits: (B, N) of the fixed input; stages: [root mean square, projection] of each output;
        gradients: [norm, projection] of d(sum of logits × fixed weights), per top-level group;
        buffers (training only): [norm, projection] of all running statistics after the pass.
        A projection is the product with a fixed vector over √n, so it is near the root mean
        square in size and changes when anything is permuted, negated or misplaced.
    """
    model = model.to(dtype).train(training)
    seen: dict[str, Tensor] = {}
    hooks = [module.register_forward_hook(_keep(seen, name)) for name, module in stages.items()]
    shape = TRAINING_SHAPE if training else IMAGE_SHAPE
    image = (uniform("image", shape, seed=seed) * math.sqrt(3)).to(dtype)
    logits = model(image)
    (logits * uniform("cotangent", tuple(logits.shape), seed=seed).to(dtype)).sum().backward()
    for hook in hooks:
        hook.remove()

    groups: dict[str, dict[str, Tensor]] = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        groups.setdefault(_group(names[name]), {})[names[name]] = parameter.grad
    result: dict[str, Any] = {
        "logits": logits.detach().double().tolist(),
        "stages": {name: _condense({name: seen[name]}, seed) for name in stages},
        "gradients": {group: _condense(tensors, seed) for group, tensors in groups.items()},
    }
    if training:
        running = {names[k]: v for k, v in model.named_buffers() if v.is_floating_point()}
        result["buffers"] = _condense(running, seed)
    return result


def _keep(seen: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen[name] = output.detach().clone()  # the next in-place activation would overwrite it

    return hook


def _group(name: str) -> str:
    """Name the part a parameter is in: 'layer3', 'blocks.2', 'conv_stem'."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "blocks" else parts[0]


def _condense(tensors: Mapping[str, Tensor], seed: int) -> list[float]:
    size = sum(tensor.numel() for tensor in tensors.values())
    square = sum(tensor.double().square().sum().item() for tensor in tensors.values())
    projection = sum(_project(tensor, name, seed) for name, tensor in tensors.items())
    return [math.sqrt(square / size), projection / math.sqrt(size)]


def _project(tensor: Tensor, name: str, seed: int) -> float:
    """Multiply by a Weyl sequence, (start + i · 2654435769 mod 2^32) / 2^31 - 1, and sum."""
    start = np.uint32(zlib.crc32(name.encode()) ^ seed)
    weyl = np.arange(tensor.numel(), dtype=np.uint32) * np.uint32(2654435769) + start
    weights = torch.from_numpy(weyl.astype(np.float64)) / 2**31 - 1
    return torch.dot(tensor.double().flatten(), weights).item()
