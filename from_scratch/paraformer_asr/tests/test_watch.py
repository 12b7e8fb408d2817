"""A value that is not finite is found where it was made, forward and backward."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from paraformer_asr.watch import NotFinite, check_step, find_not_finite


@dataclass
class Scored:
    """An output as models give it: tensors inside of a dataclass."""

    logits: Tensor
    lens: Tensor


class Breaking(nn.Module):
    """Breaks forward (0/0), or backward only (the root of 0, whose slope is infinite)."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "forward":
            return x / (x - x)
        if self.how == "backward":
            return x + (x - x).clamp_min(0).sqrt()
        return x


class Net(nn.Module):
    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.middle = nn.Sequential(nn.ReLU(), Breaking(how), nn.Linear(4, 4))
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Scored:
        return Scored(self.last(self.middle(self.first(x))), torch.tensor([1]))


def loss_of(model: nn.Module, x: Tensor | None = None) -> Tensor:
    return model(torch.ones(2, 3) if x is None else x).logits.square().mean()


def check(model: nn.Module, **changes) -> None:
    values = {
        "step": 41,
        "loss": math.nan,
        "grad_norm": 1.0,
        "names": [f"utt{i}" for i in range(7)],
        "repeat": lambda: loss_of(model),
        "lr": 1e-3,
    }
    check_step(model, **(values | changes))


def test_a_finite_step_is_not_repeated():
    def repeat() -> Tensor:
        raise AssertionError("a finite step was repeated")

    check(Net("forward"), loss=1.0, grad_norm=0.5, repeat=repeat)


def test_the_message_says_step_module_utterances_and_what_to_try():
    with pytest.raises(NotFinite) as caught:
        check(Net("forward"))
    assert str(caught.value) == (
        "step 42: the loss is nan; the first output that is not finite is that of middle.1 "
        "(Breaking). Utterances: utt0, utt1, utt2, utt3, utt4 and 2 more. The weights were not "
        "updated. Try optim.lr=0.0005 or a longer optim.warmup_steps, or listen to these "
        "utterances."
    )


def test_few_utterances_are_all_named():
    with pytest.raises(NotFinite, match=r"Utterances: a\.wav, b\.wav\. The weights"):
        check(Net("forward"), names=["a.wav", "b.wav"])


def test_in_half_precision_another_precision_is_the_advice():
    with pytest.raises(NotFinite, match=r"Try train\.precision=bf16 or fp32, or listen"):
        check(Net("forward"), precision="fp16")


def test_a_gradient_is_blamed_on_the_module_that_breaks_it():
    with pytest.raises(NotFinite) as caught:
        check(Net("backward"), loss=1.0, grad_norm=math.inf)
    assert "the gradient norm is inf; the gradient broke in middle.1 (Breaking)." in str(
        caught.value
    )


def test_a_gradient_that_breaks_between_modules_names_the_output_it_belongs_to():
    model = Net()

    def repeat() -> Tensor:
        logits = model(torch.ones(2, 3)).logits
        return logits.mean() + (logits - logits).clamp_min(0).sqrt().sum()

    found = find_not_finite(model, repeat)
    assert found == "the gradient broke in what is computed from the output of last (Linear)"


def test_a_tensor_that_several_modules_take_names_them_all():
    model = nn.ModuleDict({"a": Breaking("backward"), "b": Breaking(""), "c": nn.Linear(3, 3)})

    def repeat() -> Tensor:
        x = model["c"](torch.ones(2, 3))
        return (model["b"](x) + model["a"](x)).sum()

    assert find_not_finite(model, repeat) == "the gradient broke in b (Breaking) or a (Breaking)"


def test_a_broken_recording_is_told_apart_from_a_broken_module():
    model = Net()
    found = find_not_finite(model, lambda: loss_of(model, torch.full((2, 3), math.inf)))
    assert found == "the input of first (Linear) is already not finite"


def test_a_weight_that_is_not_finite_is_found_at_its_module():
    model = Net()
    with torch.no_grad():
        model.middle[2].weight[0, 0] = math.nan
    found = find_not_finite(model, lambda: loss_of(model))
    assert found == "the first output that is not finite is that of middle.2 (Linear)"


def test_a_loss_term_is_blamed_when_all_outputs_are_finite():
    model = Net()
    found = find_not_finite(model, lambda: loss_of(model) * math.inf)
    assert found == "all modules gave finite outputs, so a loss term made of them is not finite"


def test_a_gradient_of_a_parameter_alone_is_found():
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale.sqrt()

    model = Root()
    found = find_not_finite(model, lambda: model(torch.ones(2)).sum())
    assert found == "the gradient of the parameter scale is not finite"


def test_a_step_that_does_not_break_again_says_so():
    with pytest.raises(NotFinite, match="a repetition of the step was finite everywhere"):
        check(Net())


def test_the_search_leaves_no_hook_and_no_gradient_behind():
    for how in ("forward", "backward"):
        model = Net(how)
        assert find_not_finite(model, lambda model=model: loss_of(model)) is not None
        assert all(not module._forward_hooks for module in model.modules())
        assert all(parameter.grad is None for parameter in model.parameters())


def test_hooks_are_removed_when_the_repetition_fails():
    model = Net()

    def repeat() -> Tensor:
        raise MemoryError

    with pytest.raises(MemoryError):
        find_not_finite(model, repeat)
    assert all(not module._forward_hooks for module in model.modules())
