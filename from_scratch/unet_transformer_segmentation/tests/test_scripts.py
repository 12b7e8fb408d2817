"""The shell scripts, each run to its end on a few tiny images."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from small import small_config

from unet_seg.checkpoints import load_last
from unet_seg.runs import read_config
from unet_seg.train import train

FOLDER = Path(__file__).parents[1] / "scripts"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
TINY = (
    *("train.steps=2", "train.batch_size=2", "train.valid_every=2", "optim.warmup_steps=0"),
    *("data.toy.image_size=[16, 16]", "data.toy.num_train=4", "data.toy.num_valid=2"),
    *("data.toy.num_test=2", "model.widths=[4, 8]", "train.device=cpu"),
)
TINY_HYBRID = (*TINY, "model.dim=8", "model.heads=2", "model.depth=1")

pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="there is no sh here")


def run(
    name: str, *arguments: object, cwd: Path | None = None, **environment: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(FOLDER / f"{name}.sh"), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={
            **os.environ,
            "PYTHON": sys.executable,
            **{key: str(value) for key, value in environment.items()},
        },
    )


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    config = small_config(tmp_path_factory.mktemp("runs"), train={"steps": 1, "valid_every": 1})
    return train(config, progress=False)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_stops_at_errors_and_says_how_it_is_called(path):
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/bin/sh"
    assert lines[1].startswith("# ")
    assert any(f"scripts/{path.name} " in line for line in lines if line.startswith("#"))
    assert "set -eu" in lines
    assert '"$@"' in path.read_text() or " $*" in path.read_text()
    assert os.access(path, os.X_OK)
    checked = subprocess.run(["sh", "-n", str(path)], check=False, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", ["baseline", "hybrid"])
def test_train(tmp_path, name):
    # From another folder: a script finds the package's configurations by its own place.
    done = run(f"train_{name}", "--quiet", *TINY_HYBRID, f"out={tmp_path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    assert load_last(folder)["step"] == 2
    config = read_config(folder)
    assert (config.name, config.model.widths) == (name, (4, 8))
    assert config.model.name == {"baseline": "unet", "hybrid": "unet_transformer"}[name]


def test_evaluate(run_folder, tmp_path):
    done = run("evaluate", run_folder, "--split", "valid", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "hd95" in done.stdout
    assert (tmp_path / "per_class_valid.csv").is_file()


def test_infer(run_folder, tmp_path):
    Image.new("RGB", (20, 30)).save(tmp_path / "a.png")
    done = run("infer", run_folder, tmp_path / "a.png", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out' / 'a_mask.png'}\n"


@pytest.mark.parametrize(("name", "arguments"), [("evaluate", []), ("infer", []), ("infer", ["x"])])
def test_what_is_missing_is_told(name, arguments):
    done = run(name, *arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert f"usage: scripts/{name}.sh RUN " in done.stderr


def test_compare_trains_scores_and_summarizes(tmp_path):
    done = run("compare", *TINY_HYBRID, SEEDS=3, OUT=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    runs = [Path(line) for line in lines[:2]]
    assert [(c.name, c.seed) for c in map(read_config, runs)] == [
        *(("baseline", 3), ("hybrid", 3)),
    ]
    assert all((folder / "evaluation_test.txt").is_file() for folder in runs)
    assert "test/mean_iou" in lines[2]
    assert "| minus baseline | seeds | valid/mean_iou | test/mean_iou |" in lines
    assert lines[-1].startswith("| hybrid | 3 | ")
    assert (tmp_path / "summary" / "comparison.png").is_file()


def test_compare_stops_at_the_first_failure(tmp_path):
    done = run("compare", *TINY_HYBRID, "train.stepz=3", OUT=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Did you mean train.steps?" in done.stderr


def test_ablations_trains_the_chosen_variants(tmp_path):
    overrides = [text.replace(" ", "") for text in TINY if "widths" not in text]
    done = run("ablations", *overrides, SEEDS=4, JOBS=1, OUT=tmp_path, ONLY="^sgd")
    assert done.returncode == 0, done.stderr
    (folder,) = (path.parent for path in tmp_path.glob("*/config.yaml"))
    config = read_config(folder)
    assert (config.name, config.seed, config.optim.name) == ("sgd", 4, "sgd")
    assert "| sgd | 1 |" in done.stdout
