"""Summaries: which runs are one configuration, means over seeds, differences seed by seed."""

from __future__ import annotations

import csv
import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from unet_seg.config import config_from_dict, config_to_dict
from unet_seg.errors import SegError
from unet_seg.runs import create_run
from unet_seg.summarize import (
    compare,
    find_runs,
    group,
    markdown,
    paired_differences,
    read_run,
    spread,
    summarize,
)


@pytest.fixture
def make_run(make_config):
    """A function that makes a run folder as a finished training leaves it, but trains nothing."""

    def make(name: str, seed: int, valid: float | None, test: float | None = None, **more) -> Path:
        run = create_run(make_config(name=name, seed=seed, **more))
        metrics = {
            "valid/mean_iou": valid,
            "valid/mean_dice": valid,
            **{"best_step": 3, "step": 6, "seconds": 10.0 + seed, "parameters": 12345},
            "peak_memory_mb": 100.0,
        }
        (run / "metrics.json").write_text(json.dumps(metrics))
        (run / "metrics.csv").write_text("step,valid/mean_iou\n3,0.25\n6,0.5\n")
        if test is not None:
            scores = {
                "split": "test",
                "images": 4,
                "mean_iou": test,
                "mean_dice": None,
                "per_class": {"circle": {"iou": test / 2, "dice": test}},
            }
            (run / "evaluation_test.json").write_text(json.dumps(scores))
        return run

    return make


def rows_of(*runs: Path) -> list[dict]:
    return [read_run(run) for run in runs]


def test_a_summary_has_a_row_a_run_a_row_a_group_and_a_picture(make_run, tmp_path):
    folder = make_run("plain", 1, 0.7, 0.6).parent
    make_run("plain", 0, 0.5, 0.5)
    make_run("more", 0, 0.6, 0.7)
    make_run("more", 1, 0.8, 0.5)
    out = tmp_path / "a" / "summary"
    text = summarize([folder], out, baseline="plain")
    assert text.splitlines() == [
        "| configuration | runs | valid/mean_iou | valid/mean_dice | test/mean_iou | seconds | "
        "parameters |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| more | 2 | 0.7000 ± 0.1414 | 0.7000 ± 0.1414 | 0.6000 ± 0.1414 | 10 | 12,345 |",
        "| plain | 2 | 0.6000 ± 0.1414 | 0.6000 ± 0.1414 | 0.5500 ± 0.0707 | 10 | 12,345 |",
        "",
        "| minus plain | seeds | valid/mean_iou | test/mean_iou |",
        "| --- | --- | --- | --- |",
        "| more | 0 1 | +0.1000 ± 0.0000, higher in 2 of 2 | +0.0500 ± 0.2121, higher in 1 of 2 |",
    ]
    assert (out / "summary.md").read_text() == f"# Summary of 4 runs\n\n{text}\n"
    with (out / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["seed"]) for row in rows] == [
        *(("more", "0"), ("more", "1"), ("plain", "0"), ("plain", "1")),
    ]
    assert rows[0]["test/mean_iou"] == "0.7"
    assert rows[0]["test/iou/circle"] == "0.35"
    assert rows[0]["peak_memory_mb"] == "100.0"
    with Image.open(out / "comparison.png") as picture:
        assert picture.format == "PNG"


def test_runs_that_were_never_validated_are_left_out(make_run, make_config):
    run = make_run("plain", 0, 0.5)
    other = create_run(make_config(name="unfinished"))
    assert read_run(other) is None
    assert "unfinished" not in summarize([run.parent], run.parent / "summary")


def test_where_runs_are_looked_for(make_run, tmp_path):
    runs = sorted([make_run("a", 0, 0.5), make_run("b", 0, 0.5)])
    assert find_runs([runs[0].parent]) == runs
    assert find_runs([runs[1], runs[0].parent]) == [runs[1], runs[0]]
    with pytest.raises(SegError, match=r"nothing: no such folder\.$"):
        find_runs([tmp_path / "nothing"])


def test_no_finished_run_is_said(tmp_path):
    with pytest.raises(SegError) as error:
        summarize([tmp_path], tmp_path / "out")
    assert str(error.value) == (
        f"no finished run in {tmp_path}; a run counts once it has been validated and holds "
        "metrics.json."
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"valid/mean', "is damaged (Unterminated string"),
        ("[1, 2]", "is damaged (holds no table); delete it or run it again."),
        ("{}", "lacks valid/mean_iou, best_step, step, seconds, parameters, peak_memory_mb; run"),
    ],
)
def test_a_damaged_result_is_named(make_run, text, message):
    run = make_run("a", 0, 0.5)
    (run / "metrics.json").write_text(text)
    with pytest.raises(SegError) as error:
        read_run(run)
    assert str(error.value).startswith(f"{run / 'metrics.json'}: {message}")


