"""How many multiply-adds one image costs, module by module.

In: a network and the size of an image. Out: name of a module -> multiply-adds of one forward pass,
its own and those of the modules in it. A multiply-add is one multiplication and one addition: two
floating point operations (FLOPs).

Counted are the products of convolutions, linear layers and attention. Norms, activations, pooling
and interpolation cost a few operations per value and are left out, as everywhere.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unet_seg.attention import MultiHeadAttention


def count_flops(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, int]:
    """Count the multiply-adds of a forward pass of one image.

    The network runs on the "meta" device, which knows shapes and computes nothing, so that the
    count costs no time and leaves the model as it is.

    Args:
        image_shape: (C, H, W).
    Returns:
        The dotted name of each module -> multiply-adds; "total" -> those of the whole model.
    """
    twin = copy.deepcopy(model).to("meta").eval()
    counts = {name or "total": 0 for name, _ in twin.named_modules()}
    handles = [
        module.register_forward_hook(_add_to(counts, name)) for name, module in twin.named_modules()
    ]
    try:
        with torch.no_grad():
            twin(torch.empty(1, *image_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return counts


def _add_to(counts: dict[str, int], name: str) -> Callable[..., None]:
    """A hook that adds a module's products to itself, to all that hold it and to the total."""
    parts = name.split(".")
    holders = [".".join(parts[: i + 1]) for i in range(len(parts))] if name else []

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        products = multiply_adds(module, inputs, output)
        for holder in ["total", *holders]:
            counts[holder] += products

    return hook


def multiply_adds(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> int:
    """Multiply-adds of a module itself, without those of the modules in it."""
    if isinstance(module, nn.ConvTranspose2d):  # each input value is spread by every kernel entry
        return int(inputs[0].numel() * module.weight[0].numel())
    if isinstance(module, nn.Conv2d):  # each output value is a sum over one kernel
        return int(output.numel() * module.weight[0].numel())
    if isinstance(module, nn.Linear):
        return int(output.numel() * module.in_features)
    if isinstance(module, MultiHeadAttention):  # Q Kᵀ and weights V: T * T * D each
        tokens: Tensor = inputs[0]
        return 2 * tokens.numel() * tokens.shape[1]
    return 0
