"""Checks of tensors at the doors of public functions: shape, dtype, range, finiteness.

A shape is written as letters, the same ones the docstrings use:

    sizes = check_shape(logits, "B N H W", name="logits")
    check_shape(target, "B H W", name="target", sizes=sizes)   # the same B, H, W

Checks of shape and dtype cost microseconds; those of values (`check_range`, `check_finite`) read
the whole tensor once and are called only where data enters.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from unet_seg.errors import SegError


def check_shape(
    tensor: Tensor, axes: str, *, name: str, sizes: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Check the axes of a tensor and return the size of each letter.

    Args:
        tensor: any dtype.
        axes: letters or numbers separated by spaces, such as "B 3 H W"; a number must match
            exactly, a letter that occurs twice must have one size.
        name: what the message calls the tensor.
        sizes: sizes known from other tensors; the letters must agree with them.
    Returns:
        `sizes` and the letters of this tensor.
    Raises:
        SegError: another number of axes, or an axis of another size.
    """
    expected = axes.split()
    known = dict(sizes or {})
    shape = tuple(tensor.shape)
    if len(shape) != len(expected):
        raise SegError(
            f"{name} has shape {shape}, which is {len(shape)} axes; expected {len(expected)}: "
            f"({', '.join(expected)})."
        )
    for axis, (letter, size) in enumerate(zip(expected, shape, strict=True)):
        wanted = int(letter) if letter.isdigit() else known.setdefault(letter, size)
        if size != wanted:
            filled = ", ".join(x if x.isdigit() else f"{x}={known.get(x, '?')}" for x in expected)
            raise SegError(
                f"{name} has shape {shape}; axis {axis} ({letter}) is {size}, expected {wanted} "
                f"from ({filled})."
            )
    return known


def check_dtype(tensor: Tensor, *allowed: torch.dtype, name: str) -> None:
    """Raise SegError unless the tensor has one of the allowed dtypes."""
    if tensor.dtype not in allowed:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        given = str(tensor.dtype).removeprefix("torch.")
        raise SegError(
            f"{name} has dtype {given}, expected {names}; "
            f"convert it with .to(torch.{str(allowed[0]).removeprefix('torch.')})."
        )


def check_range(tensor: Tensor, low: float, high: float, *, name: str) -> None:
    """Raise SegError unless every value lies in [low, high]; NaN never does. Empty passes."""
    if tensor.numel() == 0:
        return
    smallest, largest = (float(x) for x in torch.aminmax(tensor))
    if not (low <= smallest and largest <= high):
        check_finite(tensor, name=name)
        raise SegError(
            f"{name} has values from {smallest:g} to {largest:g}, expected {low:g} to {high:g}."
        )


def check_finite(tensor: Tensor, *, name: str) -> None:
    """Raise SegError if a value is NaN or infinite, saying how many and where the first one is."""
    if not tensor.is_floating_point() and not tensor.is_complex():
        return
    bad = ~torch.isfinite(tensor)
    if bad.any():
        first = tuple(int(i) for i in bad.nonzero()[0])
        kind = "NaN" if torch.isnan(tensor[first]) else "infinite"
        raise SegError(
            f"{name} holds {int(bad.sum())} values that are not finite; the first is {kind} "
            f"at index {first}. Look at what made it: a division by zero, or a damaged file."
        )
