"""The worked workspace examples/research/tabm: its tests, a small run, its committed records."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maquette.research.checking.check import check_workspace
from maquette.research.planning.plan_reading import read_plan
from maquette.research.records import read_record
from maquette.research.reporting.report import write_report
from maquette.research.workspace import Workspace

WORKSPACE = Workspace.open(Path(__file__).resolve().parents[2] / "examples/research/tabm")
MODELS = ["mlp", "tabm", "trees"]


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
    assert "passed" in run("-m", "pytest", *options, cache=tmp_path)


@pytest.mark.data
def test_two_epochs_on_the_real_wines(tmp_path):
    options = ("--epochs", "2", "--datasets", "wine_quality", "--output", str(tmp_path / "out"))
    printed = run("run.py", *options, cache=tmp_path / "data")
    assert printed.count("wine_quality 0") == 3
    record = read_record(tmp_path / "out" / "run.json")
    assert [training.model for training in record.trainings] == MODELS
    for training in record.trainings:
        assert training.metrics["log_loss"] < training.baseline["log_loss"]
    for training in record.trainings[:2]:
        assert training.losses[1] < training.losses[0]


def test_the_project_is_what_the_plan_says():
    assert [str(one) for one in check_workspace(WORKSPACE) if not one.note] == []


def test_it_is_compact_and_stands_alone():
    sources = [path for path in WORKSPACE.project.rglob("*.py") if "tests" not in path.parts]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    assert sum(len(text.splitlines()) for text in texts) <= 500
    assert not any("maquette" in text for text in texts)


def test_the_committed_record_is_the_whole_experiment():
    record = read_record(WORKSPACE.results_file)
    plan = read_plan(WORKSPACE.plan_file)
    assert record.epochs == int(plan.training["epochs"])
    found = [(one.dataset, one.seed, one.model) for one in record.trainings]
    seeds = range(int(plan.training["seeds"]))
    datasets = [item.slug for item in plan.of_kind("dataset")]
    assert found == [(d, seed, model) for d in datasets for seed in seeds for model in MODELS]
    for training in record.trainings:
        assert set(training.metrics) == {item.slug for item in plan.of_kind("metric")}
    assert WORKSPACE.results_file.stat().st_size < 200_000


def test_the_three_share_their_splits_and_the_networks_their_budget():
    record = read_record(WORKSPACE.results_file)
    rates: dict[str, set[tuple[str, ...]]] = {}
    for one in record.trainings:
        extra = one.model_extra or {}
        rates.setdefault(one.model, set()).add(tuple(extra["validation_log_loss"]))
        scores = extra["validation_log_loss"]
        assert str(extra["learning_rate"]) == min(scores, key=scores.get)
    assert rates["mlp"] == rates["tabm"]
    assert len(rates["mlp"]) == 1
    baselines = {(one.dataset, one.seed, str(one.baseline)) for one in record.trainings}
    assert len(baselines) == 2 * 5


def test_the_report_is_what_the_records_say(tmp_path):
    """Written anew from the committed records, it is the committed one, byte for byte."""
    copy = Workspace(tmp_path / "tabm")
    skip = shutil.ignore_patterns("cache", "runs", "__pycache__")
    shutil.copytree(WORKSPACE.path, copy.path, ignore=skip)
    copy.report_file.unlink()
    copy.summary_file.unlink()
    write_report(copy)
    assert copy.report_file.read_bytes() == WORKSPACE.report_file.read_bytes()
    assert copy.summary_file.read_bytes() == WORKSPACE.summary_file.read_bytes()
