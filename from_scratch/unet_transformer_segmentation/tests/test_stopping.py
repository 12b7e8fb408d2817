"""Trainings that are stopped by a signal or killed, as processes: nothing is lost or half written.

Each is compared with a training that was never stopped, bit by bit.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small import small_config, write_config

from unet_seg import train as training
from unet_seg.checkpoints import load, load_last
from unet_seg.reproduce import TIMES, hash_weights
from unet_seg.runs import read_config, read_rows

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")

LONG = {"steps": 120, "valid_every": 40, "checkpoint_every": 7, "log_every": 3}


def start(*arguments: object) -> subprocess.Popen[str]:
    """A training in a process group of its own, with as many threads as there are here."""
    return subprocess.Popen(
        [sys.executable, "-m", "unet_seg", "train", "--quiet", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_rows(process: subprocess.Popen[str], out: Path, rows: int) -> Path:
    """Wait until the training has written this many rows of metrics.csv; returns its folder."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        for path in out.glob("*/metrics.csv"):
            if path.read_text().count("\n") > rows:
                return path.parent
        time.sleep(0.002)
    raise AssertionError(f"no row came: {process.communicate()[1]}")


def assert_same_training(run: Path, whole: Path) -> None:
    def rows(folder: Path) -> list[dict[str, str]]:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in read_rows(folder)]

    assert rows(run) == rows(whole)
    ours, theirs = load_last(run), load_last(whole)
    assert ours["step"] == theirs["step"] == LONG["steps"]
    for name in ("model", "ema"):
        assert hash_weights(ours[name]) == hash_weights(theirs[name])
    assert torch.equal(ours["random"]["cpu"], theirs["random"]["cpu"])
    best = "checkpoints/best.pt"
    assert hash_weights(load(run / best)["model"]) == hash_weights(load(whole / best)["model"])


@pytest.fixture(scope="module")
def long_config():
    """A function: folder for runs, and more settings of training -> a configuration."""

    def make(out: Path, **more: object):
        return small_config(
            out,
            model={"dropout": 0.1},
            optim={"ema_decay": 0.9},
            data={
                "toy": {"image_size": [32, 32], "num_train": 16, "num_valid": 4, "num_test": 4},
                "augment": {"hflip": 0.5},
            },
            train={**LONG, **more},
        )

    return make


@pytest.fixture(scope="module")
def whole(long_config, tmp_path_factory) -> Path:
    """The training that nobody stops."""
    return training.train(long_config(tmp_path_factory.mktemp("whole")), progress=False)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_is_complete_and_goes_on(long_config, whole, tmp_path, number, code):
    config = long_config(tmp_path / "runs")
    process = start("--config", write_config(tmp_path / "long.yaml", config))
    run = wait_for_rows(process, tmp_path / "runs", 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out == ""
    step = load(run / "checkpoints" / "last.pt")["step"]
    assert 6 <= step < LONG["steps"]
    assert err.splitlines()[-1] == (
        f"stopped after step {step}; go on with: python -m unet_seg train --resume {run}"
    )
    assert "Traceback" not in err
    assert read_config(run) == config
    assert (run / "curves.png").is_file()
    assert json.loads((run / "environment.json").read_text())["command"][1] == "train"
    assert not [path for path in run.rglob("*") if ".tmp" in path.name]
    assert_same_training(training.resume(run, progress=False), whole)


def test_killed_twice_at_random_moments_and_resumed(long_config, whole, tmp_path):
    """SIGKILL cannot be caught: whatever is on the disk at that moment has to do."""
    config = write_config(tmp_path / "long.yaml", long_config(tmp_path / "runs"))
    process = start("--config", config)
    run = wait_for_rows(process, tmp_path / "runs", 1)
    for rows in (8, 0):
        time.sleep(random.random() / 5)
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGKILL, 0)
        assert 0 <= load_last(run)["step"] <= LONG["steps"]
        if rows:
            process = start("--resume", run)
            wait_for_rows(process, tmp_path / "runs", rows)
    assert_same_training(training.resume(run, progress=False), whole)


def test_ctrl_c_reaches_the_workers_too_and_does_no_harm(long_config, whole, tmp_path):
    """A terminal sends SIGINT to every process of the training, not to the first alone."""
    config = long_config(tmp_path / "runs", num_workers=1)
    process = start("--config", write_config(tmp_path / "long.yaml", config))
    run = wait_for_rows(process, tmp_path / "runs", 1)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    (run / "config.yaml").write_text(
        (run / "config.yaml").read_text().replace("num_workers: 1", "num_workers: 0")
    )
    assert_same_training(training.resume(run, progress=False), whole)
