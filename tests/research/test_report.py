"""The report: its form, its numbers, what it refuses, what a draft says."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from judged_runs import training

from maquette.errors import DataError, RunError, UsageError
from maquette.files import sha256
from maquette.research.numbers.lint import check_numbers, fix, lint
from maquette.research.reporting.report import write_report
from maquette.research.reporting.report_words import (
    code,
    common_decimals,
    decimals_of,
    number,
    plain,
)
from maquette.research.validating.attempts import issues_sha256, project_sha256
from maquette.research.workspace import Workspace

PLAN = r"""
# Does one layer help?
We ask.
## Dataset Plan
### Iris
- source: iris.csv
Flowers.
### Wine
- source: wine.csv
Wines.
## Model Plan
### Net
A layer.
### Big tree
- code: model/trees.py:BigTree
Trees.
### Lost one
Gone.
## Training Plan
- epochs: 9
### Mean loss
$$ L = \ell $$
## Testing Plan
- compare: net against tree
### Accuracy
- goal: higher
- range: 0 to 1
- baseline: the most frequent class
### Log loss
- goal: lower
- baseline: none
"""

PROJECT = {
    "data/dataset.py": 'def load_iris():\n    """Read the flowers."""\n\n\ndef load_wine(): ...\n',
    "model/net.py": 'class Net:\n    """One layer | of *many*.\n\n    More.\n    """\n',
    "model/trees.py": "class BigTree(:\n",
    "training/loss.py": 'import math\n\n\ndef mean_loss():\n    """Average."""\n',
    "testing/metrics.py": 'def accuracy():\n    """Count."""\n',
    "tests/test_net.py": "",
}

NOTES = """\
# Notes
## Deviations from Plan
<!-- one bullet each -->
- **Lost one**: left out, it needs 900 GiB.
## Known Issues
<!-- none so far -->
"""

FULL = [
    training(
        dataset=dataset,
        model=model,
        seed=seed,
        metrics={"accuracy": base + 0.01 * seed + gain * (2 + seed), "log_loss": 0.5 + 0.02 * seed},
        baseline={"accuracy": 0.5},
    )
    for dataset, base in (("iris", 0.8), ("wine", 0.6))
    for model, gain in (("net", 0.01), ("tree", 0.0))
    for seed in range(3)
]


def run_json(trainings: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "command": "python run.py --epochs 2 | tee `log`",
        "epochs": 2,
        "seconds": 41.234,
        "datasets": {
            name: {"sha256": 64 * name[0], "samples": 150}
            for name in dict.fromkeys(t["dataset"] for t in trainings)
        },
        "trainings": trainings,
    } | changes


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def attempt(workspace: Workspace, number: int, *, passed: bool = True, **changes: Any) -> None:
    """Leave an attempt as `validate` does."""
    folder = workspace.attempts / f"{number:03}"
    record = {
        "format": 1,
        "passed": passed,
        "epochs": 2,
        "seconds": 42.06,
        "peak_memory_gib": 0.613,
        "gpu_peak_memory_gib": None,
        "verdicts": [{"check": "loss falls", "passed": passed, "found": "x", "remedy": None}],
        "diagnosis": None if passed else "The loss | rises: lower `lr`.",
        "plan_sha256": sha256(workspace.plan_file),
        "project_sha256": project_sha256(workspace.project),
        "issues_sha256": issues_sha256(workspace),
        "machine": {"processor": "a CPU", "cores": "2"},
        "tests": {"passed": 4, "failed": 0},
    } | changes
    write(folder / "record.json", record)
    if passed:
        trees = training(dataset="wine", model="tree", losses=[], metrics={"accuracy": 0.7})
        nets = [
            training(dataset="iris", losses=[0.51234, 0.3], baseline={}, seed=s) for s in (0, 1)
        ]
        small = training(dataset="wine", losses=[0.00001234], metrics={"accuracy": None})
        write(folder / "run.json", run_json([*nets, small, trees]))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "flowers")
    write(made.plan_file, PLAN)
    for name, content in PROJECT.items():
        write(made.project / name, content)
    write(made.notes_file, NOTES)
    attempt(made, 1, passed=False)
    attempt(made, 2)
    return made


def body(text: str, heading: str) -> str:
    return text.partition(f"## {heading}\n\n")[2].partition("\n\n## ")[0]


def unlinked(text: str) -> str:
    """Return a text as a reader sees it."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


