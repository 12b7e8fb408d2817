"""The shell scripts do what their first lines say, with trainings of a few steps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from untrained import recording

from paraformer_asr.config import load_config
from paraformer_asr.models import build_model

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
SHELL = sorted(SCRIPTS.glob("*.sh"))
TINY = [
    *("data.toy.alphabet=abc", "data.toy.num_train=6", "data.toy.num_valid=2"),
    *("data.toy.num_test=2", "data.toy.tokens=[1,3]", "features.num_mels=20", "model.dim=8"),
    *("model.heads=2", "model.ffn=8", "model.encoder_layers=1", "model.decoder_layers=1"),
    *("model.kernel=3", "train.steps=2", "train.valid_every=2", "train.device=cpu"),
    "train.fast_matmul=false",
]


def call(script: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder that is not its own, with a Python that has the package."""
    return subprocess.run(
        [SCRIPTS / script, *map(str, words)],
        cwd=SCRIPTS.parents[1],
        env=os.environ | {"PYTHON": sys.executable} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def answer(script: str, *words: object, **environment: str) -> str:
    """What a script prints when all goes well."""
    done = call(script, *words, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def settings_of(folder: Path) -> dict:
    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with one finished run, made by the script."""
    out = tmp_path_factory.mktemp("runs")
    answer("train_default.sh", *TINY, f"out={out}")
    return out


@pytest.fixture
def run(trained) -> Path:
    (folder,) = (config.parent for config in trained.glob("*/config.yaml"))
    return folder


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_a_script_can_be_started_and_opens_with_its_use(path):
    shebang, summary, empty, use, *rest = path.read_text(encoding="utf-8").splitlines()
    assert os.access(path, os.X_OK)
    assert shebang == "#!/bin/sh"
    assert re.fullmatch(r"# [A-Z].*[.,]", summary) or empty != "#"
    assert f"scripts/{path.name}" in "\n".join([empty, use, *rest[:4]])
    assert "set -eu" in rest


def test_training_prints_the_report_and_the_run_folder(trained, run):
    text = answer("train_default.sh", *TINY, f"out={trained / 'more'}", "seed=4")
    folder = Path(text.splitlines()[-1])
    assert settings_of(folder)["seed"] == 4
    assert settings_of(folder)["name"] == "default"
    assert "test: 2 utterances" in text
    assert (folder / "report_test.txt").read_text(encoding="utf-8") in text
    assert (folder / "evaluation_test.json").is_file()


def test_several_runs_are_scored_on_the_split_that_is_asked_for(run):
    text = answer("evaluate.sh", run, run, SPLIT="valid")
    assert text.count("valid: 2 utterances") == 2
    assert json.loads((run / "evaluation_valid.json").read_text())["split"] == "valid"


def test_the_newest_finished_run_of_a_name_writes_down_a_recording(trained, run, tmp_path):
    (trained / "29990101-000000-default-abcdef").mkdir()  # not finished
    said = tmp_path / "said.wav"
    recording(said)
    out = tmp_path / "out"
    by_name = answer("infer.sh", "default", said, "--out", out, RUNS=str(trained))
    by_path = answer("infer.sh", run, said, "--out", out, "--timestamps")
    assert by_path.startswith(by_name)
    assert by_name.startswith("said.wav\t")
    assert (out / "said.wav.json").is_file()


def test_a_name_without_a_run_is_told(trained):
    done = call("infer.sh", "digits", "x.wav", RUNS=str(trained))
    assert done.returncode == 1
    assert "digits is no file" in done.stderr
    assert "no finished run of that name" in done.stderr


@pytest.mark.parametrize(
    ("script", "words"),
    [("evaluate.sh", []), ("infer.sh", ["default"]), ("compare.sh", ["train.steps=2"])],
)
def test_missing_words_are_told_with_the_use(script, words):
    done = call(script, *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"usage: scripts/{script} ")
    use = done.stderr.removeprefix("usage: ").strip()
    assert f"#   {use}" in (SCRIPTS / script).read_text(encoding="utf-8")


def test_configurations_are_compared_with_the_first(tmp_path):
    text = answer("compare.sh", "tiny", "default", *TINY, OUT=str(tmp_path), SEEDS="3")
    folders = [Path(line) for line in text.splitlines()[:2]]
    found = [(settings_of(folder)["name"], settings_of(folder)["seed"]) for folder in folders]
    assert found == [("tiny", 3), ("default", 3)]
    assert "test/cer minus that of tiny, seed by seed" in text
    assert (tmp_path / "summary" / "comparison.png").is_file()
    assert (tmp_path / "summary" / "summary.md").read_text(encoding="utf-8") in text


def test_a_failed_training_ends_the_comparison(tmp_path):
    done = call("compare.sh", "tiny", "default", "train.stepz=2", OUT=str(tmp_path))
    assert done.returncode == 1
    assert "train.stepz is no setting. Did you mean steps?" in done.stderr
    assert not list(tmp_path.iterdir())


def variants() -> dict[str, list[str]]:
    """Name -> settings, as scripts/ablations.sh lists them."""
    text = (SCRIPTS / "ablations.sh").read_text(encoding="utf-8")
    table = text.partition("<<'END'\n")[2].partition("\nEND\n")[0]
    return {line.split()[0]: line.split()[1:] for line in table.splitlines()}


def test_ablations_train_what_is_missing_and_go_on_with_what_was_stopped(tmp_path):
    def ablate(**environment: str) -> str:
        settings = [*TINY, "train.checkpoint_every=1"]
        return answer("ablations.sh", *settings, OUT=str(tmp_path), **environment)

    ablate(ONLY="base", SEEDS="7 8", JOBS="2")
    finished, stopped = sorted(
        (path.parent for path in tmp_path.glob("*/config.yaml")),
        key=lambda folder: settings_of(folder)["seed"],
    )
    weights = finished / "checkpoints" / "best.pt"
    written = weights.stat().st_mtime_ns
    (stopped / "metrics.json").unlink()
    (stopped / "evaluation_test.json").unlink()
    (stopped / "checkpoints" / "previous.pt").replace(stopped / "checkpoints" / "last.pt")

    text = ablate(ONLY="base|no_ctc", SEEDS="7 8")
    assert weights.stat().st_mtime_ns == written
    assert "resumed after step 1" in (stopped / "log.txt").read_text(encoding="utf-8")
    assert (stopped / "metrics.json").is_file()
    assert (stopped / "evaluation_test.json").is_file()
    made = [settings_of(path.parent) for path in tmp_path.glob("*/config.yaml")]
    assert sorted((each["name"], each["seed"], each["model"]["ctc"]) for each in made) == [
        *(("base", 7, True), ("base", 8, True), ("no_ctc", 7, False), ("no_ctc", 8, False)),
    ]
    assert "| base | 2 |" in text
    assert "| no_ctc | 2 |" in text
    assert "test/cer minus that of base" in text


def test_every_variant_is_a_configuration_that_differs_from_base():
    found = variants()
    base = load_config(SCRIPTS.parent / "configs" / "ablation.yaml")
    assert found.pop("base") == []
    assert len(found) >= 12
    for name, settings in found.items():
        assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name), "- and ? would mislead the search"
        config = load_config(SCRIPTS.parent / "configs" / "ablation.yaml", settings)
        assert config != base, name
        build_model(config)


def test_the_page_of_ablations_lists_every_variant_with_its_settings():
    page = (SCRIPTS.parent / "docs" / "ABLATIONS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`]+)`)? ?\|", page, re.M)
    assert {name: settings.split() for name, settings in rows if name.islower()} == variants()
