"""`research check`: silent on a clean workspace, and each rule names what was changed."""

from __future__ import annotations

import pytest
from check_cases import FILES, findings, where, write_workspace

from maquette.errors import DataError
from maquette.research.checking.check import RULES, Finding, check_workspace, failed
from maquette.research.planning.plan_reading import read_plan
from maquette.research.planning.template import template
from maquette.research.scaffolding.scaffold import create


def edited(name: str, old: str, new: str) -> dict[str, str | None]:
    assert FILES[name].count(old) >= 1, f"{old!r} is not in {name}"
    return {name: FILES[name].replace(old, new, 1)}


def test_a_clean_workspace_has_no_findings(tmp_path):
    assert findings(tmp_path, {}) == ()


def test_a_plan_that_was_read_already_is_not_read_again(tmp_path):
    workspace = write_workspace(tmp_path, FILES)
    plan = read_plan(workspace.plan_file)
    workspace.plan_file.write_text("gone")

    assert check_workspace(workspace, plan) == ()


def test_a_fresh_workspace_lacks_its_items_and_nothing_else(tmp_path):
    plan = tmp_path / "plan.md"
    plan.write_text(template())
    create(tmp_path / "new", plan)

    found = check_workspace(write_workspace(tmp_path / "new", {}))

    assert {finding.rule for finding in found} == {"code", "tests"}
    assert len([f for f in found if f.rule == "code"]) == len(read_plan(plan).items)


def test_notes_alone_do_not_fail_a_check():
    note = Finding(rule="r", path="a.py", line=3, message="It is odd.", remedy="Look.", note=True)
    fault = Finding(rule="r", path="a.py", line=0, message="It is bad.", remedy="Mend it.")

    assert not failed((note,))
    assert failed((note, fault))
    assert str(note) == "a.py:3: note: It is odd. Look. [r]"
    assert str(fault) == "a.py: It is bad. Mend it. [r]"


def test_every_rule_is_told_by_its_name(tmp_path):
    for name, rule in RULES.items():
        assert rule.__name__ == name


STRUCTURE = {
    "no loader": (
        {"project/data/loader.py": None},
        [("layout", "project/data/loader.py", 0)],
        "This file of the layout is missing. Write it, or copy it from a workspace that "
        "`maquette research new` made elsewhere.",
    ),
    "no package": (
        {"project/utils/__init__.py": None},
        [("layout", "project/utils/__init__.py", 0)],
        "missing. Add an empty one: the folder is a package.",
    ),
    "no loss file": (
        {"project/training/loss.py": None},
        [
            ("layout", "project/training/loss.py", 0),
            ("requirements", "project/tests/test_mean_loss.py", 5),
            ("requirements", "project/training/trainer.py", 5),
        ],
        "missing",
    ),
    "no requirements": (
        {"project/requirements.txt": None},
        [("layout", "project/requirements.txt", 0)],
        "missing",
    ),
    "empty README": (
        {"project/README.md": "\n"},
        [("layout", "project/README.md", 0)],
        "The README is empty. Say in a sentence what the project finds out, and how to run it.",
    ),
    "no section": (
        {"notes.md": "## Deviations from Plan\n"},
        [("layout", "notes.md", 0)],
        "There is no section 'Known Issues'. Add the line `## Known Issues`; it may stay empty.",
    ),
    "no notes": (
        {"notes.md": None},
        [("layout", "notes.md", 0), ("layout", "notes.md", 0)],
        "There is no section 'Deviations from Plan'.",
    ),
    "does not parse": (
        edited("project/testing/evaluator.py", "return {", "return {{"),
        [("parses", "project/testing/evaluator.py", 8)],
        "Python cannot parse this file: '{' was never closed. Correct it first: what is in it has "
        "not been checked.",
    ),
    "item does not parse": (
        edited("project/training/loss.py", "def mean_loss(logits, y):", "def mean_loss(logits, y)"),
        [("parses", "project/training/loss.py", 6)],
        "Python cannot parse this file: expected ':'.",
    ),
    "test does not parse": (
        edited("project/tests/test_accuracy.py", "def ", "df "),
        [("parses", "project/tests/test_accuracy.py", 7)],
        "Python cannot parse this file",
    ),
    "run does not parse": (
        edited("project/run.py", "def main()", "def main("),
        [("parses", "project/run.py", 9)],
        "Python cannot parse this file",
    ),
    "run cannot be told where to write": (
        edited("project/run.py", '"--output"', '"--folder"'),
        [("run_arguments", "project/run.py", 0)],
        "Nothing in the project reads the argument --output. `python run.py --epochs 2 --output "
        'FOLDER` must write FOLDER/run.json; add parser.add_argument("--output", …).',
    ),
}