def test_the_report_has_the_sections_of_the_guide_in_their_order(workspace: Workspace) -> None:
    lines = write_report(workspace)
    text = workspace.report_file.read_text()
    assert re.findall(r"^##? (.*)", text, re.MULTILINE) == [
        "Implementation Report",
        "Components Implemented",
        "Quick Validation Results",
        "Deviations from Plan",
        "Known Issues",
        "Record",
    ]
    assert "\nDoes one layer help?\n" in text
    assert lines == [
        f"{workspace.report_file}: 17 numbers, each with its record",
        f"There is no {workspace.results_file}, so it has no section Results. Make it by "
        f"`python run.py --output ../results` in {workspace.project}, and report again.",
    ]
    assert not workspace.summary_file.exists()
    assert lint([workspace.report_file], strict=True) == ()


def test_components_say_where_they_are_and_what_is_missing(workspace: Workspace) -> None:
    write_report(workspace)
    assert body(workspace.report_file.read_text(), "Components Implemented").split("\n") == [
        "- **Iris** (dataset): `load_iris` in [data/dataset.py](project/data/dataset.py). "
        "Read the flowers. It has no test.",
        "- **Wine** (dataset): `load_wine` in [data/dataset.py](project/data/dataset.py). "
        "It has no test.",
        r"- **Net** (model): `Net` in [model/net.py](project/model/net.py). "
        r"One layer \| of \*many\*. Tested by [tests/test_net.py](project/tests/test_net.py).",
        "- **Big tree** (model): there is no `BigTree` in `project/model/trees.py`.",
        "- **Lost one** (model): there is no `LostOne` in `project/model/lost_one.py`. "
        "See Deviations from Plan.",
        "- **Mean loss** (loss): `mean_loss` in [training/loss.py](project/training/loss.py). "
        "Average. It has no test.",
        "- **Accuracy** (metric): `accuracy` in [testing/metrics.py](project/testing/metrics.py). "
        "Count. It has no test.",
        "- **Log loss** (metric): there is no `log_loss` in `project/testing/metrics.py`.",
    ]


@pytest.mark.parametrize(
    ("docstring", "words"),
    [
        ("Net.\n\n    A layer,\n    and a bias. More.\n    ", "A layer, and a bias. Tested"),
        ("Net.\n\n    Formula of the plan:\n\n        $$ x $$\n    ", "Net. Tested"),
        ("Net.", "Net. Tested"),
        ("Maps.\n\n    A layer.\n    ", "Maps. Tested"),
    ],
)
def test_a_component_is_described_by_more_than_its_name(
    workspace: Workspace, docstring: str, words: str
) -> None:
    write(workspace.project / "model/net.py", f'class Net:\n    """{docstring}"""\n')
    attempt(workspace, 3)
    write_report(workspace)
    assert f"(project/model/net.py). {words} by" in workspace.report_file.read_text()


def test_the_validation_in_the_guides_form(workspace: Workspace) -> None:
    write_report(workspace)
    text = body(workspace.report_file.read_text(), "Quick Validation Results")
    assert "- Epochs: [2](attempts/002/run.json#/epochs)" in text
    assert "[0.300](attempts/002/run.json#/trainings/1/losses/1)" in text
    assert "[42.1 s](attempts/002/record.json#/seconds)" in text
    assert unlinked(text).split("\n") == [
        "- Epochs: 2",
        "- Final training loss:",
        "  - `net` on `iris` (seeds `0`, `1`): 0.300 (from 0.512), 0.300 (from 0.512)",
        "  - `net` on `wine` (seed `0`): 1.23e-5",
        "  - `tree` on `wine` (seed `0`): not trained by epochs",
        "- Validation metrics:",
        "  - `accuracy` of `net` on `iris` (seeds `0`, `1`): 0.800, 0.800",
        "  - `accuracy` of `net` on `wine` (seed `0`): not a number; trivial answer 0.600",
        "  - `accuracy` of `tree` on `wine` (seed `0`): 0.700; trivial answer 0.600",
        "- Runtime: 42.1 s",
        "- CPU memory: 0.613 GiB at its peak",
        "- GPU memory: no GPU on this machine",
        "- Tests of the project: 4 passed, 0 failed",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpu_peak_memory_gib": 1.5}, "1.50 GiB at its peak"),
        ({"machine": {"gpu": "H200"}}, "none used"),
    ],
)
def test_gpu_memory(workspace: Workspace, changes: dict[str, Any], words: str) -> None:
    attempt(workspace, 3, **changes, tests=None)
    write_report(workspace)
    text = unlinked(workspace.report_file.read_text())
    assert f"- GPU memory: {words}\n" in text
    assert "Tests of the project" not in text


