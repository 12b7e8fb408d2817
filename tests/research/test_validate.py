"""Validating a workspace: real child processes, and the record that an attempt leaves."""

from __future__ import annotations

import sys

import pytest
from small_workspaces import RUN, SHA, TEST, data_cache, make

from maquette.errors import RunError, UsageError
from maquette.research.running.sandbox import Limits
from maquette.research.validating.attempts import project_sha256, read_attempts
from maquette.research.validating.project_tests import counts
from maquette.research.validating.validate import validate
from maquette.research.workspace import Workspace

LIMITS = Limits(seconds=120, memory_bytes=2**30)


@pytest.fixture
def _data(tmp_path, monkeypatch):
    monkeypatch.setenv("RESEARCH_DATA", str(data_cache(tmp_path / "data")))


def attempt(workspace: Workspace, limits: Limits = LIMITS):
    return validate(workspace, limits=limits, fresh=False)


def failed(found) -> dict[str, str]:
    return {verdict.check: verdict.found for verdict in found.verdicts if not verdict.passed}


@pytest.mark.usefixtures("_data")
def test_a_good_project_passes_and_leaves_its_record(tmp_path):
    workspace = make(tmp_path / "w")
    before = project_sha256(workspace.project)

    found = attempt(workspace)

    assert failed(found) == {}
    assert found.passed
    assert found.number == 1
    assert found.diagnosis is None
    assert sorted(path.name for path in found.folder.iterdir()) == [
        "record.json",
        "run.json",
        "stderr.txt",
        "stdout.txt",
        "tests-stderr.txt",
        "tests-stdout.txt",
    ]
    record = found.record
    assert record["command"] == "python run.py --epochs 2 --output runs/validation"
    assert record["tests"]["passed"] == 1
    assert record["tests"]["failed"] == 0
    assert record["peak_memory_gib"] > 0
    assert record["gpu_peak_memory_gib"] is None
    assert record["limits"] == {
        "seconds": 120,
        "memory_gib": 1,
        "gpu_memory_gib": None,
        "output_bytes": 10 * 2**20,
    }
    assert record["machine"]["cores"]
    assert record["evidence"]["read_files"] == {"RESEARCH_DATA/wine.csv": SHA}
    assert found.project_sha256 == before == project_sha256(workspace.project)
    assert not (workspace.project / "runs").exists()
    assert not list(workspace.project.rglob("__pycache__"))
    assert found.lines()[-1] == f"attempt 1 passed; its record: {found.folder}"
    # A record can be shown to anyone: it names no folder of this machine.

    texts = [path.read_text(encoding="utf-8") for path in found.folder.iterdir()]
    assert not [text for text in texts if str(tmp_path) in text or sys.prefix in text]
    assert "of RESEARCH_DATA/wine.csv" in (found.folder / "stdout.txt").read_text()


@pytest.mark.usefixtures("_data")
def test_a_failed_run_is_kept_with_its_cause(tmp_path):
    broken = RUN.replace("from model.line import Line", "import absent_library\nLine = None")
    workspace = make(tmp_path / "w", {"run.py": broken})

    found = attempt(workspace)

    assert set(failed(found)) == {"run ends", "record"}
    assert found.diagnosis == (
        "absent_library is not installed, imported at run.py:9; "
        "add it to requirements.txt: absent_library==VERSION."
    )
    assert not (found.folder / "run.json").exists()
    lines = "\n".join(found.lines())
    assert "FAIL  run ends" in lines
    assert "diagnosis: absent_library is not installed" in lines
    assert f"attempt 1 failed, 2 of {len(found.verdicts)} checks; its record" in lines


@pytest.mark.usefixtures("_data")
def test_a_record_of_another_form_is_told(tmp_path):
    other = RUN.replace('"format": 1', '"format": 2')

    found = attempt(make(tmp_path / "w", {"run.py": other}))

    assert failed(found)["record"].startswith("run.json is not the record of a run: format:")
    assert (found.folder / "run.json").is_file()


