"""The loop: exact sums, every sample once, every key of `training` does what it says."""

import csv
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import (
    CPU,
    FEATURES,
    TinyNet,
    TinySource,
    TinyTask,
    run_tiny,
    tiny_recipe,
    tiny_source,
)
from torch import Tensor, nn

from maquette.data.randomness import permutation
from maquette.errors import RunError, UsageError
from maquette.recipe import Recipe
from maquette.runs import RunFolder
from maquette.tasks.base import Batch
from maquette.training.callbacks import View
from maquette.training.ema import Ema
from maquette.training.loop import _Training
from maquette.training.signals import StopRequest


class Recorded(TinySource):
    """Remembers what was asked of it."""

    def __init__(self, size: int = 70) -> None:
        source = tiny_source(size)
        super().__init__(source.inputs, source.targets)
        self.epochs: list[int] = []
        self.rows: list[list[int]] = []

    def batches(self, order: Tensor, batch_size: int, *, epoch: int) -> Iterator[Batch]:
        self.epochs.append(epoch)
        for batch in super().batches(order, batch_size, epoch=epoch):
            self.rows.append(batch.rows.tolist())
            yield batch


def linear(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(FEATURES, 3, dtype=dtype)


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def column(folder: RunFolder, name: str) -> list[float]:
    with folder.metrics_file.open() as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def plain_sgd(tmp_path: Path, **changes: Any) -> Recipe:
    """One epoch of SGD without anything that is not a gradient."""
    settings = {
        "epochs": 1,
        "optimizer": "sgd",
        "momentum": 0.0,
        "weight_decay": 0.0,
        "schedule": "constant",
        "checkpoint": {"enabled": False, "save_best": False},
    }
    return tiny_recipe(tmp_path, **(settings | changes))


@pytest.mark.parametrize("size", [64, 70, 65])  # whole, ragged, one sample left over
@pytest.mark.parametrize("weighted", [False, True])
def test_accumulated_gradients_equal_those_of_the_big_batch(
    tmp_path: Path, size: int, weighted: bool
) -> None:
    train = tiny_source(size)
    train.inputs = train.inputs.double()
    if weighted:
        train.weights = torch.rand(size, dtype=torch.float64) + 0.1
    valid = TinySource(train.inputs[:8], train.targets[:8])
    ended = []
    for batch_size, accumulate in ((32, 1), (8, 4)):
        recipe = plain_sgd(tmp_path, batch_size=batch_size, accumulate=accumulate)
        _, model, _ = run_tiny(recipe, model=linear(torch.float64), train=train, valid=valid)
        ended.append(weights_of(model))
    torch.testing.assert_close(ended[0], ended[1], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(ended[0], weights_of(linear(torch.float64)), atol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_one_step_is_the_gradient_of_the_mean_loss(tmp_path: Path, weighted: bool) -> None:
    train = tiny_source(21)
    if weighted:
        train.weights = torch.arange(21.0)
    recipe = plain_sgd(tmp_path, batch_size=8, accumulate=4, learning_rate=0.5)
    _, model, _ = run_tiny(recipe, model=linear(), train=train)

    expected = linear()
    losses = nn.functional.cross_entropy(expected(train.inputs), train.targets, reduction="none")
    weights = torch.ones(21) if train.weights is None else train.weights
    ((losses * weights).sum() / weights.sum()).backward()

    for trained, start in zip(model.parameters(), expected.parameters(), strict=True):
        assert start.grad is not None
        torch.testing.assert_close(trained, start - 0.5 * start.grad, rtol=1e-6, atol=1e-6)


def test_every_sample_is_seen_once_per_epoch_in_the_order_of_the_permutation(
    tmp_path: Path,
) -> None:
    train = Recorded()
    run_tiny(tiny_recipe(tmp_path, epochs=2, batch_size=16, seed=5), train=train)
    assert train.epochs == [1, 2]
    assert [len(rows) for rows in train.rows] == [16, 16, 16, 16, 6] * 2
    seen = list(chain.from_iterable(train.rows))
    expected = [permutation(70, seed=5, epoch=e, purpose="order").tolist() for e in (1, 2)]
    assert seen == expected[0] + expected[1]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    one, same, other = (
        weights_of(run_tiny(tiny_recipe(tmp_path, seed=seed))[1]) for seed in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_one_batch_is_learned_by_heart(tmp_path: Path) -> None:
    batch = tiny_source(16)
    recipe = tiny_recipe(tmp_path, epochs=300, early_stopping={"enabled": False})
    result, _, _ = run_tiny(recipe, model=TinyNet(dropout=0, norm=False), train=batch, valid=batch)
    assert result.history[-1]["train/loss"] < 0.02
    assert result.history[-1]["valid/accuracy"] == 1.0


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_every_optimizer_learns(tmp_path: Path, optimizer: str) -> None:
    recipe = tiny_recipe(tmp_path, epochs=15, optimizer=optimizer)
    result, _, _ = run_tiny(recipe, train=tiny_source(300))
    assert result.best_value < result.history[0]["valid/loss"] - 0.1


def test_metrics_file_has_the_documented_columns(tmp_path: Path) -> None:
    _, _, folder = run_tiny(tiny_recipe(tmp_path, epochs=2))
    header = folder.metrics_file.read_text().splitlines()[0].split(",")
    first = ["epoch", "step", "seconds", "learning_rate", "train/loss", "valid/loss"]
    assert header[:6] == first
    assert "valid/accuracy" in header
    assert header[-1] == "samples_per_second"
    assert column(folder, "step") == [5, 10]
    assert column(folder, "epoch") == [1, 2]


def test_the_training_loss_is_the_mean_over_samples_not_over_batches(tmp_path: Path) -> None:
    train = tiny_source(33)
    recipe = plain_sgd(tmp_path, batch_size=32, accumulate=2, learning_rate=1e-9)
    result, _, _ = run_tiny(recipe, model=linear(), train=train)
    expected = nn.functional.cross_entropy(linear()(train.inputs), train.targets).item()
    assert result.history[0]["train/loss"] == pytest.approx(expected, rel=1e-6)


def test_the_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    changes = {"epochs": 4, "schedule": "linear", "learning_rate": 0.1, "warmup_epochs": 2}
    recipe = tiny_recipe(tmp_path, **changes, final_learning_rate=0.05)
    _, _, folder = run_tiny(recipe)  # 5 steps per epoch: 10 of warm-up, 10 down
    assert column(folder, "learning_rate") == pytest.approx([0.05, 0.1, 0.08, 0.055])


@pytest.mark.parametrize(
    "change",
    [
        {"weight_decay": 0.5},
        {"momentum": 0.1, "optimizer": "sgd"},
        {"clip_norm": 0.01, "optimizer": "sgd"},
        {"learning_rate": 0.02},
        {"batch_size": 8},
        {"schedule": "constant"},
        {"warmup_epochs": 0.6},
        {"final_learning_rate": 0.009},
        {"ema_decay": 0.9},
        {"accumulate": 2},
    ],
    ids=str,
)
def test_each_key_changes_what_is_learned(tmp_path: Path, change: dict[str, Any]) -> None:
    base = {"optimizer": change["optimizer"]} if "optimizer" in change else {}
    before = weights_of(run_tiny(tiny_recipe(tmp_path, **base))[1])
    after = weights_of(run_tiny(tiny_recipe(tmp_path, **change))[1])
    assert not torch.allclose(before, after, atol=1e-6)


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    recipe = plain_sgd(tmp_path, batch_size=70, clip_norm=0.01, learning_rate=1.0)
    _, model, _ = run_tiny(recipe, model=linear())
    moved = (weights_of(model) - weights_of(linear())).norm().item()
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_the_average_is_validated_and_shipped_with_live_batch_norm(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"ema_decay": 0.9, "checkpoint": {"save_best": False}}
    result, model, _ = run_tiny(tiny_recipe(tmp_path, **changes))

    again = TinyNet()
    torch.manual_seed(0)
    followed: list[Ema] = []

    class Follow(Ema):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            followed.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maquette.training.state.Ema", Follow)
        _, again, _ = run_tiny(tiny_recipe(tmp_path, **changes))  # type: ignore[assignment]
    (ema,) = followed
    assert ema.updates == result.history[-1]["step"]
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, ema.tensors()[name])
    assert torch.equal(weights_of(model), weights_of(again))
    assert not torch.equal(again.norm.running_mean, torch.zeros(16))  # type: ignore[union-attr,arg-type]


def best_weights_in_hindsight(tmp_path: Path, epochs: int, stop_at: int) -> Tensor:
    """The weights after `stop_at` epochs of a run of `epochs`."""
    kept: list[Tensor] = []

    class Keep:
        def on_step(self, view: View) -> None: ...
        def on_end(self, view: View) -> None: ...
        def on_epoch_end(self, view: View) -> None:
            kept.append(weights_of(model))

    torch.manual_seed(0)
    model = TinyNet()
    run_tiny(tiny_recipe(tmp_path, **OVERFITTING), model=model, callbacks=[Keep()])
    assert len(kept) == epochs
    return kept[stop_at - 1]


OVERFITTING: dict[str, Any] = {
    "epochs": 40,
    "schedule": "constant",
    "early_stopping": {"enabled": False},
}


def test_the_best_epoch_is_shipped_or_the_last(tmp_path: Path) -> None:
    def start() -> nn.Module:
        torch.manual_seed(0)
        return TinyNet()

    result, shipped, _ = run_tiny(tiny_recipe(tmp_path, **OVERFITTING), model=start())
    assert 1 < result.best_epoch < 40
    losses = [row["valid/loss"] for row in result.history]
    assert result.best_value == min(losses) == losses[result.best_epoch - 1]
    expected = best_weights_in_hindsight(tmp_path, 40, result.best_epoch)
    assert torch.equal(weights_of(shipped), expected)

    last = tiny_recipe(tmp_path, **OVERFITTING, checkpoint={"save_best": False})
    _, shipped, _ = run_tiny(last, model=start())
    assert torch.equal(weights_of(shipped), best_weights_in_hindsight(tmp_path, 40, 40))


def test_early_stopping_ends_the_run(tmp_path: Path) -> None:
    changes = OVERFITTING | {"early_stopping": {"patience": 4, "monitor": "valid/log_loss"}}
    result, _, folder = run_tiny(tiny_recipe(tmp_path, **changes))
    assert result.stopped_early
    assert result.monitor == "valid/log_loss"
    assert result.epochs_run == result.best_epoch + 4 < 40
    assert len(column(folder, "epoch")) == result.epochs_run


def test_min_delta_stops_earlier(tmp_path: Path) -> None:
    stopping = {"patience": 2, "min_delta": 10.0}
    result, _, _ = run_tiny(tiny_recipe(tmp_path, epochs=20, early_stopping=stopping))
    assert result.epochs_run == 3


def test_an_unknown_monitor_is_refused_before_the_first_step(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, early_stopping={"monitor": "valid/acc"})
    train = Recorded()
    with pytest.raises(UsageError, match=r"monitor 'valid/acc'.*Available: train/loss, valid/acc"):
        run_tiny(recipe, train=train)
    assert train.rows == []


def test_the_training_loss_can_be_monitored(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, early_stopping={"monitor": "train/loss"})
    assert run_tiny(recipe)[0].monitor == "train/loss"


def test_checkpoints_can_be_turned_off_and_put_elsewhere(tmp_path: Path) -> None:
    _, _, folder = run_tiny(tiny_recipe(tmp_path / "a", checkpoint={"enabled": False}))
    assert not list(folder.path.rglob("*.safetensors"))

    elsewhere = tmp_path / "elsewhere"
    recipe = tiny_recipe(tmp_path / "b", checkpoint={"path": str(elsewhere)})
    _, _, folder = run_tiny(recipe)
    assert (elsewhere / folder.path.name / "step-000000015.safetensors").is_file()
    assert not list(folder.path.rglob("*.safetensors"))


class Told:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, View]] = []

    def on_step(self, view: View) -> None:
        self.calls.append(("step", view))

    def on_epoch_end(self, view: View) -> None:
        self.calls.append(("epoch", view))

    def on_end(self, view: View) -> None:
        self.calls.append(("end", view))


def test_callbacks_are_told_every_log_every_steps_after_epochs_and_at_the_end(
    tmp_path: Path,
) -> None:
    told = Told()
    run_tiny(tiny_recipe(tmp_path, epochs=2, log_every=2), callbacks=[told])
    assert [(event, view.step, view.epoch) for event, view in told.calls] == [
        ("step", 2, 1),
        ("step", 4, 1),
        ("epoch", 5, 1),
        ("step", 6, 2),
        ("step", 8, 2),
        ("step", 10, 2),
        ("epoch", 10, 2),
        ("end", 10, 2),
    ]
    for _, view in told.calls:
        assert view.total_steps == 10
        assert 0 < view.train_loss < 3
        assert view.samples_per_second > 0
    assert [len(view.history) for _, view in told.calls] == [0, 0, 1, 1, 1, 1, 2, 2]
    with pytest.raises(AttributeError):
        told.calls[0][1].step = 0  # type: ignore[misc]


def test_the_model_is_handed_over_ready_to_predict(tmp_path: Path) -> None:
    assert not run_tiny(tiny_recipe(tmp_path))[1].training


def test_a_run_that_fails_does_not_end_well(tmp_path: Path) -> None:
    told, train = Told(), tiny_source(70)
    train.inputs[0] = float("inf")
    with pytest.raises(RunError):
        run_tiny(tiny_recipe(tmp_path), train=train, callbacks=[told])
    assert "end" not in [event for event, _ in told.calls]


def test_reading_losses_rarely_as_on_a_gpu_changes_no_number(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, log_every=4)
    always, model, _ = run_tiny(recipe)

    from maquette.training.seeding import seed_everything

    seed_everything(recipe.seed)
    rarely = _Training(
        task=TinyTask(recipe),
        preprocessor=None,
        model=TinyNet(),
        train=tiny_source(70),
        valid=tiny_source(40, seed=1),
        recipe=recipe,
        folder=RunFolder.create(recipe),
        device=CPU,
    )
    rarely.read_every = 4
    rarely.check_monitor()
    rarely.begin([], resume=False)
    rarely.run(StopRequest())

    assert torch.equal(weights_of(rarely.model), weights_of(model))
    for one, other in zip(always.history, rarely.state.history, strict=True):
        assert one["train/loss"] == other["train/loss"]


def test_a_resume_without_any_checkpoint_starts_from_the_beginning(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    _, straight, _ = run_tiny(recipe)
    _, resumed, folder = run_tiny(recipe, resume=True)
    assert torch.equal(weights_of(straight), weights_of(resumed))
    assert column(folder, "epoch") == [1, 2, 3]


def test_a_run_that_had_ended_is_not_trained_again(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, epochs=4)
    first, model, folder = run_tiny(recipe)
    train = Recorded()
    second, again, _ = run_tiny(recipe, folder=folder, resume=True, train=train)
    assert train.rows == []
    assert torch.equal(weights_of(model), weights_of(again))
    assert second.history == first.history
    assert (second.best_epoch, second.best_value) == (first.best_epoch, first.best_value)
    events = [json.loads(line)["event"] for line in folder.log_file.read_text().splitlines()]
    assert events == ["epoch"] * 4 + ["training ended"]


def test_a_new_run_never_continues_from_files_left_in_its_folder(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, epochs=2)
    _, model, folder = run_tiny(recipe)
    _, again, _ = run_tiny(recipe, folder=folder)
    assert torch.equal(weights_of(model), weights_of(again))
    assert column(folder, "epoch") == [1, 2]


def test_a_checkpoint_of_another_recipe_is_refused_with_the_keys(tmp_path: Path) -> None:
    _, _, folder = run_tiny(tiny_recipe(tmp_path))
    other = tiny_recipe(tmp_path, learning_rate=0.5, schedule="linear", debug=True)
    with pytest.raises(RunError) as caught:
        run_tiny(other, folder=folder, resume=True)
    assert str(caught.value) == (
        "The checkpoint belongs to another recipe:\n"
        "  training.learning_rate: 0.01 in the checkpoint, 0.5 now\n"
        "  training.schedule: 'cosine' in the checkpoint, 'linear' now\n"
        "Set these keys back to resume, or start a new run with `maquette train RECIPE`."
    )


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    _, _, folder = run_tiny(recipe)
    with pytest.raises(RunError, match="made with 70 training samples and the data has 60 now"):
        run_tiny(recipe, folder=folder, resume=True, train=tiny_source(60))


def test_empty_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="0 training and 40 validation samples; both need"):
        run_tiny(tiny_recipe(tmp_path), train=Empty())


class Empty(TinySource):
    """No samples; a plain empty source would be replaced by the helper's default."""

    def __init__(self) -> None:
        source = tiny_source(0)
        super().__init__(source.inputs, source.targets)

    def __bool__(self) -> bool:
        return True
