"""Does a device compute what the CPU computes? Asked once, before a training relies on it.

Kernels for some devices have returned wrong numbers without an error. The test runs two training
steps of a small network and one attention in two shapes on the device, and compares them with the
same in float64 on the CPU. Where the fused attention differs, the explicit one is used; where both
do or a training step differs, the CPU is.

Letters: B batch, H heads, T tokens, D width of one head, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Literal

from maquette.device.choose import Device, Precision

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SHAPES = ((2, 4, 50, 32), (1, 2, 77, 64))
"""(B, H, T, D): an image of 7 × 7 patches and, causal, a caption."""

TOLERANCE: dict[Precision, float] = {"fp32": 5e-3, "bf16": 5e-2, "fp16": 1e-2}
"""Largest error beside the largest number: rounding is far below, a wrong kernel far above."""


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """What to use, and why."""

    device: Device
    """The tested device, or the CPU in its place."""
    attention: Literal["fused", "explicit"]
    """The implementation that agrees with the CPU."""
    passed: bool
    """Whether the tested device may be used at all."""
    lines: tuple[str, ...]
    """What was compared and how far it was off."""
    warning: str | None
    """What is not used and what stands in for it; None: all is well."""


@lru_cache(maxsize=8)
def self_test(device: Device) -> SelfTest:
    """Compare `device` with the CPU, in float32 and in its own precision; takes milliseconds."""
    lines: list[str] = []
    if _agrees(lines, "training step", "fp32", partial(_step_error, device)):
        if _attention_agrees(lines, device, "fused"):
            return _result(device, "fused", lines, None)
        if _attention_agrees(lines, device, "explicit"):
            return _result(
                device,
                "explicit",
                lines,
                f"The fused attention of {device.name} does not agree with the CPU, so the "
                "explicit one is used, which takes more memory. A newer torch may have it right.",
            )
    warning = (
        f"{device.name} does not compute what the CPU computes ({lines[-1]}), so the CPU is used. "
        "A newer torch may have it right."
    )
    return _result(Device(name="cpu", precision="fp32"), "fused", lines, warning, passed=False)


def _result(
    device: Device,
    attention: Literal["fused", "explicit"],
    lines: Sequence[str],
    warning: str | None,
    *,
    passed: bool = True,
) -> SelfTest:
    return SelfTest(
        device=device, attention=attention, passed=passed, lines=tuple(lines), warning=warning
    )


def _attention_agrees(lines: list[str], device: Device, impl: str) -> bool:
    return all(
        _agrees(
            lines,
            f"{impl} attention of {shape[2]} tokens",
            precision,
            partial(_attention_error, device, precision, impl, shape),
        )
        for precision in dict.fromkeys(("fp32", device.precision))
        for shape in SHAPES
    )


def _agrees(
    lines: list[str], what: str, precision: Precision, error_of: Callable[[], float]
) -> bool:
    """Run one comparison and write down how it went."""
    try:
        error = error_of()
    except (RuntimeError, TypeError, NotImplementedError) as problem:
        reason = (str(problem) or type(problem).__name__).splitlines()[0]
        lines.append(f"{what}, {precision}: failed, {reason}")
        return False
    # A NaN is not below the tolerance either.
    agrees = error <= TOLERANCE[precision]
    lines.append(
        f"{what}, {precision}: {'agrees' if agrees else 'DIFFERS'}, relative error {error:.1e} "
        f"of {TOLERANCE[precision]:g} allowed"
    )
    return agrees


def _attention_error(
    device: Device, precision: Precision, impl: str, shape: tuple[int, int, int, int]
) -> float:
    """Return how far output and gradients of one attention are off."""
    import torch

    B, H, T, D = shape
    is_causal = shape == SHAPES[1]
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(B, T, H, D, dtype=torch.float64, generator=generator).transpose(1, 2)
        for _ in range(4)
    ]
    wanted = _attend("explicit", inputs, is_causal)
    # float64 does not exist on MPS: convert here, move then.
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    there = [x.to(dtype).to(device.torch_device).contiguous() for x in inputs]
    return _relative_error(_attend(impl, there, is_causal), wanted)


def _attend(impl: str, inputs: Sequence[Tensor], is_causal: bool) -> list[Tensor]:
    """Return output and gradients of an attention, written in PyTorch's own operations."""
    import torch
    from torch.nn import functional as F

    q, k, v = (x.detach().requires_grad_() for x in inputs[:3])
    if impl == "fused":
        out = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    else:
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if is_causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        out = scores.softmax(dim=-1) @ v
    return [out.detach(), *torch.autograd.grad((out * inputs[3]).sum(), (q, k, v))]


def _step_error(device: Device) -> float:
    """Return how far losses and weights are off after two steps."""
    import torch

    return _relative_error(
        _train(device.torch_device, torch.float32), _train(torch.device("cpu"), torch.float64)
    )


def _train(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Take two steps of Adam on a patch embedding, a norm and an MLP; return losses and weights."""
    import torch
    from torch.nn import functional as F

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        values = torch.randn(shape, dtype=torch.float64, generator=generator)
        return values.to(dtype).to(device)

    images, classes = draw(4, 3, 16, 16), torch.arange(4).to(device)
    weights = [draw(8, 3, 4, 4) / 4, draw(8), draw(8), draw(16, 8) / 3, draw(4, 16) / 4]
    patches, norm_weight, norm_bias, hidden, head = (x.requires_grad_() for x in weights)
    first, second = ([torch.zeros_like(x) for x in weights] for _ in range(2))
    losses = []
    for _ in range(2):
        tokens = F.conv2d(images, patches, stride=4).flatten(2).transpose(1, 2)  # (B, T, C)
        tokens = F.layer_norm(tokens, (8,), norm_weight, norm_bias)
        logits = F.linear(F.gelu(F.linear(tokens, hidden)).mean(dim=1), head)
        loss = F.cross_entropy(logits, classes)
        grads = torch.autograd.grad(loss, weights)
        with torch.no_grad():  # the operations of training/optim.py
            torch._foreach_lerp_(first, grads, 0.1)
            torch._foreach_mul_(second, 0.9)
            torch._foreach_addcmul_(second, grads, grads, 0.1)
            deviations = torch._foreach_sqrt(second)
            # Not Adam's 1e-8: its first steps are signs of gradients, rounding included.
            torch._foreach_add_(deviations, 1e-2)
            torch._foreach_addcdiv_(weights, first, deviations, -1e-2)
        losses.append(loss.detach())
    return [torch.stack(losses), *(x.detach() for x in weights)]


def _relative_error(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Return the largest difference beside the largest number wanted, the worst of all tensors."""
    errors = [
        float((a.to("cpu").double() - b).abs().max() / b.abs().max())
        for a, b in zip(found, wanted, strict=True)
    ]
    # max() loses a NaN that is not the first.
    return next((e for e in errors if e != e), max(errors))
