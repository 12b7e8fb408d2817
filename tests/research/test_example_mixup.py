"""The worked workspace examples/research/mixup: its tests, a small run, its committed records."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maquette.research.checking.check import check_workspace
from maquette.research.judging.verdict import metric_key
from maquette.research.planning.plan_reading import read_plan
from maquette.research.records import read_record
from maquette.research.workspace import Workspace

WORKSPACE = Workspace.open(Path(__file__).resolve().parents[2] / "examples/research/mixup")
ARMS = {"plain", "label_smoothing", "mixup", "both"}


def run(*command: str, cache: Path) -> str:
    """Run Python in the project's folder, as a reader would, and return what it prints."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "RESEARCH_DATA": str(cache)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=WORKSPACE.project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass(tmp_path):
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    assert "passed" in run("-m", "pytest", *options, "tests", cache=tmp_path)


@pytest.mark.data
def test_two_epochs_on_the_real_photos(tmp_path):
    arms = ("--arms", "both", "--seeds", "5")
    run(
        "run.py", "--epochs", "2", *arms, "--output", str(tmp_path / "out"), cache=tmp_path / "data"
    )
    record = read_record(tmp_path / "out" / "run.json")
    plan = read_plan(WORKSPACE.plan_file)
    assert record.datasets["sign_digits"].sha256 == plan.items[0].fields["sha256"]
    assert [training.model for training in record.trainings] == ["both"]
    for training in record.trainings:
        assert training.losses[-1] < training.losses[0]
        assert training.metrics["nll"] < training.baseline["nll"]
        assert all(metric_key(item, training.metrics) for item in plan.of_kind("metric"))


def test_the_project_is_what_the_plan_says():
    findings = [str(one) for one in check_workspace(WORKSPACE) if not one.note]
    assert findings == []


def test_it_is_compact_and_stands_alone():
    sources = [path for path in WORKSPACE.project.rglob("*.py") if "tests" not in path.parts]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    assert sum(len(text.splitlines()) for text in texts) <= 500
    assert not any("maquette" in text.replace("MAQUETTE", "") for text in texts)


def test_the_full_run_is_paired():
    """Every arm with every seed, and the same test part for all arms of a seed."""
    record = read_record(WORKSPACE.results_file)
    plan = read_plan(WORKSPACE.plan_file)
    assert record.epochs == int(plan.training["epochs"])
    seeds = range(int(plan.training["seeds"]))
    runs = {(one.model, one.seed): one for one in record.trainings}
    assert runs.keys() == {(arm, seed) for arm in ARMS for seed in seeds}
    for seed in seeds:
        assert len({str(runs[arm, seed].baseline) for arm in ARMS}) == 1


def test_the_report_is_what_the_records_say(tmp_path):
    """Written anew from the committed records, it is the committed one, byte for byte."""
    from maquette.research.reporting.report import write_report

    copy = Workspace(tmp_path / "mixup")
    skip = shutil.ignore_patterns("cache", "runs", "__pycache__")
    shutil.copytree(WORKSPACE.path, copy.path, ignore=skip)
    copy.report_file.unlink()
    copy.summary_file.unlink()
    write_report(copy)
    assert copy.report_file.read_bytes() == WORKSPACE.report_file.read_bytes()
    assert copy.summary_file.read_bytes() == WORKSPACE.summary_file.read_bytes()