def test_a_persons_words_are_kept_as_they_are(workspace: Workspace) -> None:
    write_report(workspace)
    text = workspace.report_file.read_text()
    assert body(text, "Deviations from Plan") == "- **Lost one**: left out, it needs 900 GiB."
    assert body(text, "Known Issues") == "- None."
    workspace.notes_file.unlink()
    write_report(workspace)
    assert body(workspace.report_file.read_text(), "Deviations from Plan") == "- None."


def test_the_record_names_attempts_commands_and_checksums(workspace: Workspace) -> None:
    write_report(workspace)
    text = unlinked(body(workspace.report_file.read_text(), "Record"))
    run = sha256(workspace.attempts / "002" / "run.json")
    assert text.strip().split("\n") == [
        "| attempt | outcome | diagnosis | run |",
        "| --- | --- | --- | --- |",
        r"| attempt 001 | failed: loss falls | The loss \| rises: lower `lr`. | 42.1 s |",
        "| attempt 002 | passed | – | 42.1 s |",
        "",
        rf"- Validation: `` python run.py --epochs 2 | tee `log` ``, its record has sha256 `{run}`",
        f"- Plan: sha256 `{sha256(workspace.plan_file)}`",
        f"- Project: sha256 `{project_sha256(workspace.project)}`",
        "- Machine, processor: `a CPU`",
        "- Machine, cores: `2`",
    ]


def full_run(workspace: Workspace, trainings: list[dict[str, Any]]) -> None:
    write(workspace.results_file, run_json(trainings, epochs=9, command="python run.py"))


def test_the_full_run_is_summarised_compared_and_read_out(workspace: Workspace) -> None:
    full_run(workspace, FULL)
    lines = write_report(workspace)
    assert lines[1] == f"{workspace.summary_file}: means and differences of 12 trainings"
    assert lint([workspace.report_file], strict=True) == ()
    text = workspace.report_file.read_text()
    assert "[0.840](summary.json#/means/iris/net/accuracy/mean)" in text
    shown = unlinked(body(text, "Results")).split("\n")
    assert shown == [
        "Means over seeds ± sample deviation, and a Student's t interval of the mean at 95 %.",
        "",
        "### `accuracy`, higher is better",
        "",
        "| data set | model | seeds | mean ± deviation | interval | trivial answer |",
        "| --- | --- | --- | --- | --- | --- |",
        "| `iris` | `net` | 3 | 0.840 ± 0.020 | 0.790 to 0.890 | 0.500 |",
        "| `iris` | `tree` | 3 | 0.810 ± 0.010 | 0.785 to 0.835 | 0.500 |",
        "| `wine` | `net` | 3 | 0.640 ± 0.020 | 0.590 to 0.690 | 0.500 |",
        "| `wine` | `tree` | 3 | 0.610 ± 0.010 | 0.585 to 0.635 | 0.500 |",
        "",
        "### `log_loss`, lower is better",
        "",
        "| data set | model | seeds | mean ± deviation | interval | trivial answer |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| `{dataset}` | `{model}` | 3 | 0.520 ± 0.020 | 0.470 to 0.570 | – |"
            for dataset in ("iris", "wine")
            for model in ("net", "tree")
        ),
        "",
        "### Paired differences",
        "",
        "Each difference is the first model minus the second, both trained on the same data set "
        "with the same seed. The intervals are Student's t over the pairs at 95 %; they are not "
        "widened for the number of comparisons.",
        "",
        "#### `net` against `tree`",
        "",
        "| data set | metric | pairs | mean difference | interval | above, below, equal |",
        "| --- | --- | --- | --- | --- | --- |",
        "| `iris` | `accuracy` | 3 | +0.030 | +0.005 to +0.055 | 3, 0, 0 |",
        "| `iris` | `log_loss` | 3 | 0.0000 | 0.0000 to 0.0000 | 0, 0, 3 |",
        "| `wine` | `accuracy` | 3 | +0.030 | +0.005 to +0.055 | 3, 0, 0 |",
        "| `wine` | `log_loss` | 3 | 0.0000 | 0.0000 to 0.0000 | 0, 0, 3 |",
        "",
        "- On `iris`, `net` against `tree`: higher in `accuracy`, which is better; "
        "equal in `log_loss`.",
        "- On `wine`, `net` against `tree`: higher in `accuracy`, which is better; "
        "equal in `log_loss`.",
        "- Over all data sets, `net` is above `tree` in `accuracy` in 6 and below in 0 of 6 pairs.",
        "- Over all data sets, `net` is above `tree` in `log_loss` in 0 and below in 0 of 6 pairs.",
    ]


