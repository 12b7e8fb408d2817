"""Training as a whole: the loss falls, resumes are exact, parts equal the batch, bad runs stop."""

from __future__ import annotations

import csv
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unet_seg import checkpoints
from unet_seg import train as training
from unet_seg.checkpoints import load_last, load_model
from unet_seg.config import config_from_dict, config_to_dict, load_config
from unet_seg.data.batches import train_batches
from unet_seg.data.build import build_datasets
from unet_seg.errors import SegError
from unet_seg.reproduce import hash_weights, reproduce
from unet_seg.runs import read_rows
from unet_seg.trainer import forward_backward, make_trainer, update
from unet_seg.watch import NotFinite

PROJECT = Path(__file__).parents[1]
CONFIGS = sorted((PROJECT / "configs").glob("*.yaml"))
TIMES = {"seconds", "train/images_per_s"}


def rows_without_times(run):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_rows(run)]


def batches_of(config, **more):
    settings = {"start_step": 0, "steps": config.train.steps, "num_workers": 0} | more
    return train_batches(
        build_datasets(config)["train"],
        config.data,
        seed=config.seed,
        batch_size=config.train.batch_size,
        multiple=16,
        **settings,
    )


def test_a_run_leaves_everything_behind(make_config):
    config = make_config(optim={"ema_decay": 0.9})
    run = training.train(config, progress=False)
    names = {p.name for p in run.iterdir()}
    assert names == {
        *("config.yaml", "environment.json", "log.txt", "metrics.csv", "metrics.json"),
        *("curves.png", "checkpoints"),
    }
    assert {p.name for p in (run / "checkpoints").iterdir()} == {
        "last.pt",
        "previous.pt",
        "best.pt",
    }
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 <= metrics["valid/mean_iou"] <= 1
    assert metrics["step"] == 6
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [bool(row["valid/mean_iou"]) for row in rows] == [False, False, True, False, False, True]
    best = max(float(row["valid/mean_iou"]) for row in rows if row["valid/mean_iou"])
    assert metrics["valid/mean_iou"] == pytest.approx(best, abs=1e-6)
    log = (run / "log.txt").read_text()
    assert "parameters" in log
    assert "GMAC" in log
    assert load_model(run, "cpu").step == metrics["best_step"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_the_loss_falls_in_fifty_steps_of_every_shipped_configuration(path, tmp_path):
    """The network, loss and optimiser of each configuration, on toy images where data is absent."""
    values = config_to_dict(load_config(path))
    values["out"] = str(tmp_path)
    if values["data"]["kind"] == "folder":
        values["data"]["kind"] = "toy"
        values["data"]["resize"] = None
        values["model"]["num_classes"] = values["loss"]["class_weights"] = None
    small = {"image_size": [32, 32], "num_train": 32, "num_valid": 4, "num_test": 4}
    values["data"]["toy"] |= small
    values["data"]["augment"] |= {"crop": None, "rotate": 0.0, "elastic": 0.0}
    values["optim"] |= {"warmup_steps": min(values["optim"]["warmup_steps"], 5)}
    steps = {"steps": 50, "valid_every": 50, "log_every": 1, "batch_size": 4, "max_minutes": None}
    values["train"] |= steps | {"device": "cpu", "accumulate": 1}
    run = training.train(config_from_dict(values), progress=False)
    losses = [float(row["train/loss"]) for row in read_rows(run)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


@pytest.mark.parametrize("name", ["unet", "unet_transformer"])
def test_one_batch_is_overfitted(make_config, name):
    config = make_config(
        model={"name": name, "widths": [8, 16, 16]},
        optim={"lr": 1e-2, "weight_decay": 0.0},
    )
    trainer = make_trainer(config)
    batch = next(iter(batches_of(config)))
    losses = [update(trainer, batch)[0] for _ in range(150)]
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("model", ["unet", "unet_transformer"])
@pytest.mark.parametrize("killed_at", [1, 2, 5])
def test_killed_and_resumed_equals_never_stopped(make_config, monkeypatch, model, killed_at):
    """Bitwise, wherever the kill falls between checkpoints (here after every second step)."""
    config = make_config(
        model={"name": model, "dropout": 0.2},
        optim={"ema_decay": 0.9, "warmup_steps": 2},
        train={"log_every": 4},  # rows between checkpoints hold the mean of losses on both sides
        data={"augment": {"hflip": 0.5, "rotate": 20.0, "crop": [32, 32]}},
    )
    whole = training.train(config, progress=False)

    class Killed(BaseException):
        pass

    def update_until_killed(trainer, batch):
        if trainer.step == killed_at:
            raise Killed
        return update(trainer, batch)

    runs: list[Path] = []
    made = training.create_run
    monkeypatch.setattr(training, "create_run", lambda c: runs.append(made(c)) or runs[-1])
    monkeypatch.setattr(training, "update", update_until_killed)
    with pytest.raises(Killed):
        training.train(config, progress=False)
    monkeypatch.setattr(training, "update", update)
    torch.manual_seed(12345)  # whatever another process would have drawn
    resumed = training.resume(runs[0], progress=False)

    assert rows_without_times(resumed) == rows_without_times(whole)
    for name in ("model", "ema"):
        assert hash_weights(load_last(resumed)[name]) == hash_weights(load_last(whole)[name])
    assert torch.equal(load_last(resumed)["random"]["cpu"], load_last(whole)["random"]["cpu"])


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(make_config):
    run = training.train(make_config(), progress=False)
    before = rows_without_times(run)
    assert training.resume(run, progress=False) == run
    assert rows_without_times(run) == before


def test_a_stop_signal_saves_the_step_and_says_how_to_go_on(make_config, monkeypatch):
    config = make_config(train={"checkpoint_every": 100, "valid_every": 100})

    def update_and_signal(trainer, batch):
        if trainer.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(trainer, batch)

    monkeypatch.setattr(training, "update", update_and_signal)
    with pytest.raises(training.Interrupted) as stopped:
        training.train(config, progress=False)
    assert stopped.value.exit_code == 143
    assert "stopped after step 3; go on with: python -m unet_seg train --resume" in str(
        stopped.value
    )
    (run,) = Path(config.out).iterdir()
    assert load_last(run)["step"] == 3
    monkeypatch.setattr(training, "update", update)
    training.resume(run, progress=False)
    whole = training.train(config, progress=False)
    assert hash_weights(load_last(run)["model"]) == hash_weights(load_last(whole)["model"])


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_gradients_of_parts_equal_the_gradient_of_the_batch(make_config, parts):
    def gradients(accumulate):
        config = make_config(
            model={"norm": "instance"}, optim={"grad_clip": None}, train={"accumulate": accumulate}
        )
        trainer = make_trainer(config)
        trainer.model.double()
        batch = next(iter(batches_of(config)))
        batch = replace(batch, image=batch.image.double())
        batch.mask[0, :20] = 255  # images with different numbers of counted pixels
        batch.valid[1, :, 10:] = False
        loss, norm = forward_backward(trainer, batch)
        return loss, norm, [p.grad.clone() for p in trainer.model.parameters()]

    loss, norm, whole = gradients(1)
    part_loss, part_norm, summed = gradients(parts)
    assert part_loss == pytest.approx(loss, abs=1e-6)
    assert part_norm == pytest.approx(norm, rel=1e-6)
    for one, other in zip(summed, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_gradients_are_clipped_to_the_norm(make_config):
    config = make_config(optim={"grad_clip": 1e-3})
    trainer = make_trainer(config)
    _, norm = forward_backward(trainer, next(iter(batches_of(config))))
    clipped = torch.cat([p.grad.flatten() for p in trainer.model.parameters()]).norm()
    assert norm > 1e-3
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_and_keeps_float32_weights(make_config, precision):
    config = make_config(train={"precision": precision, "steps": 30, "valid_every": 30})
    run = training.train(config, progress=False)
    losses = [float(row["train/loss"]) for row in read_rows(run)]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert {t.dtype for t in load_last(run)["model"].values() if t.is_floating_point()} == {
        torch.float32
    }


def test_a_scale_that_collapses_stops_the_run(make_config):
    config = make_config(train={"precision": "fp16"})
    trainer = make_trainer(config)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=0.5)
    with pytest.raises(NotFinite, match="the fp16 loss scale fell below 1"):
        update(trainer, next(iter(batches_of(config))))


def test_a_loss_that_is_not_finite_stops_before_the_update(make_config):
    config = make_config()
    trainer = make_trainer(config)
    batch = next(iter(batches_of(config)))
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))
    before = hash_weights(trainer.model.state_dict())
    with pytest.raises(NotFinite, match=r"step 1: the loss is nan; the first output .* comes from"):
        update(trainer, batch)
    assert hash_weights(trainer.model.state_dict()) == before


