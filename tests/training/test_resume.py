"""Runs that are really killed, at any moment, end as if they had never stopped, bit for bit."""

import csv
import json
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_task import Slow, run_as_program, run_tiny, tiny_recipe

from maquette.device import Device
from maquette.recipe import Recipe
from maquette.runs import RunFolder
from maquette.training.callbacks import View
from maquette.training.signals import Interrupted

# One server imports torch; every run is forked from it in milliseconds.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["maquette.training.loop", "maquette.evaluation.accumulators"])

TIMING = {"seconds", "samples_per_second"}

EVERYTHING: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 8,
    "log_every": 1,
    "accumulate": 2,
    "ema_decay": 0.9,
    "clip_norm": 1.0,
    "warmup_epochs": 0.5,
    "early_stopping": {"monitor": "valid/accuracy"},
    "checkpoint": {"every_steps": 1},
}


def start(folder: RunFolder, **options: Any) -> BaseProcess:
    process = PROCESSES.Process(target=run_as_program, args=(str(folder.path),), kwargs=options)
    process.start()
    return process


def finish(process: BaseProcess) -> int | None:
    process.join(timeout=120)
    return process.exitcode


def said(folder: RunFolder) -> str:
    return (folder.path / "stderr.txt").read_text()


def wait_for_steps(folder: RunFolder, process: BaseProcess) -> None:
    """Wait until the run has written its first checkpoint."""
    deadline = time.monotonic() + 60
    while process.is_alive() and not list(folder.path.glob("checkpoints/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_for_an_epoch(folder: RunFolder) -> None:
    """Wait until the first epoch has ended, and the second has begun."""
    deadline = time.monotonic() + 60
    while not folder.metrics_file.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def never_stopped(recipe: Recipe) -> tuple[dict[str, torch.Tensor], RunFolder]:
    _, model, folder = run_tiny(recipe, callbacks=(Slow(),))
    return model.state_dict(), folder


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with folder.metrics_file.open() as file:
        return [
            {key: value for key, value in row.items() if key not in TIMING}
            for row in csv.DictReader(file)
        ]


def logged_epochs(folder: RunFolder) -> list[int]:
    entries = [json.loads(line) for line in folder.log_file.read_text().splitlines()]
    return [entry["epoch"] for entry in entries if entry["event"] == "epoch"]


def assert_same_end(folder: RunFolder, recipe: Recipe) -> None:
    expected, straight = never_stopped(recipe)
    final = torch.load(folder.path / "final.pt", weights_only=True)
    for name, tensor in expected.items():
        assert torch.equal(final[name], tensor), name
    assert rows(folder) == rows(straight)
    assert logged_epochs(folder) == logged_epochs(straight)


@pytest.mark.parametrize("case", range(3))
def test_killed_again_and_again_it_ends_the_same(tmp_path: Path, case: int) -> None:
    optimizer = ("adamw", "sgd", "rmsprop")[case]
    every = {"every_steps": (1, 3, 7)[case]}
    recipe = tiny_recipe(tmp_path, **(EVERYTHING | {"optimizer": optimizer, "checkpoint": every}))
    folder = RunFolder.create(recipe)
    chance = random.Random(case)
    for attempt in range(5):
        process = start(folder, resume=attempt > 0)
        if attempt % 2 == 0:
            wait_for_steps(folder, process)
        time.sleep(chance.uniform(0, 0.08))
        process.kill()
        finish(process)
        assert not (folder.path / "final.pt").exists()

    assert finish(start(folder, resume=True)) == 0, said(folder)

    assert_same_end(folder, recipe)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    recipe = tiny_recipe(tmp_path, **(EVERYTHING | {"checkpoint": {"every_steps": 1000}}))
    folder = RunFolder.create(recipe)
    process = start(folder)
    wait_for_an_epoch(folder)
    assert process.pid is not None
    os.kill(process.pid, number)

    assert finish(process) == code
    (saved,) = folder.path.glob("checkpoints/step-*")
    step = int(saved.stem.removeprefix("step-"))
    assert said(folder).endswith(
        f"{number.name}: stopped after step {step}; the state is saved. "
        f"`maquette train --resume {folder.path}` goes on.\n"
    )
    assert '"event": "interrupted"' in folder.log_file.read_text()

    assert finish(start(folder, resume=True)) == 0, said(folder)
    assert_same_end(folder, recipe)


def test_a_damaged_newest_checkpoint_costs_a_step_and_not_the_result(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, **EVERYTHING)
    folder = RunFolder.create(recipe)
    process = start(folder)
    wait_for_steps(folder, process)
    time.sleep(0.1)
    process.kill()
    finish(process)
    newest = sorted(folder.path.glob("checkpoints/step-*"))[-1]
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)

    assert finish(start(folder, resume=True)) == 0, said(folder)

    assert f"The checkpoint {newest} was passed over: its content does not" in said(folder)
    assert_same_end(folder, recipe)


def test_a_full_disk_stops_the_run_and_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, **EVERYTHING)
    folder = RunFolder.create(recipe)
    process = start(folder)
    wait_for_steps(folder, process)
    process.kill()
    finish(process)
    before = {p.name: p.read_bytes() for p in folder.path.glob("checkpoints/*.safetensors")}

    assert finish(start(folder, resume=True, largest_file=12_000)) == 1

    assert said(folder).splitlines()[-1].startswith("Could not write ")
    assert "Nothing was left half-written; free some space" in said(folder)
    kept = {p.name: p.read_bytes() for p in folder.path.glob("checkpoints/*")}
    assert kept == {name: before[name] for name in kept}
    assert any(name.startswith("step-") for name in kept)

    assert finish(start(folder, resume=True)) == 0, said(folder)
    assert_same_end(folder, recipe)


class StopAt:
    """Sends the process a signal at a step, as a scheduler would."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.step, self.number = step, number

    def on_step(self, view: View) -> None:
        if view.step == self.step:
            os.kill(os.getpid(), self.number)

    def on_epoch_end(self, view: View) -> None: ...

    def on_end(self, view: View) -> None: ...


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_stopped_at_each_step_in_turn_it_ends_the_same(
    tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    device = Device(name="cpu", precision=precision)  # type: ignore[arg-type]
    recipe = tiny_recipe(tmp_path, **(EVERYTHING | {"epochs": 2}))
    result, expected, straight = run_tiny(recipe, device=device)
    total = int(result.history[-1]["step"])
    folder = RunFolder.create(recipe)

    for step in range(1, total + 1):
        stop = StopAt(step, signal.SIGTERM if step % 2 else signal.SIGINT)
        with pytest.raises(Interrupted) as leaving:
            run_tiny(recipe, folder=folder, device=device, resume=step > 1, callbacks=[stop])
        assert leaving.value.code == (143 if step % 2 else 130)
        assert f"stopped after step {step}; the state is saved." in capsys.readouterr().err
    _, model, _ = run_tiny(recipe, folder=folder, device=device, resume=True)

    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert rows(folder) == rows(straight)
    assert logged_epochs(folder) == [1, 2]


def test_a_signal_with_checkpoints_off_saves_nothing_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, log_every=1, checkpoint={"enabled": False})
    with pytest.raises(Interrupted):
        run_tiny(recipe, callbacks=[StopAt(2, signal.SIGTERM)])
    assert capsys.readouterr().err == (
        "SIGTERM: stopped after step 2; "
        "nothing is saved, because training.checkpoint.enabled is false.\n"
    )
