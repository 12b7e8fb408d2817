"""Runs become tables: means by hand, paired differences, and what is left out is said."""

import csv
import json
import math
from pathlib import Path

import pytest
import yaml

from paraformer_asr.config import config_from_dict, config_to_dict
from paraformer_asr.errors import AsrError
from paraformer_asr.summarize import half_width, paired, read_runs, spread, summarize, t_975


def make_run(
    root: Path,
    name: str,
    seed: int,
    cer: float | None,
    *,
    test: float | None = None,
    **settings,
) -> Path:
    """A run folder as training leaves it; without `cer` it is not finished."""
    run = root / f"{name}-{seed}-{len(list(root.iterdir()))}"
    run.mkdir()
    config = config_from_dict({"name": name, "seed": seed, **settings})
    (run / "config.yaml").write_text(yaml.safe_dump(config_to_dict(config)), "utf-8")
    (run / "metrics.csv").write_text("step,loss,valid_cer\n1,5,\n2,3,0.5\n", "utf-8")
    if cer is not None:
        numbers = {"best_valid_cer": cer, "best_step": 2, "steps": 2, "minutes": 0.5}
        numbers |= {"parameters": 1000, "stopped": False, "note": "text is left aside"}
        (run / "metrics.json").write_text(json.dumps(numbers), "utf-8")
    if test is not None:
        evaluation = {
            "cer": {"rate": test, "deletions": 3},
            "utterances": 400,
            "split": "test",
            "speakers": {"jo": {"rate": None, "utterances": 400}},
        }
        (run / "evaluation_test.json").write_text(json.dumps(evaluation), "utf-8")
    return run


