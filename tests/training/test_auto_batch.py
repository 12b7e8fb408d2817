"""`batch_size: auto`: what it chooses, and that the training after it is as if it had not been."""

from __future__ import annotations

import pytest
import torch
from coupled_task import CoupledTinyTask, TwoTowers, pairs_source
from tiny_task import CPU, TinyNet, TinyTask, tiny_recipe, tiny_source

from maquette.training.auto_batch import measured_recipe


def test_the_batch_is_a_divisor_of_the_effective_one(tmp_path):
    recipe = tiny_recipe(tmp_path, batch_size="auto", effective_batch=24)
    torch.manual_seed(0)
    model = TinyNet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    measured, found = measured_recipe(
        recipe, task=TinyTask(recipe), model=model, source=tiny_source(70), device=CPU
    )
    assert measured.training.batch_size == 24
    assert measured.training.step_samples == 24
    assert found.batch_size == 24
    assert recipe.training.batch_size == "auto"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())


def test_ten_steps_an_epoch_are_left(tmp_path):
    recipe = tiny_recipe(tmp_path, batch_size="auto")
    measured, _ = measured_recipe(
        recipe, task=TinyTask(recipe), model=TinyNet(), source=tiny_source(70), device=CPU
    )
    assert measured.training.batch_size == 7


@pytest.mark.parametrize(("room", "expected"), [(12, 12), (11, 8), (5, 4), (2, 2)])
def test_what_does_not_fit_is_not_taken(tmp_path, room, expected, monkeypatch):
    class Small(TwoTowers):
        def forward(self, first, second):
            if self.training and len(first) > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(first, second)

    recipe = tiny_recipe(tmp_path, batch_size="auto", effective_batch=24)
    source = pairs_source(48, largest=5)  # comes in pieces, which are put together again
    measured, found = measured_recipe(
        recipe, task=CoupledTinyTask(recipe), model=Small(), source=source, device=CPU
    )
    assert 1 <= measured.training.batch_size <= expected
    assert 24 % measured.training.batch_size == 0
    assert found.batch_size <= room