@pytest.mark.usefixtures("_data")
def test_failing_tests_are_diagnosed_first(tmp_path):
    wrong = TEST.replace("== 1", "== 2")

    found = attempt(make(tmp_path / "w", {"tests/test_line.py": wrong}))

    assert failed(found)["tests"].startswith("1 failed in")
    assert found.diagnosis.startswith("an assertion does not hold at tests/test_line.py:7")
    assert "FAILED" in (found.folder / "tests-stdout.txt").read_text()


@pytest.mark.usefixtures("_data")
def test_a_project_without_tests_fails(tmp_path):
    found = attempt(make(tmp_path / "w", {"tests/test_line.py": ""}))

    assert failed(found) == {"tests": "there are none"}


@pytest.mark.usefixtures("_data")
def test_settings_of_a_repository_around_do_not_reach_the_tests(tmp_path):
    workspace = make(tmp_path / "w")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (workspace.path / "conftest.py").write_text("raise SystemExit(3)\n")

    assert attempt(workspace).passed


@pytest.mark.usefixtures("_data")
def test_hanging_tests_and_a_hanging_run_are_ended(tmp_path):
    hang = "import time\n\n\ndef test_line():\n    time.sleep(600)\n"
    run = "import time\n\nprint('epoch 1')\ntime.sleep(600)\n"
    workspace = make(tmp_path / "w", {"tests/test_line.py": hang, "run.py": run})

    found = attempt(workspace, Limits(seconds=2, memory_bytes=2**30))

    assert failed(found)["tests"] == "stopped at the limit of time"
    assert failed(found)["run ends"] == "stopped at the time limit"
    assert found.diagnosis.startswith("it was still running ")


@pytest.mark.usefixtures("_data")
def test_what_a_run_left_before_is_not_taken_for_its_record(tmp_path):
    workspace = make(tmp_path / "w", {"run.py": "print('nothing to do')\n"})
    old = workspace.project / "runs" / "validation" / "run.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    kept = workspace.project / "runs" / "mine" / "run.json"
    kept.parent.mkdir()
    kept.write_text("{}")

    found = attempt(workspace)

    assert failed(found)["record"].startswith("no run.json in runs/validation")
    assert kept.is_file()
    assert not old.exists()


def test_requirements_that_cannot_be_installed_are_an_attempt(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    workspace = make(tmp_path / "w", {"requirements.txt": "there-is-no-such-package==1.0\n"})

    found = validate(workspace, limits=LIMITS)

    assert [verdict.check for verdict in found.verdicts] == ["environment"]
    assert not found.passed
    assert "there-is-no-such-package" in found.diagnosis
    assert found.record["tests"] is None
    assert (found.folder / "stderr.txt").is_file()
    told = capsys.readouterr().err
    assert told == "environment: as requirements.txt asks; a new one takes minutes, and is kept\n"


def test_too_few_epochs_and_no_requirements_leave_no_attempt(tmp_path):
    workspace = make(tmp_path / "w")
    with pytest.raises(UsageError, match="--epochs is 1, expected 2 at least: one epoch cannot"):
        validate(workspace, epochs=1)
    (workspace.project / "requirements.txt").unlink()
    with pytest.raises(UsageError, match=r"has no requirements\.txt"):
        validate(workspace)

    assert read_attempts(workspace) == []
    assert not list(workspace.attempts.iterdir())


def test_one_validation_at_a_time(tmp_path):
    from maquette.research.validating.validate import _alone

    workspace = make(tmp_path / "w")
    with _alone(workspace), pytest.raises(RunError, match="Another process validates"):
        attempt(workspace)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("..\n3 passed in 0.1s\n", (3, 0)),
        ("==== 1 failed, 2 passed in 1s ====", (2, 1)),
        ("1 error in 0.1s", (0, 1)),
        ("", (0, 0)),
    ],
)
def test_pytests_last_line_is_read(output, expected):
    assert tuple(counts(output).values()) == expected


def test_the_cache_folder_must_be_writable(tmp_path, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.setenv("MAQUETTE_CACHE", str(blocked))

    with pytest.raises(RunError, match=f"Could not write {blocked / 'research'}"):
        attempt(make(tmp_path / "w"))
