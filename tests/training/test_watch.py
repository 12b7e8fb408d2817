"""A run that goes wrong says where: step, samples, parameter or module, cause and fix."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import FEATURES, TinyNet, TinySource, TinyTask, run_tiny, tiny_recipe, tiny_source
from torch import Tensor, nn

from maquette.device import Device
from maquette.errors import RunError
from maquette.tasks.base import Batch
from maquette.training.watch import LossSum, MicroBatch, Watch, check_batch, first_bad


def failure(tmp_path: Path, **options: Any) -> str:
    training = options.pop("training", {})
    recipe = tiny_recipe(tmp_path, **({"batch_size": 8, "clip_norm": None} | training))
    with pytest.raises(RunError) as caught:
        run_tiny(recipe, **options)
    return str(caught.value)


def test_bad_inputs_are_named_and_the_advice_is_about_data(tmp_path: Path) -> None:
    train = tiny_source(70)
    train.inputs[41, 3] = float("nan")
    message = failure(tmp_path, train=train)
    assert message.startswith("Training stopped in epoch 1, step ")
    assert (
        ": the loss is nan.\nSamples: row 43.\nTheir inputs or targets are not finite." in message
    )
    assert message.endswith("Correct or remove these samples.")


def test_bad_targets_are_named_too(tmp_path: Path) -> None:
    train = tiny_source(70, regression=True)
    train.targets[[3, 7]] = float("inf")
    message = failure(tmp_path, train=train, regression=True, training={"batch_size": 64})
    assert "row 5" in message
    assert "row 9" in message
    assert "row 6" not in message


class Log(nn.Module):
    """log(x): infinite at 0, NaN below."""

    def forward(self, x: Tensor) -> Tensor:
        return x.log()


def test_the_first_bad_module_is_named_with_its_type(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Linear(FEATURES, 4), nn.Sequential(nn.Identity(), Log()), nn.Linear(4, 3)
    )
    message = failure(tmp_path, model=model)
    assert "epoch 1, step 1: the loss is nan" in message
    assert "The first module whose output is not finite is 1.1 (Log)." in message
    assert message.count("row ") == 8


def test_many_samples_are_not_all_listed(tmp_path: Path) -> None:
    message = failure(
        tmp_path, model=nn.Sequential(Log(), nn.Linear(6, 3)), training={"batch_size": 64}
    )
    assert ", … (64 in all)." in message
    assert message.count("row ") == 8


class RootAtZero(nn.Module):
    """sqrt(0 · w): 0 itself, with an infinite gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs[:, :3] * 0 * self.scale).sqrt() + self.shift


def test_a_bad_gradient_is_found_before_the_update_when_norms_are_taken(tmp_path: Path) -> None:
    for training in ({"clip_norm": 1.0}, {"debug": True}):
        message = failure(tmp_path, model=RootAtZero(), training=training)
        assert "epoch 1, step 1: the gradient norm is not finite." in message
        assert "The first such gradient is that of scale." in message


def test_a_bad_gradient_is_found_after_the_update_otherwise(tmp_path: Path) -> None:
    message = failure(tmp_path, model=RootAtZero())
    assert "epoch 1, step 1: the gradient or the update was not finite." in message
    assert "The first weights that are not finite are scale." in message


def test_a_bad_last_update_is_found_before_validation(tmp_path: Path) -> None:
    message = failure(tmp_path, model=RootAtZero(), training={"batch_size": 70})
    assert "epoch 1, step 1: the gradient or the update was not finite." in message


def test_weights_that_are_not_finite_from_the_start_are_said_to_be(tmp_path: Path) -> None:
    model = TinyNet()
    with torch.no_grad():
        model.output.weight[0, 0] = float("nan")
    message = failure(tmp_path, model=model)
    assert message.startswith("The weights are not finite before the first step: output.weight. ")


