"""Every command from the outside: answers, exit codes, messages without tracebacks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from small import small_config

from paraformer_asr import cli
from paraformer_asr.config import config_to_dict

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def torch_as_before():
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a configuration, a run of it and exported toy features."""
    folder = tmp_path_factory.mktemp("cli")
    config = small_config(out=str(folder / "runs"))
    (folder / "small.yaml").write_text(yaml.safe_dump(config_to_dict(config)), encoding="utf-8")
    assert cli.main(["train", "--config", str(folder / "small.yaml"), "--quiet"]) == 0
    torch.use_deterministic_algorithms(False)
    arguments = ["export-toy", "--config", str(folder / "small.yaml"), "--count", "3"]
    assert cli.main([*arguments, "--out", str(folder / "toy")]) == 0
    return folder


@pytest.fixture
def run(here):
    return next(path for path in sorted((here / "runs").iterdir()))


def python(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "paraformer_asr", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        **options,
    )


def test_help_answers_without_heavy_imports():
    code = (
        "import sys\nfrom paraformer_asr.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'yaml', 'tqdm'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "convert" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        *("train", "evaluate", "infer", "check", "preview", "export-toy", "convert"),
        *("summarize", "profile", "reproduce", "serve"),
    ],
)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    assert "usage: python -m paraformer_asr" in capsys.readouterr().out


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("paraformer_asr 0.")


def test_training_prints_the_run_folder(here, capsys):
    arguments = ["--config", str(here / "small.yaml"), "train.steps=2", "--quiet", "seed=3"]
    assert cli.main(["train", *arguments, f"out={here}/other"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    saved = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert (saved["seed"], saved["train"]["steps"]) == (3, 2)


def test_evaluation_prints_tables_and_writes_them_into_the_run(run, capsys):
    assert cli.main(["evaluate", "--run", str(run), "--split", "valid"]) == 0
    assert "valid: 6 utterances" in capsys.readouterr().out
    assert (run / "evaluation_valid.json").is_file()
    assert (run / "utterances_valid.csv").is_file()


def test_inference_prints_texts_and_goes_on_after_a_bad_file(here, run, tmp_path, capsys):
    features = sorted((here / "toy").glob("*.npy"))
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    inputs = [str(features[0]), str(tmp_path / "bad.wav"), str(features[1])]
    out = tmp_path / "out"
    arguments = ["infer", "--run", str(run), *inputs, "--out", str(out), "--timestamps"]
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert sum("\t" in line for line in captured.out.splitlines()) == 2
    assert captured.err.startswith("error: ")
    assert "bad.wav" in captured.err
    assert len(list(out.rglob("*.json"))) == 2


def test_streaming_needs_a_model_made_for_it(here, run, capsys):
    features = str(next((here / "toy").glob("*.npy")))
    assert cli.main(["infer", "--run", str(run), "--stream", features]) == 1
    assert "this model sees whole utterances" in capsys.readouterr().err


def test_stdin_needs_stream(run, capsys):
    assert cli.main(["infer", "--run", str(run), "-"]) == 1
    assert "- reads sound from stdin as it comes; add --stream" in capsys.readouterr().err


def test_a_check_tells_sizes_and_vocabulary(here, capsys):
    assert cli.main(["check", "--config", str(here / "small.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("train: 24 utterances, ")
    assert lines[-1] == "vocabulary: 4 characters: abcd"


def test_a_preview_is_drawn(here, tmp_path, capsys):
    out = tmp_path / "p.png"
    arguments = ["preview", "--config", str(here / "small.yaml"), "--count", "2", "--out", str(out)]
    assert cli.main(arguments) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.strip() == str(out)


def test_runs_are_summarized(here, tmp_path, capsys):
    arguments = ["summarize", str(here / "runs"), "--out", str(tmp_path / "s")]
    assert cli.main(arguments) == 0
    assert "small" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "s").iterdir()} >= {"summary.csv", "summary.md"}


def test_a_profile_is_printed(here, capsys):
    arguments = ["--seconds", "1", "--batch", "2", "--repeats", "1"]
    assert cli.main(["profile", "--config", str(here / "small.yaml"), *arguments]) == 0
    assert "encoder" in capsys.readouterr().out


def test_a_run_is_reproduced(here, capsys):
    assert cli.main(["reproduce", "--config", str(here / "small.yaml"), "train.steps=2"]) == 0
    assert capsys.readouterr().out.startswith("equal")


def test_converting_what_is_no_checkpoint_fails_by_name(tmp_path, capsys):
    (tmp_path / "model.pt").write_bytes(b"nothing")
    out = tmp_path / "out.pt"
    assert cli.main(["convert", str(tmp_path / "model.pt"), "--out", str(out)]) == 1
    assert "model.pt" in capsys.readouterr().err
    assert not out.exists()


def test_a_resumed_run_takes_no_settings(run, capsys):
    assert cli.main(["train", "--resume", str(run), "seed=1"]) == 1
    assert "a resumed run keeps its settings; leave seed=1 out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--config", "none.yaml"], "none.yaml: there is no such file"),
        (["evaluate", "--run", "nowhere"], "nowhere: there is no such checkpoint"),
        (["train", "--resume", "nowhere"], "nowhere is no run folder"),
    ],
)
def test_mistakes_are_told_without_a_traceback(arguments, message, capsys):
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["train"], ["evaluate", "--run", "x", "seed=1"], ["check", "--nothing"]],
)
def test_wrong_usage_exits_with_2(arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2


def test_a_misspelt_setting_is_named(here, capsys):
    assert cli.main(["train", "--config", str(here / "small.yaml"), "train.stepps=3"]) == 1
    assert "train.stepps is no setting. Did you mean steps?" in capsys.readouterr().err


def test_a_full_disk_is_an_error_and_other_faults_are_not_hidden(capsys, monkeypatch):
    def fail(error):
        def configuration(options):
            raise error

        monkeypatch.setattr(cli, "configuration", configuration)
        return cli.main(["check", "--config", "x"])

    assert fail(OSError(28, "No space left on device")) == 1
    assert "the space on the disk" in capsys.readouterr().err
    assert fail(PermissionError(13, "Permission denied", "x.yaml")) == 1
    assert "x.yaml" in capsys.readouterr().err
    assert fail(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")) == 1
    assert "memory ran out" in capsys.readouterr().err
    assert fail(KeyboardInterrupt()) == 130
    with pytest.raises(RuntimeError, match="a bug"):
        fail(RuntimeError("a bug"))
    with pytest.raises(OSError, match="bad"):
        fail(OSError("bad"))


def test_a_closed_pipe_is_no_error(here):
    done = subprocess.run(
        f"{sys.executable} -m paraformer_asr check --config {here}/small.yaml | true",
        shell=True,
        capture_output=True,
        text=True,
        timeout=200,
        executable="/bin/bash",
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_a_run_that_can_be_resumed(here, tmp_path, number, code):
    arguments = ["train", "--config", here / "small.yaml", f"out={tmp_path}", "train.steps=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "paraformer_asr", *map(str, arguments), "--quiet"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/checkpoints/last.pt")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == code
    assert "resume with: python -m paraformer_asr train --resume" in said
    assert "Traceback" not in said
    (folder,) = tmp_path.iterdir()
    assert not (folder / "metrics.json").exists()


def test_the_module_runs_as_a_program(here):
    done = python("check", "--config", here / "small.yaml", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "vocabulary" in done.stdout
    environment = json.loads(
        next((here / "runs").glob("*/environment.json")).read_text(encoding="utf-8")
    )
    assert environment["device"] == "cpu"
