"""The record of attempts: read back, counted, and when a person is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_workspaces import NOTES, make

from maquette.errors import DataError, RunError
from maquette.files import sha256
from maquette.research.validating.attempts import (
    ask_a_person_if_stuck,
    attempt_folders,
    issues_sha256,
    known_issues,
    project_files,
    project_sha256,
    read_attempts,
)
from maquette.research.workspace import Workspace

ENTRY = "- **loss falls**: tried three learning rates; is the formula right?\n"


def add(workspace: Workspace, *, passed: bool = False, check: str = "loss falls") -> Path:
    """Write the record of one attempt on the plan and notes as they are now."""
    number = len(attempt_folders(workspace)) + 1
    folder = workspace.attempts / f"{number:03}"
    folder.mkdir(parents=True)
    verdicts = [{"check": "time", "passed": True, "found": "1 s", "remedy": None}]
    verdicts.append({"check": check, "passed": passed, "found": "x", "remedy": None})
    record = {
        "passed": passed,
        "verdicts": verdicts,
        "diagnosis": None if passed else "the step is too large.",
        "plan_sha256": sha256(workspace.plan_file),
        "project_sha256": "0",
        "issues_sha256": issues_sha256(workspace),
    }
    (folder / "record.json").write_text(json.dumps(record))
    return folder


def ask(workspace: Workspace) -> None:
    ask_a_person_if_stuck(workspace, read_attempts(workspace))


def test_attempts_are_read_in_order(tmp_path):
    workspace = make(tmp_path / "w")
    assert read_attempts(workspace) == []
    for passed in (False, True):
        add(workspace, passed=passed)
    (workspace.attempts / ".003.part").mkdir()
    (workspace.attempts / "notes").mkdir()

    found = read_attempts(workspace)

    assert [(one.number, one.passed) for one in found] == [(1, False), (2, True)]
    assert found[0].run_file == workspace.attempts / "001" / "run.json"
    assert found[0].verdicts[1].check == "loss falls"


def test_three_failures_ask_for_a_person(tmp_path):
    workspace = make(tmp_path / "w")
    for _ in range(2):
        add(workspace)
    ask(workspace)
    add(workspace)

    with pytest.raises(RunError) as error:
        ask(workspace)

    assert "3 attempts in a row have failed, the last one at 'loss falls'" in str(error.value)
    assert "the step is too large." in str(error.value)
    assert "- **loss falls**: what was tried, and what is asked" in str(error.value)
    assert str(workspace.notes_file) in str(error.value)


def test_an_entry_that_names_the_problem_grants_three_more(tmp_path):
    workspace = make(tmp_path / "w")
    for _ in range(3):
        add(workspace)
    workspace.notes_file.write_text(NOTES + ENTRY)
    for _ in range(3):
        ask(workspace)
        add(workspace)

    with pytest.raises(RunError, match="6 attempts in a row"):
        ask(workspace)


@pytest.mark.parametrize(
    "entry",
    [
        "- **time**: too slow\n",
        "- loss falls: no bold\n",
        "- **loss falls**:\n",
        f"<!-- {ENTRY} -->\n",
        f"\n## Other\n\n{ENTRY}",
    ],
)
def test_another_entry_does_not(tmp_path, entry):
    workspace = make(tmp_path / "w")
    for _ in range(3):
        add(workspace)
    workspace.notes_file.write_text(NOTES + entry)

    with pytest.raises(RunError, match="3 attempts in a row"):
        ask(workspace)


def test_an_entry_that_was_there_all_along_does_not(tmp_path):
    workspace = make(tmp_path / "w")
    workspace.notes_file.write_text(NOTES + ENTRY)
    for _ in range(3):
        add(workspace)

    with pytest.raises(RunError, match="3 attempts in a row"):
        ask(workspace)


def test_a_pass_and_a_changed_plan_start_afresh(tmp_path):
    workspace = make(tmp_path / "w")
    for passed in (False, False, True, False, False):
        add(workspace, passed=passed)
    ask(workspace)
    add(workspace)
    with pytest.raises(RunError, match="3 attempts in a row"):
        ask(workspace)
    workspace.plan_file.write_text(workspace.plan_file.read_text() + "\nMore.\n")
    ask(workspace)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not the record of an attempt: Expecting"),
        ("{}", "is not the record of an attempt: the key 'passed' is missing"),
        ('{"passed": true, "verdicts": [{"a": 1}]}', "is not the record of an attempt: "),
        (None, "Could not read"),
    ],
)
def test_a_damaged_record_is_told(tmp_path, text, says):
    workspace = make(tmp_path / "w")
    folder = add(workspace)
    (folder / "record.json").unlink()
    if text is not None:
        (folder / "record.json").write_text(text)

    with pytest.raises(DataError, match=says) as error:
        read_attempts(workspace)

    assert f"remove the folder {folder}" in str(error.value)


def test_known_issues_are_the_text_of_their_section(tmp_path):
    workspace = make(tmp_path / "w")
    assert known_issues(workspace) == ""
    workspace.notes_file.write_text(NOTES + "one\n### sub\n<!-- two -->\n\n## Next\nthree\n")
    assert known_issues(workspace) == "one\n### sub"
    workspace.notes_file.unlink()
    assert known_issues(workspace) == ""
    workspace.notes_file.write_bytes(b"\xff")
    with pytest.raises(DataError, match="Could not read"):
        known_issues(workspace)


def test_a_projects_checksum_is_that_of_what_a_person_wrote(tmp_path):
    project = make(tmp_path / "w").project
    before = project_sha256(project)
    for name in ("runs/a/run.json", "data/cache/x.csv", ".hidden/x", "model/__pycache__/x.pyc"):
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert project_sha256(project) == before
    assert "data/cache/x.csv" not in [
        str(path.relative_to(project)) for path in project_files(project)
    ]

    (project / "data" / "dataset.py").write_text("")
    added = project_sha256(project)
    (project / "data" / "dataset.py").rename(project / "data" / "other.py")

    assert len({before, added, project_sha256(project)}) == 3
