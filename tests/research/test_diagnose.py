"""Diagnoses: the cause in words, the project's line, and what to change."""

from __future__ import annotations

from pathlib import Path

import pytest
from judged_runs import evidence, traceback

from maquette.research.judging.diagnose import diagnose as diagnosed
from maquette.research.judging.diagnose import error_message, project_line
from maquette.research.judging.verdict import Verdict

PROJECT = Path("/w/project")
FAILED = Verdict("run ends", False, "exit code 1", "see the diagnosis")
LIBRARY = "/venv/lib/python3.12/site-packages/torch/nn/linear.py:99"


def diagnose(found, failed=FAILED) -> str:
    return diagnosed(failed, found, PROJECT)


def crashed(message: str, place: str = "/w/project/model/net.py:12", code: int = 1):
    text = traceback(message, "/guard.py:1", place, LIBRARY)
    return evidence(exit_code=code, stderr_tail=text, record=None)


@pytest.mark.parametrize(
    ("message", "cause", "fix"),
    [
        (
            "ModuleNotFoundError: No module named 'sklearn.metrics'",
            "sklearn is not installed, imported at model/net.py:12",
            "requirements.txt: scikit-learn==VERSION",
        ),
        (
            "ModuleNotFoundError: No module named 'model.tabm'",
            "the project has no module model.tabm",
            "write the file",
        ),
        (
            "ModuleNotFoundError: No module named 'pytest'",
            "pytest is not installed",
            "pytest==VERSION",
        ),
        (
            "ImportError: cannot import name 'Net' from 'model.net' (/w/project/model/net.py)",
            "model.net has no Net, at model/net.py:12",
            "correct its name",
        ),
        (
            "NotImplementedError: Batch ensemble: a class",
            "model/net.py:12 is not written yet: Batch ensemble: a class",
            "its docstring",
        ),
        (
            "PermissionError: [Errno 13] This run may not write outside the project and its data "
            "folder: '/etc/x'",
            "changes something outside its folders, at model/net.py:12",
            "below --output",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
            "memory ran out at model/net.py:12",
            "halve the batch size",
        ),
        ("MemoryError", "memory ran out", "halve the batch size"),
        (
            "RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x4 and 5x2)",
            "two shapes do not fit at model/net.py:12",
            "Print the shapes",
        ),
        (
            "ValueError: operands could not be broadcast together with shapes (2,) (3,)",
            "two shapes do not fit",
            "Print the shapes",
        ),
        (
            "RuntimeError: Expected all tensors to be on the same device, but found two",
            "two devices meet",
            ".to(device)",
        ),
        (
            "RuntimeError: expected scalar type Float but found Double",
            "two number types meet",
            ".float()",
        ),
        ("IndexError: Target 7 is out of bounds.", "larger than the model expects", "last layer"),
        (
            "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn",
            "cut off from the parameters",
            ".detach()",
        ),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: 'data/wine.csv'",
            "no file 'data/wine.csv', asked for at model/net.py:12",
            "Path(__file__).parent",
        ),
        (
            "FileNotFoundError: no wine.csv in the mirror (see the README)",
            "a file is missing at model/net.py:12: FileNotFoundError: no wine.csv in the mirror",
            "Path(__file__).parent",
        ),
        (
            "urllib.error.URLError: <urlopen error [Errno -2] Name or service not known>",
            "a download failed",
            "RESEARCH_MIRROR",
        ),
        ("ValueError: wine.csv has sha256 12, expected 34", "not what the plan says", "cache"),
        ("AssertionError: shapes", "an assertion does not hold", "Correct"),
        ("ValueError: loss is nan", "not finite appears", "smaller learning rate"),
        ("KeyError: 'target'", "exit code 1 at model/net.py:12: KeyError: 'target'", ""),
    ],
)
def test_an_error_is_explained_with_place_and_fix(message, cause, fix):
    said = diagnose(crashed(message))

    assert cause in said
    assert fix in said
    assert said.endswith(".")


