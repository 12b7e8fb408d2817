"""Stores that are new to each test, without MLflow's making their tables each time; and bundles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from maquette.track.store import connect


@pytest.fixture(autouse=True)
def no_chosen_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store that was made once."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        with connect(folder):
            pass
    return folder / "mlflow.db"


@pytest.fixture
def runs_dir(tmp_path: Path, template: Path) -> Path:
    """A folder of runs with an empty store. The blank in its name is part of the test."""
    folder = tmp_path / "my runs"
    folder.mkdir()
    shutil.copy(template, folder / "mlflow.db")
    return folder


@pytest.fixture
def make_bundle(runs_dir: Path) -> Callable[[str], Path]:
    """Return a function that writes what the registry reads of a bundle, by bundle id."""

    def make(bundle_id: str) -> Path:
        bundle = runs_dir / f"run-{bundle_id}" / "bundle"
        bundle.mkdir(parents=True)
        manifest = {"bundle_id": bundle_id, "task": "tabular", "classes": ["no", "yes"]}
        schema = {
            "properties": {
                "age": {"type": ["integer", "null"]},
                "sepal length": {"type": "number"},
                "colour": {"type": ["string", "null"], "enum": ["red", None]},
            }
        }
        row = {"age": None, "sepal length": 5.1, "colour": "red"}
        (bundle / "bundle.json").write_text(json.dumps(manifest))
        (bundle / "input_schema.json").write_text(json.dumps(schema))
        (bundle / "probes.json").write_text(json.dumps({"inputs": [{"row": row}]}))
        return bundle

    return make
