"""The watch for NaN: silent on good numbers, exact about where bad ones began."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unet_seg.watch import NotFinite, check_step, first_bad_gradient, first_bad_output


class Divide(nn.Module):
    """Divides by a number that a test sets to zero."""

    def __init__(self) -> None:
        super().__init__()
        self.by = 1.0

    def forward(self, values: Tensor) -> Tensor:
        return values / self.by


class BreaksBackward(nn.Module):
    """The square root of a square is finite at 0, its gradient is not."""

    def forward(self, values: Tensor) -> Tensor:
        return (values * 0).square().sum(dim=1, keepdim=True).sqrt() + values


def network(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 3), nn.Sequential(*middle, nn.ReLU()), nn.Linear(3, 1))


def test_a_finite_pass_names_nothing():
    model, values = network(Divide()), torch.ones(2, 3)
    assert first_bad_output(model, lambda: model(values)) is None
    assert first_bad_gradient(model, lambda: model(values).sum()) is None


def test_the_innermost_module_that_made_it_is_named():
    model, values = network(Divide()), torch.ones(2, 3)
    model[1][0].by = 0.0
    assert first_bad_output(model, lambda: model(values)) == "1.0 (Divide)"


def test_a_bad_input_is_not_blamed_on_the_module():
    model = network()
    values = torch.full((2, 3), float("nan"))
    assert first_bad_output(model, lambda: model(values)) == "the input of 0 (Linear)"


def test_the_module_whose_gradient_breaks_is_named():
    model, values = network(BreaksBackward()), torch.ones(2, 3)
    named = first_bad_gradient(model, lambda: model(values).sum())
    assert named == "1.0 (BreaksBackward), before 0 (Linear)"


def test_a_loss_with_a_broken_gradient_is_named():
    model, values = network(), torch.ones(2, 3)
    named = first_bad_gradient(model, lambda: (model(values) * 0).square().sum().sqrt())
    assert named == "the loss"


def check(model: nn.Module, values: Tensor, *, loss: float, grad_norm: float, **more: str) -> None:
    precision = more.get("precision", "fp32")
    check_step(
        model,
        loss=loss,
        grad_norm=grad_norm,
        step=6,
        names=("a.png", "b.png"),
        run=lambda: model(values).sum(),
        lr=0.1,
        precision=precision,
    )


def test_a_good_step_passes_without_running_the_model_again():
    check(nn.Identity(), None, loss=1.0, grad_norm=2.0)  # None would break if it were run


def test_the_message_says_step_module_images_and_cure():
    model, values = network(Divide()), torch.ones(2, 3)
    model[1][0].by = 0.0
    with pytest.raises(NotFinite) as error:
        check(model, values, loss=float("nan"), grad_norm=1.0)
    assert str(error.value) == (
        "step 7: the loss is nan; the first output that is not finite comes from 1.0 (Divide). "
        "Images of the step: a.png, b.png. The weights were not updated. Try optim.lr below 0.1, "
        "a smaller optim.grad_clip, or look at these images."
    )


def test_a_loss_function_or_a_gradient_is_blamed_when_outputs_are_finite():
    model, values = network(BreaksBackward()), torch.ones(2, 3)
    with pytest.raises(NotFinite, match="all outputs are finite, so the loss function made it"):
        check(model, values, loss=float("inf"), grad_norm=1.0)
    with pytest.raises(NotFinite, match=r"gradient norm is nan; the gradient broke at 1.0 \(Break"):
        check(model, values, loss=1.0, grad_norm=float("nan"))
    with pytest.raises(NotFinite, match="Try precision=bf16 or fp32"):
        check(model, values, loss=float("inf"), grad_norm=1.0, precision="fp16")