@pytest.mark.parametrize("case", STRUCTURE.values(), ids=STRUCTURE)
def test_structure(case, tmp_path):
    changes, expected, text = case
    found = findings(tmp_path, changes)

    assert where(found) == expected
    assert text in str(found[0])


def test_parameters_of_typer_are_arguments(tmp_path):
    run = "import os\n\n\ndef main(epochs: int = 5, output: str = os.curdir): ...\n"

    assert findings(tmp_path, {"project/run.py": run}) == ()


LOSS = "project/training/loss.py"
FORMULAS = {
    "another formula": (
        edited(LOSS, r"\sum", r"\prod"),
        r"The docstring of mean_loss does not quote the formula of the plan (plan_res.md:15). "
        r"Write `L = \frac{1}{n} \sum_{i=1}^{n} \ell(y_i, \hat y_i)` in it and compute just that; "
        "if the loss is another one, say so in notes.md under Deviations: `- **Mean loss**: why`.",
    ),
    "not a raw docstring": (
        edited(LOSS, 'r"""', '"""'),
        "The docstring of mean_loss loses the backslashes of the formula (plan_res.md:15). "
        'Begin the docstring with r""".',
    ),
}


@pytest.mark.parametrize("case", FORMULAS.values(), ids=FORMULAS)
def test_formulas(case, tmp_path):
    changes, text = case
    (found,) = findings(tmp_path, changes)

    assert where((found,)) == [("formulas", LOSS, 6)]
    assert text in str(found)


def test_the_formula_may_stand_in_the_file_the_class_or_a_method(tmp_path):
    docstring = FILES[LOSS][FILES[LOSS].index('r"""') : FILES[LOSS].rindex('"""') + 3]
    function = "def mean_loss(logits, y):\n    return logits - y\n"
    loss_class = (
        '\n\nclass mean_loss:\n    """A loss."""\n\n'
        f"    def forward(self, x):\n        {docstring}\n        return x\n"
    )

    assert findings(tmp_path / "file", {LOSS: f"{docstring}\n\n\n{function}"}) == ()
    assert findings(tmp_path / "method", {LOSS: loss_class}) == ()


def test_a_loss_that_is_no_function_is_described_in_its_file(tmp_path):
    docstring = FILES[LOSS][FILES[LOSS].index('r"""') : FILES[LOSS].rindex('"""') + 3]
    made = "from functools import partial\nmean_loss = partial(max, 1)\n"
    (found,) = findings(tmp_path / "a", {LOSS: made})

    assert where((found,)) == [("formulas", LOSS, 2)]
    assert findings(tmp_path / "b", {LOSS: f"{docstring}\n{made}"}) == ()
    assert [f.rule for f in findings(tmp_path / "c", {LOSS: "other = max(1, 2)\n"})] == ["code"]


def test_a_deviation_excuses_another_loss(tmp_path):
    notes = "## Deviations from Plan\n- **Mean loss**: a sum instead\n## Known Issues\n"

    assert findings(tmp_path, {**edited(LOSS, r"\sum", "S"), "notes.md": notes}) == ()


def test_unreadable_notes_say_so(tmp_path):
    workspace = write_workspace(tmp_path, FILES)
    workspace.notes_file.write_bytes(b"## Known\xff")

    with pytest.raises(DataError, match=r"notes\.md is not UTF-8 text: byte 8 cannot be read"):
        check_workspace(workspace)

    workspace.notes_file.unlink()
    workspace.notes_file.mkdir()
    with pytest.raises(DataError, match=r"Could not read .*notes\.md: Is a directory"):
        check_workspace(workspace)


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    workspace = write_workspace(tmp_path, FILES)
    plan = read_plan(workspace.plan_file)

    def refused(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", refused)
    with pytest.raises(
        DataError, match=r"Could not read .*README\.md: Permission denied\. Make it"
    ):
        check_workspace(workspace, plan)
