"""The recipes for tables reach the numbers in their first lines."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest

from maquette.lifecycle import train

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
QUICK = ["tracking.enabled=false", "evaluation.bootstrap=0", "evaluation.baselines=false"]


def measure(name: str, folder: Path, *, seed: int = 0) -> dict[str, float]:
    overrides = [f"runs_dir={folder}", f"seed={seed}", *QUICK]
    return train(CONFIGS / f"{name}.yaml", overrides).metrics


@pytest.mark.slow
def test_iris_over_ten_seeds(tmp_path, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    scores = [measure("iris", tmp_path, seed=seed)["test/accuracy"] for seed in range(10)]
    assert mean(scores) >= 0.955


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "metric", "least"),
    [
        ("penguins", "test/accuracy", 0.97),
        ("adult", "test/accuracy", 0.865),
        ("adult", "test/roc_auc", 0.92),
        ("housing", "test/r2", 0.80),
        ("wine", "test/r2", 0.35),
    ],
)
def test_a_catalogued_table(name, metric, least, tmp_path):
    assert measure(name, tmp_path)[metric] >= least
