"""From a finished run to the store: facts, what it took, pictures; on the run and the version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from maquette.runs import RunFolder
from maquette.track.store import connect
from maquette.tracking import mirror_and_register


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests: making its tables takes long."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def folder(iris_run, runs_dir: Path, request, monkeypatch) -> Path:
    """A copy of a finished run that was never mirrored."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = runs_dir / request.node.name
    shutil.copytree(iris_run.folder, folder)
    (folder / "tracking.json").unlink(missing_ok=True)
    return folder


def test_facts_and_figures_travel_with_the_run_and_its_version(folder: Path):
    file = folder / "summary.json"
    summary = json.loads(file.read_text(encoding="utf-8"))
    summary["tags"] = {"domain": "medical", "dataset_sha256": "ab" * 32, "loss": "infonce"}
    summary["system"] = {"peak_memory_mib": 512.5}
    file.write_text(json.dumps(summary), encoding="utf-8")
    (folder / "figures").mkdir()
    (folder / "figures" / "curve.svg").write_text("<svg/>", encoding="utf-8")
    line = mirror_and_register(RunFolder(folder), name=None, register_model=True)
    assert line == "registered as iris version 1 (champion)"
    with connect(folder.parent) as client:
        (run_id,) = json.loads((folder / "tracking.json").read_text(encoding="utf-8")).values()
        run = client.get_run(run_id)
        figures = [file.path for file in client.list_artifacts(run_id, "figures")]
        version = client.get_model_version("iris", "1")
    assert run.data.metrics["system/peak_memory_mib"] == 512.5
    assert figures == ["figures/curve.svg"]
    expected = {"task": "tabular", "model": "mlp", **summary["tags"]}
    assert expected.items() <= run.data.tags.items()
    assert expected.items() <= version.tags.items()


def test_a_summary_without_them_is_mirrored_as_before(folder: Path):
    file = folder / "summary.json"
    summary = json.loads(file.read_text(encoding="utf-8"))
    for key in ("tags", "system"):
        summary.pop(key, None)
    file.write_text(json.dumps(summary), encoding="utf-8")
    shutil.rmtree(folder / "figures", ignore_errors=True)
    line = mirror_and_register(RunFolder(folder), name=None, register_model=False)
    assert line.startswith("tracked as MLflow run ")
    with connect(folder.parent) as client:
        run = client.get_run(line.rpartition(" ")[2])
    assert not any(name.startswith("system/") for name in run.data.metrics)
    assert run.data.tags["task"] == "tabular"