def test_python_that_cannot_be_read_is_named_by_its_line():
    text = '  File "/w/project/run.py", line 3\n    def (\nSyntaxError: invalid syntax\n'

    said = diagnose(evidence(exit_code=1, stderr_tail=text, record=None))

    assert said == "Python cannot read run.py:3: invalid syntax."


def test_pytest_that_is_missing_is_a_requirement():
    text = "/venv/bin/python: No module named pytest\n"

    assert "add it to requirements.txt: pytest" in diagnose(
        evidence(exit_code=1, stderr_tail=text, record=None)
    )


def test_arguments_that_run_py_does_not_take():
    text = "usage: run.py [-h]\nrun.py: error: unrecognized arguments: --epochs 2\n"

    said = diagnose(evidence(exit_code=2, stderr_tail=text, record=None))

    assert "--epochs N --output FOLDER" in said


def test_our_own_errors_speak_for_themselves():
    text = "epoch 1\nerror: wine.csv has 3 violations:\n  row 1\n"

    said = diagnose(evidence(exit_code=1, stderr_tail=text, record=None))

    assert said == "wine.csv has 3 violations:\n  row 1"


@pytest.mark.parametrize(
    ("code", "says"),
    [(-9, "ran out of memory"), (137, "ran out of memory"), (-11, "bad address"), (-6, "abort")],
)
def test_signals_are_explained(code, says):
    assert says in diagnose(evidence(exit_code=code, record=None))


def test_an_error_without_words():
    found = evidence(exit_code=3, stdout_tail="", record=None)

    assert diagnose(found) == (
        "it ended with exit code 3 at a place the output does not name: no message."
    )


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        ("time_limit", "still running after 61 s. The last it said: 'epoch 1'. When it hangs"),
        ("memory_limit", "held 1.00 GiB of memory and was stopped. The last it said: 'epoch 1'"),
        ("output_limit", "printed without end and was stopped"),
    ],
)
def test_limits_are_explained(ended, says):
    found = evidence(ended=ended, exit_code=None, seconds=61.0, record=None)

    assert says in diagnose(found)


def test_the_place_where_a_program_hangs_is_named():
    stack = (
        "Current thread 0x1 (most recent call first):\n"
        '  File "/venv/lib/python3.12/site-packages/a.py", line 7 in wait\n'
        '  File "/w/project/data/loader.py", line 12 in load\n'
        '  File "/w/project/run.py", line 3 in <module>\n'
    )
    found = evidence(ended="time_limit", exit_code=None, stderr_tail=stack, record=None)

    assert "still running at data/loader.py:12 after 3 s" in diagnose(found)


def test_a_hanging_program_that_printed_nothing():
    found = evidence(ended="time_limit", exit_code=None, stdout_tail="", record=None)

    assert "It had printed nothing." in diagnose(found)


def test_the_first_number_that_is_not_finite_is_named():
    found = evidence(bad_losses=("step 3: nan",), bad_gradients=("step 2: inf in a.weight",))

    said = diagnose(found, Verdict("finite losses", False, "x", "y"))

    assert "step 3: nan; step 2: inf in a.weight" in said
    assert "clip the gradient norm" in said


def test_otherwise_the_verdict_says_it():
    said = diagnose(evidence(), Verdict("record", False, "no run.json", "write it"))

    assert said == "record: no run.json; write it."
    assert "look there first" in diagnose(evidence(), Verdict("record", False, "no run.json"))
    assert "loss falls: x; y." in diagnose(evidence(), Verdict("loss falls", False, "x", "y"))


def test_only_the_projects_own_frames_are_named():
    text = traceback("E", "/w/project/run.py:3", "/w/project/.venv/site-packages/a.py:5", "<x>:1")

    assert project_line(text, PROJECT) == "run.py:3"
    assert project_line(traceback("E", "tests/test_a.py:4"), PROJECT) == "tests/test_a.py:4"
    assert project_line("", PROJECT) == "a place the output does not name"


def test_the_last_error_of_a_chain_is_meant():
    text = traceback("KeyError: 1", "/a:1") + "\nDuring handling\n" + traceback("ValueError: 2")

    assert error_message(text) == "ValueError: 2"
    assert error_message("something else\n") == "something else"
