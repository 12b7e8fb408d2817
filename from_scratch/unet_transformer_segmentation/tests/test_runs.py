"""Run folders: names, atomic files, and a log that a resumed run continues without repeats."""

from __future__ import annotations

import json
import re

import pytest

from unet_seg.errors import SegError
from unet_seg.runs import RunLog, create_run, read_config, read_rows, write_atomic


def test_a_run_folder_holds_its_configuration_and_environment(make_config):
    config = make_config()
    run, other = create_run(config), create_run(config)
    assert re.fullmatch(r"\d{8}-\d{6}-test-[0-9a-f]{6}", run.name)
    assert run != other
    assert read_config(run) == config
    environment = json.loads((run / "environment.json").read_text())
    assert {"python", "torch", "threads", "command"} <= set(environment)


def test_a_folder_that_cannot_be_made_is_named(make_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SegError, match=r"cannot be made .*; choose another out=."):
        create_run(make_config(out=str(tmp_path / "file")))


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(SegError, match=r"is no run folder: it has no config.yaml\."):
        read_config(tmp_path)


def test_a_resumed_log_drops_what_lies_after_the_checkpoint(tmp_path):
    log = RunLog(tmp_path, ["a", "b"])
    for step in (1, 2, 3):
        log.row(step, {"a": step / 3})
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4,0.1")  # cut off by a kill: the column b is not there
    resumed = RunLog(tmp_path, ["a", "b"], resume_step=2)
    resumed.row(3, {"b": 7.0})
    rows = read_rows(tmp_path)
    assert [(r["step"], r["a"], r["b"]) for r in rows] == [
        ("1", "0.33333333", ""),
        ("2", "0.66666667", ""),
        ("3", "", "7"),
    ]


def test_what_is_said_goes_to_the_log_and_to_stderr(tmp_path, capsys):
    RunLog(tmp_path, []).say("hello")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d hello\n", (tmp_path / "log.txt").read_text()
    )
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "hello\n")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    write_atomic(path, "old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
