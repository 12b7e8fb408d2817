"""Shared by all tests: a quiet environment, where the real data is, and two small trained runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")
# A shared machine may stall at any example; what is too slow, the test's own timeout says.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
# A shell starts background jobs with Ctrl-C ignored, and what they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
_BESIDE = ROOT.parent / "shared" / "data"
if _BESIDE.is_dir():
    os.environ.setdefault("MAQUETTE_DATA_MIRROR", str(_BESIDE))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `data` need the mirror; without it they say so and are skipped."""
    if os.environ.get("MAQUETTE_DATA_MIRROR"):
        return
    reason = "the real data sets are not here: set MAQUETTE_DATA_MIRROR to their folder"
    for item in items:
        if "data" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing a test fetches or unpacks lands in the user's cache."""
    os.environ["MAQUETTE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def iris_run(tmp_path_factory: pytest.TempPathFactory):
    """A finished run on Iris: a few epochs, no tracking."""
    from maquette.lifecycle import train

    runs = tmp_path_factory.mktemp("iris")
    return train(
        ROOT / "configs" / "iris.yaml",
        [
            f"runs_dir={runs}",
            f"data.tabular.path={ROOT / 'data/sample/iris.csv'}",
            f"data.tabular.schema={ROOT / 'data/schemas/iris.json'}",
            "training.epochs=30",
            "evaluation.bootstrap=50",
            "tracking.enabled=false",
        ],
    )


@pytest.fixture(scope="session")
def colours_run(tmp_path_factory: pytest.TempPathFactory):
    """A finished run on the coloured discs: a narrow ResNet, two epochs, no tracking."""
    from maquette.lifecycle import train

    runs = tmp_path_factory.mktemp("colours")
    return train(
        ROOT / "configs" / "colours.yaml",
        [
            f"runs_dir={runs}",
            f"data.image.path={ROOT / 'data/sample/images'}",
            "data.image.image_size=[16, 16]",
            "model.architecture.base_width=8",
            "training.epochs=2",
            "evaluation.bootstrap=50",
            "tracking.enabled=false",
        ],
    )
