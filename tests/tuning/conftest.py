"""Recipes to tune and studies to fill, small enough to be real."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuning_cases import opened

from maquette.recipe import Recipe, make_recipe
from maquette.tuning.study import Study

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make() -> Callable[..., Recipe]:
    """Return a function that makes an Iris recipe with a search space."""

    def make(space: dict[str, Any], **changes: Any) -> Recipe:
        return make_recipe(
            {
                "name": "iris",
                "data": {
                    "tabular": {
                        "path": str(ROOT / "data/sample/iris.csv"),
                        "target_column": "species",
                    }
                },
                "model": {"type": "tabular", "name": "mlp"},
                "tune": {"space": space},
                **changes,
            }
        )

    return make


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file whose tables are made already."""
    file = tmp_path_factory.mktemp("store") / "empty.db"
    opened(file, name="another")
    return file


@pytest.fixture
def open_here(tmp_path: Path, empty_store: Path) -> Callable[..., Study]:
    """Return a function that opens the study of this test, again and again."""
    file = tmp_path / "iris.db"
    shutil.copy(empty_store, file)

    def open_it(**changes: Any) -> Study:
        return opened(file, **changes)

    return open_it