def test_a_run_that_is_not_as_long_as_planned_says_so(workspace: Workspace) -> None:
    write(workspace.plan_file, PLAN.replace("- epochs: 9", "- epochs: 20\n- seeds: 5"))
    attempt(workspace, 3)
    full_run(workspace, FULL)
    write_report(workspace)
    text = unlinked(body(workspace.report_file.read_text(), "Results"))
    assert text.startswith(
        "- Epochs of this run: 9; the plan asks for `20`.\n"
        "- Seeds of this run: `0`, `1`, `2`; the plan asks for `5`.\n\nMeans"
    )
    assert lint([workspace.report_file], strict=True) == ()


def test_what_a_thin_run_leaves_open_is_said(workspace: Workspace) -> None:
    trainings = [
        training(dataset="iris", seed=0, metrics={"accuracy": 0.8, "temperature": 1.0}),
        training(dataset="iris", seed=1, metrics={"accuracy": None, "temperature": 1.0}),
        training(dataset="iris", seed=0, model="tree", metrics={"accuracy": 0.7}, baseline={}),
        training(dataset="iris", seed=1, model="tree", metrics={"accuracy": 0.7}, baseline={}),
        training(dataset="iris", seed=2, model="tree", metrics={"accuracy": 0.7}, baseline={}),
        training(dataset="wine", model="tree", metrics={"accuracy": 0.7}, baseline={}),
    ]
    full_run(workspace, trainings)
    write_report(workspace)
    text = unlinked(body(workspace.report_file.read_text(), "Results"))
    assert "### `temperature`, not a metric of the plan" in text
    assert "| `iris` | `net` | 2 | none: 1 not a number | – | 0.6000 |" in text
    assert "| `wine` | `tree` | 1 | 0.7000 | – | – |" in text
    assert "| `iris` | `accuracy` | 2, 1 without a partner | none: 1 not a number | – |" in text
    assert "whether `accuracy` differs cannot be told." in text
    assert lint([workspace.report_file], strict=True) == ()


def test_models_without_a_common_data_set(workspace: Workspace) -> None:
    full_run(workspace, [training(dataset="iris"), training(dataset="wine", model="tree")])
    write_report(workspace)
    assert "They have no data set and metric in common." in workspace.report_file.read_text()


def test_the_same_records_give_the_same_bytes(workspace: Workspace, tmp_path: Path) -> None:
    full_run(workspace, FULL)
    write_report(workspace)
    first = workspace.report_file.read_bytes(), workspace.summary_file.read_bytes()
    write_report(workspace)
    assert (workspace.report_file.read_bytes(), workspace.summary_file.read_bytes()) == first
    elsewhere = Workspace(tmp_path / "elsewhere" / "flowers")
    shutil.copytree(workspace.path, elsewhere.path)
    write_report(elsewhere)
    assert (elsewhere.report_file.read_bytes(), elsewhere.summary_file.read_bytes()) == first


def test_a_record_that_changed_after_the_report_is_found(workspace: Workspace) -> None:
    write_report(workspace)
    record = workspace.attempts / "002" / "record.json"
    write(record, record.read_text().replace("42.06", "55.5"))
    problems = lint([workspace.report_file])
    assert len(problems) == 2
    for problem in problems:
        assert "[42.1 s] is stale: attempts/002/record.json#/seconds is 55.5" in problem.message
    fix(problems)
    assert check_numbers([workspace.report_file], strict=True).problems == []


def test_a_stale_number_of_the_notes_is_told(workspace: Workspace) -> None:
    write(workspace.notes_file, "## Known Issues\nSlow: [9 s](attempts/002/record.json#/seconds)\n")
    lines = write_report(workspace)
    assert "[9 s] is stale" in lines[-1]


