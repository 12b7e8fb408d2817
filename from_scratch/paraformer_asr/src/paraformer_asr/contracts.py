"""Shape, dtype and value checks for the doors of public functions.

One call checks the tensors that belong together; a letter means the same size in all of them:

    expect(("hidden", hidden, "B T D"), ("alphas", alphas, "B T"))

raises AsrError naming the tensor, its shape, the axis and the size that was wanted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paraformer_asr.errors import AsrError


def expect(*named: tuple[str, Tensor, str]) -> dict[str, int]:
    """Check tensors against shapes written as letters and numbers.

    Args:
        named: (name, tensor, axes); axes such as "B T 80": a number is that size, a letter is any
            size but the same wherever it stands, "_" is any size each time.
    Returns:
        The size of each letter.
    Raises:
        AsrError: a wrong number of axes, or sizes that do not fit.
    """
    sizes: dict[str, int] = {}
    origin: dict[str, str] = {}
    for name, tensor, text in named:
        axes = text.split()
        shape = list(tensor.shape)
        if len(shape) != len(axes):
            raise AsrError(f"{name} is {shape}; expected {len(axes)} axes ({', '.join(axes)}).")
        for position, (axis, size) in enumerate(zip(axes, shape, strict=True)):
            if axis == "_":
                continue
            if axis not in sizes:
                sizes[axis] = int(axis) if axis.isdigit() else size
                origin[axis] = "the contract" if axis.isdigit() else name
            if sizes[axis] != size:
                raise AsrError(
                    f"{name} is {shape}: axis {position} should be {axis}"
                    f"{'' if axis.isdigit() else f'={sizes[axis]}'} as in {origin[axis]}, "
                    f"not {size}; expected ({', '.join(axes)})."
                )
    return {letter: size for letter, size in sizes.items() if not letter.isdigit()}


def expect_dtype(name: str, tensor: Tensor, *allowed: torch.dtype) -> None:
    """Raise AsrError unless the tensor's dtype is one of `allowed`."""
    if tensor.dtype not in allowed:
        wanted = " or ".join(str(dtype) for dtype in allowed)
        raise AsrError(f"{name} is {tensor.dtype}; expected {wanted}: use .to({allowed[0]}).")


def expect_finite(name: str, tensor: Tensor) -> None:
    """Raise AsrError if any value is NaN or infinite; says how many and where the first is."""
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        where = [int(i) for i in (~finite).nonzero()[0]]
        raise AsrError(
            f"{name} has {int((~finite).sum())} values that are NaN or infinite, the first at "
            f"{where}; look at the recording or the step that made it."
        )


def expect_between(name: str, tensor: Tensor, low: float, high: float) -> None:
    """Raise AsrError unless low <= every value <= high (NaN is refused); an empty tensor passes."""
    if tensor.numel() and not bool(((tensor >= low) & (tensor <= high)).all()):
        expect_finite(name, tensor)
        least, most = float(tensor.min()), float(tensor.max())
        raise AsrError(f"{name} reaches from {least:g} to {most:g}; expected {low:g} to {high:g}.")
