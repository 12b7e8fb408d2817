"""The verbs of `maquette research`: help, exit codes, and what they print."""

from __future__ import annotations

import subprocess
import sys

import pytest
from small_workspaces import PLAN, data_cache, make

from maquette.cli import main
from maquette.research.commands import app, plan_app

COMMANDS = [[command.callback.__name__] for command in app.registered_commands]
PLAN_COMMANDS = [["plan", str(command.name)] for command in plan_app.registered_commands]


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, stdout and stderr."""
    code = 0
    try:
        main(["research", *(str(argument) for argument in arguments)])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


@pytest.mark.parametrize("command", COMMANDS + PLAN_COMMANDS, ids=" ".join)
def test_every_command_has_help_that_ends_with_an_example(capsys, command):
    code, out, _ = run(capsys, *command, "--help")

    assert code == 0
    assert f"Example: maquette research {' '.join(command)}" in " ".join(out.split())


def test_every_verb_is_there():
    names = [command[-1] for command in COMMANDS + PLAN_COMMANDS]

    assert names == ["new", "check", "validate", "report", "lint", "template", "check"]


def test_the_template_is_a_plan_that_can_be_read(capsys, tmp_path):
    code, text, _ = run(capsys, "plan", "template")
    assert code == 0
    plan = tmp_path / "plan_res.md"
    plan.write_text(text)

    code, out, _ = run(capsys, "plan", "check", plan)

    assert code == 0
    assert "note:" not in out
    assert "tested in tests/test_" in out


def test_plan_check_lists_items_and_notes(capsys, tmp_path):
    plan = tmp_path / "plan.md"
    plan.write_text(PLAN.replace("y = a x", r"y = \\frac{a"))

    code, out, _ = run(capsys, "plan", "check", plan)

    assert code == 0
    assert "note: " in out
    assert "metric  Accuracy: testing/metrics.py:accuracy, tested in tests/test_accuracy.py" in out


def test_a_plan_that_is_not_there(capsys, tmp_path):
    code, _, err = run(capsys, "plan", "check", tmp_path / "none.md")

    assert code != 0
    assert "none.md" in err


def test_new_check_and_what_is_to_be_written(capsys, tmp_path):
    plan, workspace = tmp_path / "plan.md", tmp_path / "w"
    plan.write_text(PLAN)

    code, out, _ = run(capsys, "new", workspace, "--plan", plan)
    assert code == 0
    assert "items to write" in out

    code, out, _ = run(capsys, "check", workspace)
    assert code == 1
    assert "project/model/line.py" in out

    code, out, _ = run(capsys, "new", workspace, "--update")
    assert code == 0
    assert "every item of the plan is there" in out


def test_new_needs_a_plan_or_update(capsys, tmp_path):
    for arguments in (["new", tmp_path / "w"], ["new", tmp_path, "--update", "--plan", "p.md"]):
        code, _, err = run(capsys, *arguments)
        assert code == 2
        assert "Give either --plan PLAN to make a workspace, or --update" in err


def test_a_folder_that_is_no_workspace(capsys, tmp_path):
    for verb in ("check", "validate", "report"):
        code, _, err = run(capsys, verb, tmp_path)
        assert code == 2
        assert "is not a research workspace: it has no plan_res.md" in err


def test_validate_then_report(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("RESEARCH_DATA", str(data_cache(tmp_path / "data")))
    workspace = make(tmp_path / "w")

    code, out, err = run(capsys, "validate", workspace.path, "--no-fresh")
    assert code == 0
    assert "attempt 1 passed" in out
    assert err == "tests: those of the project\nrun: 2 epochs on the data of the plan\n"

    code, out, _ = run(capsys, "report", workspace.path)
    assert code == 0
    assert "ml_res.md" in out
    assert run(capsys, "lint", workspace.report_file, "--strict")[0] == 0

    (workspace.project / "run.py").write_text("raise SystemExit(4)\n")
    code, _, err = run(capsys, "report", workspace.path)
    assert code == 1
    assert "project/ has changed since attempt 1" in err
    assert run(capsys, "report", workspace.path, "--draft")[0] == 0

    code, out, _ = run(capsys, "validate", workspace.path, "--no-fresh")
    assert code == 1
    assert "exit code 4" in out


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--time-limit", "0", "--time-limit is 0, expected a number above 0, such as 1800."),
        ("--memory-limit", "-1", "--memory-limit is -1, expected a number above 0, such as 8."),
        ("--memory-limit", "inf", "--memory-limit is inf, expected a number above 0"),
        ("--gpu-memory-limit", "0", "--gpu-memory-limit is 0, expected a number above 0"),
        ("--epochs", "1", "--epochs is 1, expected 2 at least"),
    ],
)
def test_limits_must_be_above_zero(capsys, tmp_path, option, value, says):
    code, _, err = run(capsys, "validate", make(tmp_path / "w").path, option, value)

    assert code == 2
    assert says in err


def test_lint_finds_and_mends(capsys, tmp_path):
    (tmp_path / "r.json").write_text('{"a": 0.852}')
    page = tmp_path / "page.md"
    page.write_text("It is [0.81](r.json#/a).\n")

    code, out, _ = run(capsys, "lint", page)
    assert code == 1
    assert f"{page}:1: " in out

    code, out, _ = run(capsys, "lint", page, "--fix")
    assert code == 0
    assert "1 numbers in 1 files are those of their records" in out
    assert page.read_text() == "It is [0.85](r.json#/a).\n"


def test_commands_import_nothing_heavy(tmp_path):
    workspace = make(tmp_path / "w")
    code = (
        "import sys; from maquette.cli import main\n"
        f"try: main(['research', 'check', {str(workspace.path)!r}])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'sklearn', 'numpy', 'pandas', 'PIL'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