def test_divergence_advises_a_lower_rate_and_clipping(tmp_path: Path) -> None:
    message = failure(
        tmp_path,
        regression=True,
        model=TinyNet(regression=True, norm=False),
        training={"optimizer": "sgd", "learning_rate": 1e6, "epochs": 50},
    )
    assert "Likely cause: steps too large for this loss (learning_rate is 1e+06)." in message
    assert "Try training.learning_rate=100000 or training.clip_norm=1." in message


def test_advice_leaves_out_what_is_already_done(tmp_path: Path) -> None:
    message = failure(
        tmp_path, model=nn.Sequential(Log(), nn.Linear(6, 3)), training={"clip_norm": 1}
    )
    assert "Try training.learning_rate=0.001." in message


def test_a_bad_validation_loss_stops_the_run(tmp_path: Path) -> None:
    valid = tiny_source(40, regression=True)
    valid.targets[0] = 1e30  # finite, but its square is not
    message = failure(
        tmp_path, valid=valid, regression=True, training={"early_stopping": {"enabled": False}}
    )
    assert "Training stopped after epoch 1: the validation loss is inf." in message


def test_no_checkpoint_holds_weights_that_are_not_finite(tmp_path: Path) -> None:
    failure(tmp_path, model=RootAtZero(), training={"checkpoint": {"every_steps": 1}})
    assert not list(tmp_path.rglob("*.safetensors"))


def make_watch(device: Device, **training: Any) -> Watch:
    recipe = tiny_recipe(**training)
    return Watch(
        task=TinyTask(recipe), model=TinyNet(), source=tiny_source(70), device=device, recipe=recipe
    )


def test_on_a_gpu_the_message_says_how_to_learn_more() -> None:
    watch = make_watch(Device(name="cuda", precision="fp16"), log_every=20)
    message = str(watch.bad_validation(epoch=2, loss=float("nan")))
    assert "training.precision=fp32" in message
    assert "Losses were read every 20 steps" in message
    assert "debug=true looks at every step and names the module." in message


def test_weights_long_gone_are_said_to_be() -> None:
    watch = make_watch(Device(name="cpu", precision="fp32"))
    with torch.no_grad():
        watch.model.output.bias.fill_(float("nan"))  # type: ignore[union-attr,operator]
    micro = MicroBatch(7, torch.tensor(float("nan")), 2.0, torch.tensor([0, 1]))
    message = str(watch.bad_loss(micro, epoch=1))
    assert "step 7: the loss is nan.\nSamples: row 2, row 3.\nThe weights are not finite" in message


def test_losses_wait_until_they_are_settled_and_the_first_bad_one_is_returned() -> None:
    losses = LossSum()
    for step, loss in enumerate([1.0, 2.0, float("nan"), float("inf")], start=1):
        losses.waiting.append(
            MicroBatch(step, torch.tensor(loss), torch.tensor(2.0), torch.arange(2))
        )
    assert losses.total == 0
    bad = losses.settle()
    assert bad is not None
    assert bad.step == 3
    assert losses.count == 8
    assert losses.settle() is None


def test_first_bad_goes_in_the_order_of_the_backward_pass() -> None:
    nan = torch.tensor(float("nan"))
    assert first_bad({"first": nan, "middle": nan, "last": torch.ones(2)}) == "middle"


def test_debug_checks_the_shapes_of_batches(tmp_path: Path) -> None:
    class Ragged(TinySource):
        def batches(self, order: Tensor, batch_size: int, *, epoch: int) -> Any:
            for batch in super().batches(order, batch_size, epoch=epoch):
                yield Batch(batch.inputs, batch.targets[:-1], batch.rows)

    train = tiny_source(70)
    ragged = Ragged(train.inputs, train.targets)
    message = failure(tmp_path, train=ragged, training={"debug": True})
    assert message == "debug: a batch of 8 rows has targets of shape (7,); expected 8 first."


def test_a_scalar_weight_is_not_a_batch_of_weights() -> None:
    batch = Batch((torch.ones(2, 3),), torch.ones(2), torch.arange(2), torch.tensor(1.0))
    with pytest.raises(RunError, match=r"has weights of shape \(\); expected 2 first"):
        check_batch(batch)
