"""The main path, from a recipe to a bundle, as a user of the Python interface sees it."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

import maquette
from maquette.errors import DataError, MaquetteError, UsageError
from maquette.recipe import read_recipe
from maquette.runs import RunFolder

ROOT = Path(__file__).resolve().parent.parent
IRIS = ROOT / "configs" / "iris.yaml"
QUICK = (
    f"data.tabular.path={ROOT / 'data/sample/iris.csv'}",
    f"data.tabular.schema={ROOT / 'data/schemas/iris.json'}",
    "training.epochs=5",
    "evaluation.bootstrap=20",
    "evaluation.baselines=false",
    "tracking.enabled=false",
)


def quick(tmp_path: Path, *more: str) -> maquette.Run:
    return maquette.train(IRIS, [*QUICK, f"runs_dir={tmp_path / 'runs'}", *more])


def test_a_run_leaves_everything(iris_run):
    names = {path.name for path in iris_run.folder.iterdir()} - {"tracking.json"}
    assert names == {
        "recipe.yaml",
        "splits.json",
        "log.jsonl",
        "metrics.csv",
        "summary.json",
        "checkpoints",
        "bundle",
        "report.html",
    }
    summary = json.loads((iris_run.folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["metrics"] == iris_run.metrics
    assert iris_run.metrics["test/accuracy"] > 0.85
    low, high = summary["intervals"]["test/accuracy"]
    assert low <= iris_run.metrics["test/accuracy"] <= high
    assert set(summary["baselines"]) == {"majority class", "boosted trees"}
    assert summary["samples"] == {"train": 105, "valid": 23, "test": 22}
    with (iris_run.folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, summary["epochs"] + 1))
    log = (iris_run.folder / "log.jsonl").read_text(encoding="utf-8")
    events = [json.loads(line) for line in log.splitlines()]
    assert events[0]["event"] == "run started"
    assert events[-1]["event"] == "run ended"


def test_the_saved_recipe_repeats_the_run(tmp_path):
    first = quick(tmp_path)
    again = maquette.train(first.folder / "recipe.yaml")
    assert again.metrics == first.metrics
    assert weights_of(again) == weights_of(first)


def test_another_seed_gives_another_model(tmp_path):
    assert weights_of(quick(tmp_path)) != weights_of(quick(tmp_path, "seed=1"))


def test_evaluate_on_splits_and_on_other_data(iris_run, tmp_path):
    test = maquette.evaluate(iris_run.bundle)
    assert test["accuracy"] == pytest.approx(iris_run.metrics["test/accuracy"])
    assert maquette.evaluate(iris_run.folder, split="train")["accuracy"] > 0.9
    whole = maquette.evaluate(iris_run.bundle, data=str(ROOT / "data/sample/iris.csv"))
    assert 0.85 < whole["accuracy"] <= 1
    with pytest.raises(UsageError, match="There is no split 'dev'"):
        maquette.evaluate(iris_run.bundle, split="dev")


def test_evaluate_refuses_a_class_the_model_does_not_know(iris_run, tmp_path):
    lines = (ROOT / "data/sample/iris.csv").read_text(encoding="utf-8").splitlines()
    other = tmp_path / "other.csv"
    other.write_text("\n".join([*lines[:5], "5,3,1,0.2,tulip"]), encoding="utf-8")
    with pytest.raises(DataError, match="tulip"):
        maquette.evaluate(iris_run.bundle, data=str(other))


def test_evaluate_images(colours_run):
    assert 0 <= maquette.evaluate(colours_run.bundle)["accuracy"] <= 1
    folder = str(ROOT / "data/sample/images")
    assert 0 <= maquette.evaluate(colours_run.bundle, data=folder)["accuracy"] <= 1


def test_a_mapping_is_a_recipe_too(tmp_path):
    run = maquette.train(
        {
            "name": "mapping",
            "runs_dir": str(tmp_path),
            "data": {
                "tabular": {
                    "path": str(ROOT / "data/sample/iris.csv"),
                    "target_column": "petal_width",
                    "ignore_columns": ["species"],
                }
            },
            "model": {"type": "tabular", "name": "mlp"},
            "training": {"epochs": 5},
            "evaluation": {"baselines": False, "bootstrap": 10},
            "tracking": {"enabled": False},
        }
    )
    assert "test/rmse" in run.metrics
    assert isinstance(maquette.load(run.bundle).predict([[5.1, 3.5, 1.4]]).values[0], float)
    with pytest.raises(UsageError, match="Overrides change a recipe file"):
        maquette.train(read_recipe(run.folder / "recipe.yaml"), ["seed=1"])


def test_a_network_may_start_from_a_weight_file_and_its_bundle_does_not_need_it(
    colours_run, tmp_path
):
    weights = tmp_path / "start.safetensors"
    weights.write_bytes((colours_run.bundle / "weights.safetensors").read_bytes())
    run = maquette.train(
        colours_run.folder / "recipe.yaml",
        [
            f"runs_dir={tmp_path}",
            f"model.architecture.weights={weights}",
            "training.epochs=1",
            "training.learning_rate=1e-9",
        ],
    )
    assert '"initial weights", "report": "loaded ' in (run.folder / "log.jsonl").read_text()
    weights.unlink()
    assert maquette.load(run.bundle).predict([maquette.load(run.bundle).example()])

    with pytest.raises(UsageError, match=r"start\.safetensors"):
        maquette.train(run.folder / "recipe.yaml")


def test_bad_data_leaves_no_run_folder(tmp_path):
    with pytest.raises(DataError):
        quick(tmp_path, "data.tabular.path=/nowhere.csv")
    assert not (tmp_path / "runs").exists()


def test_an_absent_device_leaves_no_run_folder(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(UsageError, match=r"device is 'cuda', but this machine has .*device=auto"):
        quick(tmp_path, "device=cuda")
    with pytest.raises(UsageError, match=r"'fp16', which CPUs do not train in"):
        quick(tmp_path, "device=cpu", "training.precision=fp16")
    assert not (tmp_path / "runs").exists()


def test_a_nan_loss_stops_the_run_and_names_the_step(tmp_path):
    with pytest.raises(MaquetteError, match=r"(?s)step.*row \d+.*learning_rate"):
        quick(tmp_path, "training.learning_rate=1e30", "training.optimizer=sgd")
    (folder,) = (tmp_path / "runs").iterdir()
    assert not (folder / "bundle").exists()
    assert not (folder / "summary.json").exists()


def test_an_ended_run_is_not_resumed(iris_run):
    with pytest.raises(UsageError, match="has already ended"):
        maquette.lifecycle.resume_run(iris_run.folder)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UsageError, match=r"is not a run folder: it has no recipe\.yaml"):
        maquette.lifecycle.resume_run(tmp_path)
    (tmp_path / "recipe.yaml").write_text("name: x", encoding="utf-8")
    with pytest.raises(UsageError, match=r"has no summary\.json, so its run has not ended"):
        RunFolder.open(tmp_path).summary()


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    """SIGKILL in mid-training, from the command line, then --resume: bit for bit the same."""
    data = tmp_path / "iris.csv"
    data.write_bytes((ROOT / "data/sample/iris.csv").read_bytes())
    options = [
        *QUICK,
        f"data.tabular.path={data}",
        "training.epochs=3000",
        "training.early_stopping.enabled=false",
        "training.checkpoint.every_steps=500",
    ]
    whole = maquette.train(IRIS, [*options, f"runs_dir={tmp_path / 'whole'}"])

    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "maquette"]
    process = subprocess.Popen(
        [*command, "train", str(IRIS), *options, f"runs_dir={killed}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoint = wait_for_checkpoint(killed)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint, "the run ended before it could be killed"
    (folder,) = killed.iterdir()
    assert not (folder / "summary.json").exists()

    resumed = subprocess.run(
        [*command, "train", "--resume", str(folder)], capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.strip().splitlines()[-1] == str(folder)
    assert weights_of(folder) == weights_of(whole)


def test_resume_refuses_other_data(tmp_path):
    data = tmp_path / "iris.csv"
    lines = (ROOT / "data/sample/iris.csv").read_text(encoding="utf-8").splitlines()
    data.write_text("\n".join(lines), encoding="utf-8")
    run = quick(tmp_path, f"data.tabular.path={data}")
    (run.folder / "summary.json").unlink()
    data.write_text("\n".join(lines[:-7]), encoding="utf-8")
    with pytest.raises(DataError, match="is not the one this run began with"):
        maquette.lifecycle.resume_run(run.folder)


def test_tracking_down_does_not_cost_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    run = quick(tmp_path, "tracking.enabled=true")
    assert run.summary["metrics"]
    assert "not tracked" in run.tracked
    assert f"maquette register {run.folder}" in run.tracked


def test_checkpoints_go_where_the_recipe_says(tmp_path):
    run = quick(tmp_path, f"training.checkpoint.path={tmp_path / 'elsewhere'}")
    assert not (run.folder / "checkpoints").exists()
    assert list((tmp_path / "elsewhere" / run.folder.name).iterdir())


def test_a_runs_dir_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(MaquetteError, match="Could not make the run folder"):
        maquette.train(IRIS, [*QUICK, f"runs_dir={tmp_path / 'file'}"])


def weights_of(run: maquette.Run | Path) -> dict[str, bytes]:
    folder = run if isinstance(run, Path) else run.folder
    weights = load_file(folder / "bundle" / "weights.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in weights.items()}


def wait_for_checkpoint(runs: Path) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        saved = [p for p in runs.glob("*/checkpoints/*") if not p.name.startswith(".")]
        if saved:
            return not list(runs.glob("*/summary.json"))
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint below {runs}")
