"""Gradient caching: the gradients of the whole batch, in the memory of its pieces."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from coupled_task import CoupledTinyTask, PairsSource, TwoTowers, pairs_source
from tiny_task import CPU, tiny_recipe
from torch import nn

from maquette.device import Device
from maquette.runs import RunFolder
from maquette.tasks.base import Batch, CoupledTask
from maquette.training.coupled import coupled_backward
from maquette.training.groups import step_groups
from maquette.training.loop import FitResult, fit
from maquette.training.seeding import seed_everything


def gradients(model: nn.Module, batch: Batch, size: int, *, scale: float = 1.0) -> dict[str, Any]:
    task = CoupledTinyTask(tiny_recipe())
    model.zero_grad(set_to_none=True)
    loss, count = coupled_backward(
        task,
        model,
        batch.pieces(size),
        device=torch.device("cpu"),
        autocast=nullcontext,
        scale=scale,
    )
    assert task.calls == 1
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss, "count": count, **grads}


def whole(size: int) -> Batch:
    return next(pairs_source(size).batches(torch.arange(size), size, epoch=1))


@pytest.mark.parametrize("piece", [1, 3, 8, 23])
def test_cached_gradients_equal_those_of_the_whole_batch(piece):
    torch.manual_seed(0)
    model = TwoTowers().double()
    batch = whole(24)
    batch = Batch(tuple(x.double() for x in batch.inputs), batch.targets, batch.rows)
    expected, found = gradients(model, batch, 24), gradients(model, batch, piece)
    assert expected.keys() == found.keys()
    assert "logit_scale" in found
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=name)


def test_in_single_precision_they_agree_to_a_millionth():
    torch.manual_seed(0)
    model = TwoTowers()
    expected, found = gradients(model, whole(64), 64), gradients(model, whole(64), 8)
    for name, value in expected.items():
        difference = (torch.as_tensor(found[name]) - torch.as_tensor(value)).norm()
        assert difference <= 1e-6 * torch.as_tensor(value).norm(), name


def test_the_second_pass_draws_the_dropout_of_the_first():
    """With other masks, the cached gradient would belong to other representations."""
    torch.manual_seed(0)
    model = TwoTowers(dropout=0.5)
    batch = whole(12)
    torch.manual_seed(7)
    found = gradients(model, batch, 4)
    after = torch.get_rng_state()

    torch.manual_seed(7)
    model.zero_grad()
    parts = [model(*piece.inputs) for piece in batch.pieces(4)]  # the same masks, with a graph
    task = CoupledTinyTask(tiny_recipe())
    outputs = torch.cat(parts)
    loss, _ = task.coupled_loss(model, (outputs[:, 0], outputs[:, 1]), batch.targets)
    loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-6)
    assert torch.equal(after, torch.get_rng_state())


def test_the_scale_multiplies_the_gradients_alone():
    torch.manual_seed(0)
    model = TwoTowers()
    once, twice = gradients(model, whole(8), 4), gradients(model, whole(8), 4, scale=2.0)
    assert torch.equal(once["loss"], twice["loss"])
    torch.testing.assert_close(twice["logit_scale"], 2 * once["logit_scale"])


def test_a_frozen_tower_gets_no_gradient():
    torch.manual_seed(0)
    model = TwoTowers()
    model.towers[0].requires_grad_(requires_grad=False)
    expected, found = gradients(model, whole(8), 8), gradients(model, whole(8), 3)
    assert not any(name.startswith("towers.0") for name in found)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_groups_are_counted_in_samples():
    source = pairs_source(50, largest=6)
    batches = list(source.batches(torch.arange(50), 16, epoch=1))
    groups = [[len(batch) for batch in group] for group in step_groups(batches, 32)]
    assert groups == [[6, 6, 4, 6, 6, 4], [6, 6, 4, 2]]
    assert list(step_groups([], 4)) == []


def test_a_batch_in_pieces_is_the_batch():
    batch = whole(7)
    assert batch.pieces(7) == [batch]
    pieces = batch.pieces(3)
    assert [len(piece) for piece in pieces] == [3, 3, 1]
    assert torch.equal(torch.cat([piece.targets for piece in pieces]), batch.targets)
    weighted = Batch(batch.inputs, batch.targets, batch.rows, torch.arange(7.0)).pieces(4)
    assert torch.cat([p.weights for p in weighted if p.weights is not None]).tolist() == [*range(7)]


def run_pairs(
    tmp_path: Path, source: PairsSource, **training: Any
) -> tuple[FitResult, TwoTowers, CoupledTinyTask]:
    recipe = tiny_recipe(tmp_path, **({"epochs": 2, "learning_rate": 0.01} | training))
    seed_everything(0, deterministic=True)
    model, task = TwoTowers(dropout=0.1), CoupledTinyTask(recipe)
    result = fit(
        task=task,  # type: ignore[arg-type]
        preprocessor=None,
        model=model,
        train=source,
        valid=pairs_source(32, seed=0),
        recipe=recipe,
        folder=RunFolder.create(recipe),
        device=CPU,
    )
    return result, model, task


def test_the_trainer_sees_one_batch_per_step(tmp_path):
    """Micro-batches of any size, cut by the source or not, are one contrastive batch."""
    models = []
    for micro, largest in ((48, 100), (16, 100), (16, 5)):
        source = pairs_source(96, largest=largest)
        settings = {"batch_size": micro, "effective_batch": 48}
        result, model, task = run_pairs(tmp_path, source, **settings)
        assert isinstance(task, CoupledTask)
        models.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        assert result.history[-1]["step"] == 4
        assert 0 < result.history[-1]["valid/temperature"] < 1
    # dropout draws differ with the shape of the pieces, so the three are near, not equal
    assert (models[0] - models[1]).abs().max() < 0.1
    assert result.history[-1]["train/loss"] < result.history[0]["train/loss"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_with_its_loss_scale(tmp_path, precision):
    """The scale of fp16 multiplies the loss once; the cached gradients carry it to the weights.

    Its first steps overflow and are skipped, so the trainings agree in the end, not step by step.
    """
    losses = []
    for device in (CPU, Device(name="cpu", precision=precision)):
        recipe = tiny_recipe(
            tmp_path, epochs=20, learning_rate=0.02, batch_size=8, effective_batch=48
        )
        seed_everything(0, deterministic=True)
        model = TwoTowers()
        result = fit(
            task=CoupledTinyTask(recipe),  # type: ignore[arg-type]
            preprocessor=None,
            model=model,
            train=pairs_source(96),
            valid=pairs_source(32),
            recipe=recipe,
            folder=RunFolder.create(recipe),
            device=device,
        )
        assert all(p.dtype == torch.float32 for p in model.parameters())
        losses.append(result.history[-1]["train/loss"])
    assert losses[0] < 1.5
    assert losses[1] == pytest.approx(losses[0], rel=0.15)


def test_a_source_may_have_an_order_of_its_own(tmp_path):
    source = pairs_source(20)
    source.stream = torch.arange(19, -1, -1)
    run_pairs(tmp_path, source, epochs=1, batch_size=5)
    learned = [rows for rows in source.asked if len(rows) == 5][-4:]
    assert learned == [
        list(range(19, 14, -1)),
        list(range(14, 9, -1)),
        list(range(9, 4, -1)),
        list(range(4, -1, -1)),
    ]


def test_parameters_have_rates_of_their_own(tmp_path):
    recipe = tiny_recipe(tmp_path, epochs=1, learning_rate=0.01, batch_size=10)
    seed_everything(0, deterministic=True)
    model = TwoTowers()
    before, other = (tower[0].weight.detach().clone() for tower in model.towers)
    task = CoupledTinyTask(recipe, rates={"towers.0.0.weight": 1e-9})
    fit(
        task=task,  # type: ignore[arg-type]
        preprocessor=None,
        model=model,
        train=pairs_source(20),
        valid=pairs_source(10),
        recipe=recipe,
        folder=RunFolder.create(recipe),
        device=CPU,
    )
    assert (model.towers[0][0].weight - before).abs().max() < 1e-6
    assert (model.towers[1][0].weight - other).abs().max() > 1e-3