def test_no_report_without_a_validation_that_passed(workspace: Workspace) -> None:
    shutil.rmtree(workspace.attempts / "002")
    with pytest.raises(RunError) as caught:
        write_report(workspace)
    assert str(caught.value) == (
        "No validation of flowers has passed (1 tried). Run: maquette research validate "
        f"{workspace.path}; or write a draft that says so, with --draft."
    )
    assert not workspace.report_file.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plan_res.md", "plan_res.md has changed since attempt 2, the last that passed."),
        ("project/model/net.py", "project/ has changed since attempt 2, the last that passed."),
    ],
)
def test_no_report_on_something_else_than_was_validated(
    workspace: Workspace, name: str, words: str
) -> None:
    with (workspace.path / name).open("a") as file:
        file.write("\n")
    with pytest.raises(RunError, match=f"^{re.escape(words)} Run: maquette research validate"):
        write_report(workspace)
    assert write_report(workspace, draft=True)[-1] == f"draft: {words}"
    assert f"> **Draft, not validated.** {plain(words)}" in workspace.report_file.read_text()


def test_a_draft_before_any_validation(workspace: Workspace) -> None:
    shutil.rmtree(workspace.attempts)
    full_run(workspace, FULL)
    write_report(workspace, draft=True)
    text = workspace.report_file.read_text()
    assert "> **Draft, not validated.** No validation of flowers has passed.\n" in text
    assert body(text, "Quick Validation Results") == "No validation has passed."
    assert "- Full run: `python run.py`" in body(text, "Record")
    workspace.results_file.unlink()
    write_report(workspace, draft=True)
    assert workspace.report_file.read_text().endswith("## Record\n\nThere is none yet.\n")


@pytest.mark.parametrize(
    ("datasets", "words"),
    [
        ({"iris": {"sha256": "f" * 64, "samples": 9}}, "read with another sha256"),
        ({"moons": {"sha256": "f" * 64, "samples": 9}}, "did not read"),
    ],
)
def test_a_full_run_on_other_data_is_refused(
    workspace: Workspace, datasets: dict[str, Any], words: str
) -> None:
    write(workspace.results_file, run_json(FULL, datasets=datasets))
    with pytest.raises(DataError) as caught:
        write_report(workspace)
    assert str(caught.value) == (
        f"{workspace.results_file} is of {next(iter(datasets))}, sha256 ffffffffffff…, which the "
        f"validation {words}. Repeat the full run on the plan's data, or validate again."
    )


def test_records_and_notes_that_cannot_be_read(workspace: Workspace) -> None:
    full_run(workspace, [training(dataset="iris")])
    with pytest.raises(UsageError, match=r"compare: Unknown model of results/run\.json 'tree'"):
        write_report(workspace)
    assert not workspace.summary_file.exists()
    write(workspace.results_file, "{")
    with pytest.raises(DataError, match="is not the record of a run"):
        write_report(workspace)
    workspace.results_file.unlink()
    workspace.notes_file.write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"notes\.md"):
        write_report(workspace)


def test_names_that_look_like_markdown_stay_names(workspace: Workspace) -> None:
    odd = "a|b `c`\n[d](e) 7"
    trainings = [training(dataset="iris", model=odd, metrics={"p/q~": 0.5})]
    full_run(workspace, trainings)
    write(workspace.plan_file, PLAN.replace("- compare: net against tree\n", ""))
    attempt(workspace, 3)
    write_report(workspace)
    assert lint([workspace.report_file], strict=True) == ()
    assert r"| ``a\|b `c` [d](e) 7`` |" in workspace.report_file.read_text()


@pytest.mark.parametrize(
    ("value", "decimals"),
    [(0.0, 0), (3.0, 0), (0.412345, 3), (12.54, 1), (1234.5, 0), (0.00123, 5), (-0.5, 3)],
)
def test_three_digits_are_shown(value: float, decimals: int) -> None:
    assert decimals_of(value) == decimals


def test_decimals_of_a_table_follow_its_deviations() -> None:
    assert common_decimals([0.012, 0.02, 0.5, None, 0.0]) == 3
    assert common_decimals([120.0]) == 0
    assert common_decimals([1e-12]) == 6
    assert common_decimals([None]) == 4


def test_words_and_numbers() -> None:
    assert code("") == "(no name)"
    assert code("`a`") == "`` `a` ``"
    assert plain("a `b_c` -> ` $d") == r"a `b_c` -> \` \$d"
    assert plain("a_b\n<c>") == r"a\_b \<c>"
    assert number(None, "r.json", "a") == "not a number"
