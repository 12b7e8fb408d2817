"""What a run folder holds, and what becomes of it when a run is resumed."""

from __future__ import annotations

import json
import re

import pytest
from small import small_config

from paraformer_asr.errors import AsrError
from paraformer_asr.runs import COLUMNS, Run, environment


def run_in(tmp_path):
    return Run.create(small_config(out=str(tmp_path / "runs")))


def test_a_new_folder_is_named_by_time_and_configuration(tmp_path):
    run = run_in(tmp_path)
    assert re.fullmatch(r"\d{8}-\d{6}-small-[0-9a-f]{6}", run.folder.name)
    assert (run.folder / "checkpoints").is_dir()
    assert run_in(tmp_path).folder != run.folder


def test_the_configuration_is_read_back(tmp_path):
    run = run_in(tmp_path)
    assert Run.open(run.folder).config == run.config


def test_a_folder_without_configuration_is_no_run(tmp_path):
    with pytest.raises(AsrError, match=r"is no run folder: there is no config\.yaml in it"):
        Run.open(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "runs").write_text("a file", encoding="utf-8")
    with pytest.raises(AsrError, match=r"cannot be made: .* Set out= to a folder you can write to"):
        run_in(tmp_path)


def test_rows_are_read_back_and_a_cut_line_is_left_out(tmp_path):
    run = run_in(tmp_path)
    run.row({"step": 1, "loss": 0.123456789})
    run.row({"step": 2, "valid_cer": 0.5})
    with (run.folder / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write("3,0.1")
    rows = run.rows()
    assert [row["step"] for row in rows] == ["1", "2"]
    assert rows[0]["loss"] == "0.1234568"
    assert rows[0]["valid_cer"] == ""
    assert tuple(rows[0]) == COLUMNS


def test_rows_after_the_checkpoint_are_dropped(tmp_path):
    run = run_in(tmp_path)
    for step in (1, 2, 3):
        run.row({"step": step, "loss": 1.0})
    run.rewind(2)
    run.row({"step": 3, "loss": 2.0})
    assert [(row["step"], row["loss"]) for row in run.rows()] == [
        ("1", "1"),
        ("2", "1"),
        ("3", "2"),
    ]


def test_what_is_said_is_logged_and_shown(tmp_path, capsys):
    run = run_in(tmp_path)
    run.say("half way")
    assert "half way" in capsys.readouterr().err
    log = (run.folder / "log.txt").read_text(encoding="utf-8")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d half way\n", log)


def test_json_without_a_number_is_refused(tmp_path):
    run = run_in(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("metrics.json", {"loss": float("nan")})
    assert not (run.folder / "metrics.json").exists()
    run.write_json("metrics.json", {"loss": 1.5})
    assert json.loads((run.folder / "metrics.json").read_text(encoding="utf-8")) == {"loss": 1.5}


def test_the_environment_names_versions_and_machine():
    facts = environment(device="cpu")
    assert {"python", "torch", "numpy", "machine", "threads", "command", "device"} <= set(facts)