def test_the_same_configuration_gives_the_same_bits_and_another_seed_does_not(make_config):
    result = reproduce(make_config(train={"steps": 3}))
    assert result.equal, result.text()
    assert "equal: every metric and every bit of the weights" in result.text()
    other = training.train(make_config(seed=1, train={"steps": 3}), progress=False)
    assert hash_weights(load_last(other)["model"]) != result.hashes[0]


def test_time_can_be_the_limit_and_the_schedule_still_ends(make_config):
    config = make_config(
        optim={"schedule": "poly"},
        train={"steps": 100_000, "max_minutes": 0.02, "valid_every": 10**6},
    )
    run = training.train(config, progress=False)
    rows = read_rows(run)
    assert int(rows[-1]["step"]) < 100_000
    assert rows[-1]["valid/mean_iou"]
    assert float(rows[-1]["lr"]) < 0.5 * config.optim.lr


def test_validation_does_not_disturb_training(make_config):
    often = training.train(make_config(train={"valid_every": 1}), progress=False)
    seldom = training.train(make_config(train={"valid_every": 6}), progress=False)
    assert hash_weights(load_last(often)["model"]) == hash_weights(load_last(seldom)["model"])


def test_a_checkpoint_of_another_architecture_is_refused(make_config):
    run = training.train(make_config(train={"steps": 2, "valid_every": 2}), progress=False)
    other = make_trainer(make_config(model={"widths": [4, 8, 12]}))
    with pytest.raises(SegError, match="holds the weights of another architecture"):
        other.restore(load_last(run), source="last.pt")


