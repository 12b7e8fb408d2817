"""Scores over a split: means by counts, order, inference mode."""

import pytest
import torch
from tiny_task import CPU, TinyNet, TinySource, TinyTask, tiny_recipe, tiny_source
from torch.nn import functional as F

from maquette.device import Device
from maquette.training.scoring import Scores, score


def scored(source: TinySource, *, batch_size: int = 256, regression: bool = False) -> Scores:
    torch.manual_seed(0)
    model = TinyNet(regression=regression)
    task = TinyTask(tiny_recipe(), regression)
    return score(task, None, model, source, device=CPU, batch_size=batch_size)


def test_loss_and_metrics_are_those_of_the_whole_split() -> None:
    source = tiny_source(50)
    scores = scored(source)

    expected = F.cross_entropy(scores.outputs, source.targets).item()
    assert scores.metrics["loss"] == pytest.approx(expected, rel=1e-6)
    hits = (scores.outputs.argmax(1) == source.targets).double().mean().item()
    assert scores.metrics["accuracy"] == pytest.approx(hits)
    assert torch.equal(scores.targets, source.targets)


@pytest.mark.parametrize("batch_size", [1, 7, 49])
@pytest.mark.parametrize("regression", [False, True])
def test_the_batch_size_does_not_matter(batch_size: int, regression: bool) -> None:
    source = tiny_source(50, regression=regression)
    whole = scored(source, regression=regression)
    parts = scored(source, batch_size=batch_size, regression=regression)

    torch.testing.assert_close(parts.outputs, whole.outputs)
    assert parts.metrics == pytest.approx(whole.metrics, abs=1e-6)


def test_weighted_samples_weigh_in_the_loss() -> None:
    source = tiny_source(50)
    source.weights = torch.arange(50.0)
    scores = scored(source, batch_size=8)
    losses = F.cross_entropy(scores.outputs, source.targets, reduction="none")
    expected = (losses * source.weights).sum() / source.weights.sum()
    assert scores.metrics["loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_chosen_rows_are_scored_in_the_order_given() -> None:
    source = tiny_source(50)
    torch.manual_seed(0)
    model, task = TinyNet(), TinyTask(tiny_recipe())
    rows = torch.tensor([4, 2, 0])
    some = score(task, None, model, source, device=CPU, rows=rows)
    everything = score(task, None, model, source, device=CPU)
    torch.testing.assert_close(some.outputs, everything.outputs[rows])


def test_the_model_is_left_as_it_was() -> None:
    model, task = TinyNet(), TinyTask(tiny_recipe())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    score(task, None, model.train(), tiny_source(50), device=CPU)

    assert model.training
    assert not model._forward_hooks
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    score(task, None, model.eval(), tiny_source(50), device=CPU)
    assert not model.training


def test_outputs_are_float32_whatever_the_precision_and_can_be_changed() -> None:
    model, task = TinyNet(), TinyTask(tiny_recipe())
    bf16 = Device(name="cpu", precision="bf16")
    scores = score(task, None, model, tiny_source(10), device=bf16)
    assert scores.outputs.dtype == torch.float32
    scores.outputs.add_(1)
