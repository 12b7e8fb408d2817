"""Loss scaling: skips and halves on overflow, doubles in the end, gives up below 1."""

from pathlib import Path

import pytest
import torch
from tiny_task import CPU, run_tiny, tiny_recipe

from maquette.device import Device
from maquette.errors import RunError
from maquette.training.precision import GROWTH_INTERVAL, LossScaler, autocast


def test_unscaling_divides_by_the_scale() -> None:
    gradients = [torch.tensor([65536.0, -131072.0])]
    assert LossScaler().unscale_(gradients)
    assert gradients[0].tolist() == [1.0, -2.0]


def test_an_overflow_skips_the_step_and_halves_the_scale() -> None:
    scaler = LossScaler(scale=8.0)
    assert not scaler.unscale_([torch.tensor([1.0, float("inf")])])
    assert scaler.scale == 4.0
    assert scaler.unscale_([torch.tensor([1.0])])


def test_two_thousand_good_steps_double_the_scale() -> None:
    scaler = LossScaler(scale=8.0)
    for _ in range(GROWTH_INTERVAL):
        scaler.unscale_([torch.ones(1)])
    assert scaler.scale == 16.0


def test_a_scale_below_one_says_that_training_diverges() -> None:
    scaler = LossScaler(scale=1.0)
    with pytest.raises(RunError, match=r"diverges: fp16 .* training\.precision=bf16 or fp32"):
        scaler.unscale_([torch.tensor([float("nan")])])


def test_autocast_chooses_the_format_of_the_forward_pass() -> None:
    linear, inputs = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with autocast(CPU):
        assert linear(inputs).dtype == torch.float32
    with autocast(Device(name="cpu", precision="bf16")):
        assert linear(inputs).dtype == torch.bfloat16


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_like_fp32_and_keeps_fp32_weights(
    tmp_path: Path, precision: str
) -> None:
    recipe = tiny_recipe(tmp_path, epochs=15)
    plain, _, _ = run_tiny(recipe)
    mixed, model, _ = run_tiny(recipe, device=Device(name="cpu", precision=precision))  # type: ignore[arg-type]

    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert mixed.best_value == pytest.approx(plain.best_value, abs=0.05)
    assert mixed.history[-1]["train/loss"] < mixed.history[0]["train/loss"] - 0.2