def test_an_evaluation_that_is_damaged_is_named(make_run):
    run = make_run("a", 0, 0.5, 0.5)
    (run / "evaluation_test.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SegError, match=r"evaluation_test.json: is damaged \(.* delete it or run"):
        read_run(run)


def test_runs_of_one_name_with_other_overrides_are_other_groups(make_run):
    groups = group(
        rows_of(
            make_run("a", 0, 0.5, train={"steps": 6, "num_workers": 0}),
            make_run("a", 1, 0.6, train={"steps": 6, "num_workers": 2}),
            make_run("a", 0, 0.7, train={"steps": 9, "num_workers": 0}),
            make_run("b", 0, 0.8),
        )
    )
    assert {name: [row["valid/mean_iou"] for row in rows] for name, rows in groups.items()} == {
        "a train.steps=6": [0.5, 0.6],
        "a train.steps=9": [0.7],
        "b": [0.8],
    }
    assert [row["name"] for row in groups["a train.steps=6"]] == ["a train.steps=6"] * 2


def test_where_the_runs_were_put_makes_no_other_group(make_run, tmp_path):
    here, there = make_run("a", 0, 0.5), make_run("a", 1, 0.6, out=str(tmp_path / "elsewhere"))
    assert list(group(rows_of(here, there))) == ["a"]


def test_keys_under_other_kinds_of_data_are_told(make_run, make_config):
    values = config_to_dict(make_config(name="a"))
    values["data"] |= {
        "kind": "folder",
        "folder": {
            "root": "cells",
            "class_map": dict(zip(("sky", "a", "b", "c", "d", "e"), range(6), strict=True)),
        },
    }
    folder = create_run(replace(config_from_dict(values), name="a"))
    toy = make_run("a", 0, 0.5)
    (folder / "metrics.json").write_text((toy / "metrics.json").read_text())
    names = list(group(rows_of(folder, toy)))
    assert len(names) == 2
    assert any("data.folder.root=cells" in name for name in names)


def test_seeds_are_paired_and_repeated_ones_averaged():
    def rows(*pairs):
        return [{"seed": seed, "score": score} for seed, score in pairs]

    ours = rows((0, 0.5), (1, 0.6), (2, 0.9), (4, None))
    theirs = rows((2, 0.5), (0, 0.2), (0, 0.4), (3, 0.1), (4, 0.3))
    assert paired_differences(ours, theirs, "score") == pytest.approx({0: 0.2, 2: 0.4})
    assert paired_differences(ours, theirs, "other") == {}


def test_what_shares_no_seed_is_not_compared(make_run):
    groups = group(rows_of(make_run("a", 0, 0.5), make_run("b", 1, 0.6), make_run("c", 0, 0.4)))
    lines = compare(groups, "a").strip().splitlines()
    assert lines[2:] == ["| c | 0 | -0.1000, higher in 0 of 1 | - |"]
    assert compare({name: groups[name] for name in ("a", "b")}, "a") == ""
    with pytest.raises(SegError) as error:
        compare(groups, "d")
    assert str(error.value) == "no configuration is called 'd'; there are a, b, c."


def test_the_first_configuration_is_the_baseline_if_none_is_named(make_run, tmp_path):
    folder = make_run("a", 0, 0.5).parent
    make_run("b", 0, 0.75)
    text = summarize([folder], tmp_path / "out")
    assert "| minus a | seeds |" in text
    assert "| b | 0 | +0.2500, higher in 1 of 1 | - |" in text


def test_a_score_without_a_value_is_a_dash_and_draws(make_run, tmp_path):
    folder = make_run("a", 0, None).parent
    make_run("b", 0, 0.5)
    text = summarize([folder], tmp_path / "out")
    assert "| a | 1 | - | - | 10 | 12,345 |" in text
    assert "minus" not in text


def test_spread_is_mean_and_sample_deviation():
    values = [0.5, 0.6, 0.9]
    assert spread(values) == f"0.6667 ± {statistics.stdev(values):.4f}"
    assert spread([0.5, None]) == "0.5000"
    assert spread([None]) == spread([]) == "-"


def test_a_table_shows_the_scores_that_are_there(make_run):
    assert "test/" not in markdown(group(rows_of(make_run("a", 0, 0.5))))
    assert "test/mean_iou" in markdown(group(rows_of(make_run("b", 0, 0.5, 0.4))))