@pytest.fixture
def runs(tmp_path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def test_the_summary_by_hand(runs, tmp_path):
    for seed, base, other in ((0, 0.10, 0.08), (1, 0.20, 0.14), (2, 0.30, 0.26)):
        make_run(runs, "base", seed, base, test=base)
        make_run(runs, "other", seed, other, test=other, model={"dim": 64})
    text = summarize([runs], tmp_path / "out")
    assert text == (
        "# 6 runs\n\n"
        "| configuration | n | best_valid_cer % | test/cer % | steps | minutes | parameters |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| base | 3 | 20.00 ± 10.00 | 20.00 ± 10.00 | 2 | 0.5 | 1,000 |\n"
        "| other | 3 | 16.00 ± 9.17 | 16.00 ± 9.17 | 2 | 0.5 | 1,000 |\n"
        "\ntest/cer minus that of base, seed by seed, in percentage points "
        "(below 0 is better):\n\n"
        "| configuration | seeds | mean difference | 95 % interval |\n"
        "| --- | --- | --- | --- |\n"
        "| other | 3 | -4.00 | -8.97 to +0.97 |\n"  # 4.3027 * 2 / sqrt(3) = 4.97
    )
    assert (tmp_path / "out/summary.md").read_text("utf-8") == text
    with (tmp_path / "out/summary.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["configuration"], row["seed"]) for row in rows[:2]] == [
        ("base", "0"),
        ("base", "1"),
    ]
    assert float(rows[5]["test/cer"]) == 0.26
    assert rows[5]["test/cer/deletions"] == "3"
    assert "test/speakers/jo" not in rows[5]
    assert rows[0]["best_step"] == "2"
    assert (tmp_path / "out/comparison.png").stat().st_size > 5000


def test_another_baseline_turns_the_signs(runs, tmp_path):
    for seed in (0, 1):
        make_run(runs, "a", seed, 0.1)
        make_run(runs, "b", seed, 0.3)
    assert "| a | 2 | -20.00 | -20.00 to -20.00 |" in summarize([runs], tmp_path, baseline="b")


def test_one_seed_has_no_interval_and_other_seeds_no_difference(runs, tmp_path):
    make_run(runs, "a", 0, 0.1)
    make_run(runs, "b", 0, 0.2)
    make_run(runs, "c", 7, 0.3)
    text = summarize([runs], tmp_path)
    assert "| a | 1 | 10.00 | 2 |" in text
    assert "| b | 1 | +10.00 | needs two seeds |" in text
    assert "| c | 0 |  | no seed in common |" in text


def test_runs_of_a_name_with_other_settings_are_other_groups(runs, tmp_path):
    make_run(runs, "a", 0, 0.1)
    make_run(runs, "a", 1, 0.1, out="elsewhere", train={"device": "cpu", "threads": 1})
    make_run(runs, "a", 0, 0.2, optim={"lr": 0.5})
    text = summarize([runs], tmp_path)
    assert "| a optim.lr=0.001 | 2 | 10.00 ± 0.00 |" in text
    assert "| a optim.lr=0.5 | 1 | 20.00 |" in text


def test_a_score_that_not_all_runs_have_is_shown_but_not_compared(runs, tmp_path):
    make_run(runs, "a", 0, 0.1, test=0.4)
    make_run(runs, "b", 0, 0.2)
    text = summarize([runs], tmp_path)
    assert "| a | 1 | 10.00 | 40.00 |" in text
    assert "| b | 1 | 20.00 |  |" in text
    assert "best_valid_cer minus that of a" in text


def test_run_folders_and_their_parent_count_once(runs):
    first = make_run(runs, "a", 0, 0.1)
    make_run(runs, "a", 1, 0.1)
    found, left_out = read_runs([first, runs, first])
    assert [run.seed for run in found] == [0, 1]
    assert left_out == []


def test_what_is_damaged_or_not_finished_is_reported_and_the_rest_is_summed_up(runs, tmp_path):
    make_run(runs, "good", 0, 0.1)
    unfinished = make_run(runs, "a", 0, None)
    damaged = [make_run(runs, "b", seed, 0.1, test=0.1) for seed in range(5)]
    (damaged[0] / "metrics.json").write_text("{", "utf-8")
    (damaged[1] / "config.yaml").write_text("name: b\nmodel: {dimm: 3}\n", "utf-8")
    (damaged[2] / "metrics.csv").unlink()
    (damaged[3] / "evaluation_test.json").write_text("[1]", "utf-8")
    (damaged[4] / "metrics.json").write_bytes(b"\xff")
    text = summarize([runs], tmp_path / "out")
    assert text.startswith("# 1 runs\n")
    listed = text.partition("Left out:\n\n")[2]
    assert f"- {unfinished}: not finished (no metrics.json).\n" in listed
    assert f"- {damaged[0] / 'metrics.json'}: damaged (" in listed
    assert f"- {damaged[1] / 'config.yaml'}: model.dimm is no setting." in listed
    assert f"- {damaged[2] / 'metrics.csv'}: there is no such file" in listed
    assert f"- {damaged[3] / 'evaluation_test.json'}: damaged (expected names" in listed
    assert f"- {damaged[4] / 'metrics.json'}: damaged (" in listed


def test_numbers_that_are_none_are_no_numbers(runs, tmp_path):
    run = make_run(runs, "a", 0, 0.1)
    (run / "metrics.json").write_text('{"best_valid_cer": NaN, "steps": 3}', "utf-8")
    assert "| a | 1 | 3 |" in summarize([runs], tmp_path / "out")


def test_nothing_to_sum_up_says_why_and_writes_nothing(runs, tmp_path):
    run = make_run(runs, "a", 0, None)
    with pytest.raises(AsrError) as caught:
        summarize([runs], tmp_path / "out")
    assert str(caught.value) == (
        f"no finished run in {runs}; a run counts once its training has ended and written "
        f"metrics.json.\n  {run}: not finished (no metrics.json)."
    )
    assert not (tmp_path / "out").exists()


def test_a_path_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(AsrError) as caught:
        summarize([tmp_path / "none"], tmp_path / "out")
    path = tmp_path / "none"
    assert str(caught.value) == (
        f"{path}: there is no such folder; give run folders or their parent."
    )


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_an_unknown_baseline_is_told_with_the_names_there_are(runs, tmp_path, names):
    for name in names:
        make_run(runs, name, 0, 0.1)
    message = f"no configuration is called 'c'; there are: {', '.join(names)}."
    with pytest.raises(AsrError, match=message):
        summarize([runs], tmp_path / "out", baseline="c")


def test_several_runs_of_a_seed_count_as_their_mean(runs):
    for cer in (0.1, 0.3):
        make_run(runs, "a", 0, cer)
    make_run(runs, "b", 0, 0.5)
    found, _ = read_runs([runs])
    ours = [run for run in found if run.name == "a"]
    theirs = [run for run in found if run.name == "b"]
    assert paired(ours, theirs, "best_valid_cer") == pytest.approx({0: -0.3})


def test_quantiles_are_those_of_the_tables_and_meet_where_the_table_ends():
    tabled = {1: 12.706, 2: 4.303, 5: 2.571, 10: 2.228, 20: 2.086, 30: 2.0423, 60: 2.0003}
    for freedom, quantile in tabled.items():
        assert t_975(freedom) == pytest.approx(quantile, abs=6e-4)
    assert t_975(21) == pytest.approx(2.07961, abs=2e-5)
    assert t_975(120) == pytest.approx(1.97993, abs=2e-5)
    quantiles = [t_975(freedom) for freedom in range(1, 60)]
    assert quantiles == sorted(quantiles, reverse=True)


def test_an_interval_by_hand():
    assert half_width([1.0, 3.0]) == pytest.approx(12.7062 * math.sqrt(2) / math.sqrt(2))
    assert half_width([1.0]) is None
    assert spread([]) == ""
    assert spread([0.015]) == "1.50"
