"""Every command from its arguments to its files, its output and its exit code.

Most run in this process; those that must work as a process of their own also run as one.
What bad data looks like here is in test_bad_input.py, what signals do in test_stopping.py.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from small import small_config, write_config

from unet_seg import __version__, cli
from unet_seg.checkpoints import load_last
from unet_seg.errors import Interrupted, SegError
from unet_seg.runs import read_config, read_rows
from unet_seg.train import train

COMMANDS = (
    *("train", "evaluate", "infer", "check", "preview", "export-toy", "summarize", "profile"),
    *("reproduce", "serve"),
)


@pytest.fixture
def config_file(make_config, tmp_path) -> Path:
    return write_config(tmp_path / "small.yaml", make_config())


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """What one training left behind, for all tests that use a trained network."""
    return train(small_config(tmp_path_factory.mktemp("runs")), progress=False)


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process."""
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def succeeds(capsys, *arguments: object) -> str:
    code, out, err = call(capsys, *arguments)
    assert code == 0, err
    return out


def process(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """The same command as a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "unet_seg", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, **options)


# Help and wrong usage


def test_help_is_there_for_every_command_and_imports_nothing_heavy():
    script = f"""
import sys
from unet_seg.cli import main
for arguments in [[], *([name] for name in {COMMANDS})]:
    try:
        main([*arguments, "--help"])
    except SystemExit as end:
        assert end.code == 0
print(sorted({{"torch", "numpy", "matplotlib", "yaml", "PIL", "tqdm"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert f"usage: python -m unet_seg {name}" in done.stdout


def test_help_as_a_process_names_every_command():
    done = process("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^ +{name}\s", done.stdout, re.MULTILINE)
    assert "python -m unet_seg train --config configs/tiny.yaml" in done.stdout


def test_the_examples_of_the_help_name_configurations_that_exist():
    folder = Path(__file__).parents[1]
    named = {word for word in cli.EXAMPLES.split() if word.endswith(".yaml")}
    assert named
    assert all((folder / name).is_file() for name in named)


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"unet_seg {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["trane"], "invalid choice: 'trane'"),
        (["train"], "one of the arguments --config --resume is required"),
        (["train", "--config", "a", "--resume", "b"], "not allowed with argument --config"),
        (["train", "--config", "a", "--fast"], "unrecognized arguments: --fast"),
        (["train", "--config", "a", "seed=1", "--quiet", "x"], "unrecognized arguments: x"),
        (["check"], "the following arguments are required: --config"),
        (["evaluate", "--split", "test"], "the following arguments are required: --run"),
        (["evaluate", "--run", "a", "--split", "all"], "invalid choice: 'all'"),
        (["evaluate", "--run", "a", "seed=1"], "unrecognized arguments: seed=1"),
        (["infer", "--run", "a"], "the following arguments are required: IMAGE"),
        (["infer", "--run", "a", "b.png", "--window", "x"], "invalid int value: 'x'"),
        (["export-toy", "--config", "a"], "the following arguments are required: --out"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_overrides_may_stand_before_between_and_after_options(capsys, config_file):
    out = succeeds(
        *(capsys, "train", "train.steps=2", "seed=1", "--config", config_file),
        *("train.valid_every=2", "--quiet", "seed=2"),
    )
    config = read_config(Path(out.strip()))
    assert (config.train.steps, config.train.valid_every, config.seed) == (2, 2, 2)


# Training


def test_train_prints_the_run_folder_and_nothing_else(capsys, config_file):
    code, out, err = call(capsys, "train", "--config", config_file)
    (run,) = [Path(line) for line in out.splitlines()]
    assert code == 0
    assert 0 <= json.loads((run / "metrics.json").read_text())["valid/mean_iou"] <= 1
    assert err.startswith(
        "unet: 4,694 parameters, 0.00 GMAC for 32x32; 16 train, 4 valid, 4 test images; classes "
    )
    assert "best valid/mean_iou" in err
    assert "images/s" in err  # the progress bar


def test_train_evaluate_and_infer_as_processes(config_file, tmp_path):
    trained = process("train", "--quiet", "--config", config_file)
    assert trained.returncode == 0, trained.stderr
    assert "images/s" not in trained.stderr
    run = Path(trained.stdout.splitlines()[-1])
    assert run.parent == tmp_path / "runs"

    evaluated = process("evaluate", "--run", run)
    assert evaluated.returncode == 0, evaluated.stderr
    assert evaluated.stdout.startswith("class ")
    scores = json.loads((run / "evaluation_test.json").read_text())
    assert f"mean_iou{scores['mean_iou']:>22.4f}" in evaluated.stdout

    image = tmp_path / "photo.png"
    Image.new("RGB", (50, 37), (200, 30, 60)).save(image)
    out = tmp_path / "out"
    segmented = process("infer", "--run", run, image, "--out", out)
    assert segmented.returncode == 0, segmented.stderr
    assert segmented.stdout == f"{out / 'photo_mask.png'}\n"
    with Image.open(out / "photo_mask.png") as mask:
        assert mask.size == (50, 37)
    assert {p.name for p in out.iterdir()} == {
        *("photo_mask.png", "photo_overlay.png", "photo.json")
    }


def test_resume_of_a_finished_run_prints_it_again(capsys, run_folder):
    before = load_last(run_folder)["step"]
    assert succeeds(capsys, "train", "--quiet", "--resume", run_folder) == f"{run_folder}\n"
    assert load_last(run_folder)["step"] == before == 6


def test_a_resumed_run_takes_no_overrides(capsys, run_folder):
    code, out, err = call(capsys, "train", "--resume", run_folder, "seed=1", "train.steps=9")
    assert (code, out) == (1, "")
    assert err == (
        "error: a resumed run keeps its configuration; leave out seed=1 train.steps=9 or start a "
        "new run.\n"
    )


def test_a_run_that_is_none_cannot_be_resumed(capsys, tmp_path):
    code, _, err = call(capsys, "train", "--resume", tmp_path)
    assert code == 1
    assert err == f"error: {tmp_path} is no run folder: it has no config.yaml.\n"


# Using a trained network


def test_evaluate_writes_where_it_is_told_and_measures_surfaces(capsys, run_folder, tmp_path):
    out = tmp_path / "scores"
    text = succeeds(
        *(capsys, "evaluate", "--run", run_folder, "--split", "valid", "--surface", "--tta"),
        *("--window", 16, "--overlap", 0.25, "--out", out, "--device", "cpu"),
    )
    assert "hd95" in text.splitlines()[0]
    result = json.loads((out / "evaluation_valid.json").read_text())
    assert result["settings"] == {"window": 16, "overlap": 0.25, "tta": True}
    with (out / "per_class_valid.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == result["classes"]


def test_evaluate_of_a_checkpoint_writes_beside_it(capsys, run_folder):
    checkpoint = run_folder / "checkpoints" / "last.pt"
    succeeds(capsys, "evaluate", "--run", checkpoint)
    assert (run_folder / "checkpoints" / "evaluation_test.json").is_file()


def test_infer_goes_on_after_a_bad_file_and_exits_with_1(capsys, run_folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    Image.new("L", (20, 20)).save(tmp_path / "good.png")
    code, out, err = call(
        *(capsys, "infer", "--run", run_folder, tmp_path / "bad.png", tmp_path / "good.png"),
        *("--out", tmp_path / "out", "--alpha", 0.7),
    )
    assert code == 1
    assert out == f"{tmp_path / 'out' / 'good_mask.png'}\n"
    assert f"error: {tmp_path / 'bad.png'}: " in err


def test_serve_hands_the_loaded_model_and_the_address_on(capsys, run_folder, monkeypatch):
    served = []
    monkeypatch.setattr(
        "unet_seg.service.serve", lambda loaded, **options: served.append((loaded, options))
    )
    succeeds(capsys, "serve", "--run", run_folder, "--host", "0.0.0.0", "--port", 9000)
    ((loaded, options),) = served
    assert options == {"host": "0.0.0.0", "port": 9000}
    assert loaded.path == run_folder / "checkpoints" / "best.pt"


def test_a_device_that_is_not_there_is_refused(capsys, run_folder):
    code, _, err = call(capsys, "evaluate", "--run", run_folder, "--device", "gpu")
    assert (code, err) == (
        1,
        "error: device='gpu' is unknown; use auto, cpu, cuda, cuda:1 or mps.\n",
    )


# Data


def test_check_counts_images_and_classes(capsys, config_file):
    lines = succeeds(capsys, "check", "--config", config_file).splitlines()
    assert [line.split("; ")[0] for line in lines] == [
        *("train: 16 images", "valid: 4 images", "test: 4 images"),
    ]


def test_preview_draws_a_picture(capsys, config_file, tmp_path):
    path = tmp_path / "pictures" / "valid.png"
    out = succeeds(
        *(capsys, "preview", "--config", config_file, "--split", "valid", "--count", 2),
        *("--out", path),
    )
    assert out == f"{path}\n"
    with Image.open(path) as picture:
        assert picture.format == "PNG"


def test_exported_toy_data_can_be_trained_on(capsys, config_file, tmp_path):
    out = tmp_path / "toy"
    assert succeeds(capsys, "export-toy", "--config", config_file, "--out", out) == f"{out}\n"
    assert len(list((out / "images").iterdir())) == 16 + 4 + 4
    text = succeeds(
        *(capsys, "train", "--quiet", "--config", config_file, "data.kind=folder"),
        f"data.folder={{root: {out}, manifest: manifest.csv, class_map: {{background: 0, "
        "circle: 1, rectangle: 2, triangle: 3, ring: 4, line: 5}}",
    )
    assert read_rows(Path(text.strip()))[-1]["step"] == "6"


# Experiments


def test_summarize_prints_the_table_it_writes(capsys, run_folder, tmp_path):
    text = succeeds(capsys, "summarize", run_folder, "--out", tmp_path / "summary")
    assert text.startswith("| configuration | runs | valid/mean_iou |")
    assert {p.name for p in (tmp_path / "summary").iterdir()} == {
        *("summary.csv", "summary.md", "comparison.png")
    }
    code, _, err = call(
        *(capsys, "summarize", run_folder, "--baseline", "other", "--out", tmp_path / "s"),
    )
    assert (code, err) == (1, "error: no configuration is called 'other'; there are test.\n")


def test_profile_prints_a_table_and_writes_the_figures(capsys, config_file, tmp_path):
    path = tmp_path / "new" / "profile.json"
    text = succeeds(
        *(capsys, "profile", "--config", config_file, "--size", 32, 48, "--repeats", 1),
        *("--out", path, "train.batch_size=2"),
    )
    assert text.startswith("part ")
    assert "batch 2 of 32x48 on cpu: training " in text
    figures = json.loads(path.read_text())
    assert figures["size"] == [32, 48]
    assert figures["total"]["parameters"] > 3000


def test_reproduce_exits_with_0_if_equal_and_1_if_not(capsys, config_file, monkeypatch):
    code, out, _ = call(capsys, "reproduce", "--config", config_file, "train.steps=2")
    assert code == 0
    assert out.splitlines()[-1] == "equal: every metric and every bit of the weights"
    monkeypatch.setattr("unet_seg.reproduce._difference", lambda *_: "the weights")
    code, out, _ = call(capsys, "reproduce", "--config", config_file, "train.steps=2")
    assert code == 1
    assert out.splitlines()[-1] == "different: the weights"


# How errors end


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (SegError("a.png: is empty."), 1, "error: a.png: is empty.\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            Interrupted(Path("runs/x"), 7, 143),
            143,
            "stopped after step 7; go on with: python -m unet_seg train --resume runs/x\n",
        ),
        (
            OSError(28, "No space left on device"),
            1,
            "error: [Errno 28] No space left on device; look at the path, the permissions and the "
            "space on the disk.\n",
        ),
        (
            PermissionError(13, "Permission denied", "runs/x/log.txt"),
            1,
            "error: [Errno 13] Permission denied: 'runs/x/log.txt'; look at the path, the "
            "permissions and the space on the disk.\n",
        ),
        (
            RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed. "),
            1,
            "error: DataLoader worker (pid 5) is killed by signal: Killed.  A process that loads "
            "images has died, most often because memory ran out. Use a smaller train.num_workers; "
            "0 loads in the main process.\n",
        ),
    ],
)
def test_what_is_raised_becomes_a_message_and_an_exit_code(
    capsys, config_file, monkeypatch, raised, code, message
):
    def fail(*_arguments, **_options):
        raise raised

    monkeypatch.setattr("unet_seg.train.train", fail)
    assert call(capsys, "train", "--config", config_file) == (code, "", message)


@pytest.mark.parametrize(
    "defect", [KeyError("no such key"), FileNotFoundError(2, "of a queue, not of a file")]
)
def test_a_defect_keeps_its_traceback(config_file, monkeypatch, defect):
    def fail(*_arguments, **_options):
        raise defect

    monkeypatch.setattr("unet_seg.train.train", fail)
    with pytest.raises(type(defect), match=r"no such key|of a queue"):
        cli.main(["train", "--config", str(config_file)])


def test_a_folder_that_cannot_be_made_is_named(capsys, config_file, tmp_path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "profile.json"
    code, _, err = call(capsys, "profile", "--config", config_file, "--out", out)
    assert code == 1
    assert "error: [Errno " in err
    assert f"{tmp_path / 'file'}" in err


@pytest.mark.skipif(sys.platform == "win32", reason="pipes close otherwise there")
def test_a_reader_that_has_seen_enough_is_no_error(config_file):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "unet_seg", "check", "--config", str(config_file)],
            check=False,
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_settings_of_the_user_are_kept(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
