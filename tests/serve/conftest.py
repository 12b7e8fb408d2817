"""Real bundles, served: Iris, the coloured squares, and a small regression with categories."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from served import Serving, serving, write_houses

from maquette.bundle import Bundle, load_bundle
from maquette.lifecycle import train


@pytest.fixture(scope="session")
def iris(iris_run) -> Bundle:
    return load_bundle(iris_run.bundle)


@pytest.fixture(scope="session")
def colours(colours_run) -> Bundle:
    return load_bundle(colours_run.bundle)


@pytest.fixture(scope="session")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Predicts a number; one column is text, one may be missing."""
    folder = tmp_path_factory.mktemp("houses")
    write_houses(folder / "houses.csv")
    run = train(
        {
            "name": "houses",
            "runs_dir": str(folder),
            "data": {"tabular": {"path": str(folder / "houses.csv"), "target_column": "price"}},
            "model": {"type": "tabular", "name": "mlp"},
            "training": {"epochs": 2},
            "tracking": {"enabled": False},
            "evaluation": {"bootstrap": 0, "baselines": False},
        }
    )
    return load_bundle(run.bundle)


@pytest.fixture
def both(iris: Bundle, colours: Bundle) -> Iterator[Serving]:
    """Iris and colours behind one server."""
    served = serving(iris, colours)
    with served.client:
        yield served