def test_a_checkpoint_that_holds_weights_alone_cannot_be_resumed(make_config):
    run = training.train(make_config(train={"steps": 2, "valid_every": 2}), progress=False)
    (run / "checkpoints" / "best.pt").replace(run / "checkpoints" / "last.pt")
    with pytest.raises(SegError) as error:
        training.resume(run, progress=False)
    assert str(error.value) == (
        f"{run / 'checkpoints' / 'last.pt'}: lacks seconds, best_step, best_scores, "
        "recent_losses, ema, ema_updates, optimizer, scaler, random, so training cannot go on "
        "from it: best.pt holds weights alone, and earlier versions saved less. Start the run "
        "again."
    )


def test_a_validation_without_a_counted_pixel_does_not_end_the_run(make_config, monkeypatch):
    config = make_config(train={"steps": 2, "valid_every": 1})
    datasets = build_datasets(config)
    unlabelled = [s._replace(mask=torch.full_like(s.mask, 255)) for s in datasets["valid"]]
    monkeypatch.setattr(training, "build_datasets", lambda _: {**datasets, "valid": unlabelled})
    run = training.train(config, progress=False)
    assert json.loads((run / "metrics.json").read_text())["valid/mean_iou"] is None
    assert (run / "checkpoints" / "best.pt").is_file()


def test_a_run_without_a_checkpoint_cannot_be_resumed(make_config):
    run = training.train(make_config(train={"steps": 1, "valid_every": 1}), progress=False)
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(SegError, match=r"has no checkpoints/last.pt to resume from"):
        training.resume(run)
    assert checkpoints.FORMAT == 1


def test_the_number_of_threads_is_the_configured_one(make_config):
    before = torch.get_num_threads()
    try:
        make_trainer(make_config(train={"threads": 2}))
        assert torch.get_num_threads() == 2
        make_trainer(make_config())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
