"""Runs side by side: the numbers, the differing keys, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from maquette.errors import UsageError
from maquette.track.compare import compare, render


def make_run(
    folder: Path,
    *,
    metrics: dict[str, float],
    intervals: dict[str, list[float]] | None = None,
    recipe: dict[str, Any] | None = None,
    test_ids: tuple[str, ...] = ("row 1", "row 2"),
) -> Path:
    folder.mkdir()
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe or {"name": "iris"}, sort_keys=False))
    summary = {"metrics": metrics, "intervals": intervals or {}}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "splits.json").write_text(json.dumps({"test": list(test_ids)}))
    return folder


def test_two_runs_as_text(tmp_path: Path):
    first = make_run(
        tmp_path / "first",
        metrics={"valid/loss": 0.25, "test/accuracy": 0.9, "test/r2": 0.5},
        intervals={"test/accuracy": [0.85, 0.92]},
        recipe={"name": "iris", "training": {"epochs": 50, "optimizer": "adamw"}},
    )
    second = make_run(
        tmp_path / "second",
        metrics={"valid/loss": 0.125, "test/accuracy": 0.95},
        intervals={"test/accuracy": [0.93, 0.98]},
        recipe={
            "name": "iris",
            "training": {"epochs": 5, "optimizer": "adamw", "clip_norm": 1.0},
            "data": {"image_size": [8, 8]},
        },
        test_ids=("row 1", "row 3"),
    )
    assert render(compare([first, second])) == (
        "A  first\n"
        "B  second\n"
        "\n"
        "metric         A                 B                  B - A\n"
        "test/accuracy  0.9 [0.85, 0.92]  0.95 [0.93, 0.98]  +0.05 *\n"
        "test/r2        0.5               –                  –\n"
        "valid/loss     0.25              0.125              -0.125\n"
        "\n"
        "* the two intervals do not overlap\n"
        "\n"
        "The runs were tested on different samples, so differences include luck.\n"
        "\n"
        "recipe              A   B\n"
        "training.epochs     50  5\n"
        "training.clip_norm  –   1.0\n"
        "data.image_size     –   [8, 8]"
    )


def test_three_equal_runs_say_so(tmp_path: Path):
    runs = [make_run(tmp_path / name, metrics={"test/rmse": 2.0}) for name in "abc"]
    comparison = compare(runs)
    assert comparison.same_test_samples
    assert [comparison.metrics[0].difference(run) for run in (1, 2)] == [0.0, 0.0]
    assert render(comparison).endswith(
        "metric     A  B  C  B - A  C - A\n"
        "test/rmse  2  2  2  +0     +0\n"
        "\n"
        "The recipes are the same."
    )


@pytest.mark.parametrize(
    ("first", "other", "clear"),
    [
        ([0.8, 0.9], [0.9, 1.0], False),
        ([0.8, 0.9], [0.91, 1.0], True),
        ([0.9, 1], [0.7, 0.8], True),
    ],
)
def test_a_difference_is_clear_when_the_intervals_do_not_touch(
    tmp_path: Path, first: list[float], other: list[float], clear: bool
):
    runs = [
        make_run(
            tmp_path / name, metrics={"test/accuracy": 0.9}, intervals={"test/accuracy": interval}
        )
        for name, interval in (("a", first), ("b", other))
    ]
    assert compare(runs).metrics[0].is_clear(1) is clear


def test_one_run_is_not_enough(tmp_path: Path):
    with pytest.raises(UsageError) as error:
        compare([tmp_path])
    assert str(error.value) == (
        "compare takes two run folders or more, got 1: maquette compare runs/ONE runs/OTHER."
    )


def test_not_a_run_folder(tmp_path: Path):
    with pytest.raises(UsageError) as error:
        compare([tmp_path, tmp_path])
    assert str(error.value) == (
        f"{tmp_path} is not a run folder: it has no recipe.yaml. "
        "`maquette train RECIPE` prints the folder of its run as its last line."
    )


def test_a_run_that_has_not_ended(tmp_path: Path):
    run = make_run(tmp_path / "run", metrics={})
    (run / "summary.json").unlink()
    with pytest.raises(UsageError) as error:
        compare([run, run])
    assert str(error.value) == (
        f"{run} has no summary.json, so its run has not ended. "
        f"`maquette train --resume {run}` continues it."
    )
