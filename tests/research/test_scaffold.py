"""`maquette research new`: what is laid out, what is refused, what `--update` adds and leaves."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scaffold_cases import (
    DATASETS,
    IRIS,
    LOSSES,
    METRICS,
    MODELS,
    new_workspace,
    plan_text,
    write_items,
)

from maquette.errors import DataError, RunError, UsageError
from maquette.research.planning.plan_reading import read_plan
from maquette.research.scaffolding import scaffold as module
from maquette.research.scaffolding.scaffold import create, update

GUIDE = {
    *("model/__init__.py", "data/__init__.py", "data/dataset.py", "data/loader.py"),
    *("data/preprocess.py", "training/__init__.py", "training/trainer.py", "training/loss.py"),
    *("testing/__init__.py", "testing/evaluator.py", "testing/metrics.py", "utils/__init__.py"),
    *("utils/record.py", "run.py", "requirements.txt", "README.md"),
}
ITEMS = {
    *("model/small_net.py", "tests/test_iris.py", "tests/test_small_net.py"),
    *("tests/test_cross_entropy.py", "tests/test_accuracy.py"),
}


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_layout_is_the_guides(tmp_path: Path):
    workspace = new_workspace(tmp_path)

    assert names_in(workspace) == ["notes.md", "plan_res.md", "project"]
    assert set(files_of(workspace / "project")) >= GUIDE | ITEMS
    assert (workspace / "plan_res.md").read_text() == plan_text()
    notes = (workspace / "notes.md").read_text()
    assert re.findall(r"(?m)^## (.+)$", notes) == ["Deviations from Plan", "Known Issues"]


def test_the_answer_names_what_to_write(tmp_path: Path):
    plan_file = tmp_path / "plan.md"
    plan_file.write_text(plan_text(training="- optimizer: AdamW\n- schedule: cosine\n"))
    workspace = tmp_path / "ws"

    lines = create(workspace, plan_file)

    assert lines[0] == f"{workspace}: 4 items to write, each with its test:"
    assert lines[2] == (
        "  model   Small net: SmallNet in model/small_net.py:6, tests/test_small_net.py"
    )
    assert "  by hand schedule: cosine: write it in project/training/trainer.py" in lines
    assert lines[-1] == f"Write them, then: maquette research check {workspace}"
    loader = (workspace / "project/data/dataset.py").read_text().split("\n")
    assert loader[int(lines[1].split(":")[2].partition(",")[0]) - 1].startswith("def load_iris")


def test_warnings_of_the_plan_are_passed_on(tmp_path: Path):
    plan_file = tmp_path / "plan.md"
    plan_file.write_text(plan_text() + "\n## Budget\nSmall.\n")

    lines = create(tmp_path / "ws", plan_file)

    assert lines[0].startswith(f"note: {plan_file}:")
    assert "the section '## Budget'" in lines[0]


def test_definitions_and_formulas_are_in_the_docstrings(tmp_path: Path):
    project = new_workspace(tmp_path) / "project"

    net = ast.get_docstring(ast.parse((project / "model/small_net.py").read_text()).body[-1])
    loss = ast.get_docstring(ast.parse((project / "training/loss.py").read_text()).body[-1])

    assert "One hidden layer: $h = \\max(0, W x)$." in net
    assert "$$ \\hat y = V h + b $$" in net
    assert "$$ L = -\\frac{1}{B} \\sum_{i=1}^{B} \\log p_{i, y_i} $$" in loss


def test_requirements_are_pinned_to_what_is_installed(tmp_path: Path):
    from importlib.metadata import version

    project = new_workspace(tmp_path) / "project"

    assert (project / "requirements.txt").read_text() == (
        f"numpy=={version('numpy')}\npytest=={version('pytest')}\n"
        f"torch=={version('torch').partition('+')[0]}\n"
    )


def test_ruff_finds_nothing_and_changes_nothing(tmp_path: Path):
    pytest.importorskip("ruff")
    awkward = "".join(
        f"### Part {'very ' * length}long {length}\n"
        f"- code: model/layer{length}.py:Layer{length}\n\n"
        f'Says "{"so " * 40}", and \\odot.\n\n'
        for length in (1, 2, 10, 7)
    )
    metrics = METRICS + "".join(
        f"### A metric that has a rather long name {n}\n- goal: lower\n" for n in range(4)
    )
    project = new_workspace(tmp_path, models=MODELS + awkward, metrics=metrics) / "project"
    ours = Path(__file__).resolve().parents[2] / "pyproject.toml"
    ruff = [sys.executable, "-m", "ruff"]
    for arguments in (
        ["check", "--no-cache", "--isolated", "."],
        ["check", "--no-cache", "--config", str(ours), "--config", 'src=["."]', "."],
        ["format", "--no-cache", "--config", str(ours), "--diff", "."],
    ):
        done = subprocess.run([*ruff, *arguments], cwd=project, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_empty_folder_is_filled(tmp_path: Path):
    (tmp_path / "workspace").mkdir()

    workspace = new_workspace(tmp_path)

    assert set(files_of(workspace / "project")) >= GUIDE
    assert names_in(workspace) == ["notes.md", "plan_res.md", "project"]


def test_a_folder_that_holds_something_is_refused(tmp_path: Path):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "thoughts.txt").write_text("mine")

    with pytest.raises(UsageError) as caught:
        new_workspace(tmp_path)

    assert str(caught.value) == (
        f"{workspace} is not empty (it holds thoughts.txt), and nothing is ever overwritten. Name "
        "a folder that is not there yet. For new items of a changed plan_res.md: maquette research "
        f"new {workspace} --update"
    )
    assert files_of(workspace) == {"thoughts.txt": b"mine"}


def test_a_file_in_the_way_is_refused(tmp_path: Path):
    (tmp_path / "workspace").write_text("mine")

    with pytest.raises(
        UsageError, match=r"workspace cannot be a workspace: Not a directory\. Name"
    ):
        new_workspace(tmp_path)


@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch, exists: bool):
    workspace = tmp_path / "workspace"
    if exists:
        workspace.mkdir()
    write = Path.write_bytes

    def fails(path: Path, content: bytes) -> int:
        if path.name == "run.py":
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fails)

    with pytest.raises(RunError, match=r"No space left on device\. Nothing was left there; free"):
        new_workspace(tmp_path)

    assert workspace.exists() == exists
    assert names_in(tmp_path) == ["plan.md", *(["workspace"] if exists else [])]
    assert not exists or names_in(workspace) == []


def test_a_move_that_fails_is_taken_back(tmp_path: Path, monkeypatch):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    rename = Path.rename

    def fails(path: Path, target: Path) -> Path:
        if path.name == "project":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)

    with pytest.raises(RunError, match="Input/output error"):
        new_workspace(tmp_path)

    assert names_in(workspace) == []


def test_a_local_path_is_seen_from_the_plan_and_moves_with_it(tmp_path: Path):
    shutil.copy(IRIS, tmp_path / "iris.csv")
    plan_file = tmp_path / "plan.md"
    plan_file.write_text(plan_text(datasets="### Iris\n- source: iris.csv\n"))
    workspace = tmp_path / "deep" / "ws"

    lines = create(workspace, plan_file)

    assert lines[0] == (
        f"note: {workspace / 'plan_res.md'}:7: the path is now seen from there: ../../iris.csv"
    )
    assert read_plan(workspace / "plan_res.md").warnings == ()
    dataset = (workspace / "project/data/dataset.py").read_text()
    assert '        path="../../../iris.csv",\n' in dataset
    assert update(workspace) == [f"{workspace}: every item of the plan is there."]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone.csv", r"plan\.md:6: Iris: .*gone\.csv is not there\. Put the file there, or name"),
        (".", r"plan\.md:6: Iris: .* is a folder, which has no checksum; pack it into one zip"),
        (
            f"{IRIS}\n- sha256: {'0' * 64}",
            r"iris\.csv has sha256 [0-9a-f]{64}, the plan says 0{64}\. Replace the file, or",
        ),
    ],
)
def test_a_local_file_that_is_not_as_planned_is_refused(tmp_path: Path, source, message):
    with pytest.raises(DataError, match=message):
        new_workspace(tmp_path, datasets=f"### Iris\n- source: {source}\n")

    assert not (tmp_path / "workspace").exists()


def test_a_local_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch):
    def fails(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("maquette.research.scaffolding.plan_facts.sha256", fails)

    with pytest.raises(RunError, match=r"plan\.md:6: Iris: .* cannot be read: Permission denied\."):
        new_workspace(tmp_path)


def test_an_item_in_a_complete_file_is_refused(tmp_path: Path):
    with pytest.raises(UsageError) as caught:
        new_workspace(tmp_path, models="### Net\n- code: training/trainer.py:Net\n")

    assert str(caught.value) == (
        f"{tmp_path / 'plan.md'}:13: Net: training/trainer.py is written whole, without an item of "
        "the plan. Name another file, such as `- code: training/net.py:Net`."
    )


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            "### A\n- code: model/a.py:Net\n### B\n- code: model/b.py:Net\n",
            r"A would be Net, a name that model/__init__\.py needs already\. Choose another: "
            r"`- code: model/a\.py:Net_model`",
        ),
        (
            "### Record\n",
            r"Record would be Record, a name that run\.py needs already\. Choose another: "
            r"`- code: model/record\.py:Record_model`",
        ),
        (
            "### Exception\n",
            r"Exception would be Exception, a name that Python has already\. Choose another",
        ),
    ],
)
def test_names_that_are_taken_are_refused(tmp_path: Path, models: str, message: str):
    with pytest.raises(UsageError, match=message):
        new_workspace(tmp_path, models=models)


def test_a_word_of_python_is_no_obstacle(tmp_path: Path):
    project = new_workspace(tmp_path, losses=LOSSES.replace("Cross entropy", "Lambda")) / "project"

    for path in project.rglob("*.py"):
        compile(path.read_bytes(), path, "exec")
    assert "def lambda_(" in (project / "training/loss.py").read_text()


def test_code_may_lie_anywhere(tmp_path: Path):
    """Also items of several kinds in one file, and files in folders of their own."""
    pytest.importorskip("ruff")
    project = (
        new_workspace(
            tmp_path,
            datasets=DATASETS.replace("- target", "- code: data/tables/iris.py:load\n- target"),
            models=MODELS.replace(
                "### Small net\n", "### Small net\n- code: training/loss.py:Net\n"
            ),
            metrics=METRICS
            + "### Test error\n- goal: lower\n- code: model/blocks/a.py:test_error\n",
        )
        / "project"
    )

    assert (project / "data/tables/__init__.py").read_text() == ""
    assert "class Net(nn.Module)" in (project / "training/loss.py").read_text()
    # Imported by its own name, pytest would take it for a test.
    assert "from model.blocks import a\n" in (project / "tests/test_test_error.py").read_text()
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--isolated", "."],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_known_files_are_fetched_as_the_catalogue_says(tmp_path: Path):
    project = (
        new_workspace(
            tmp_path,
            datasets="### Adult\n- source: catalogue:adult\n"
            "### Signs\n- source: catalogue:sign_digits\n"
            "### Scans\n- source: catalogue:digits\n"
            "### Words\n- source: https://example.org/v.gz\n- sha256: "
            "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a\n"
            f"### Other\n- source: https://example.org/a%20b.csv?x=1\n- sha256: {'ab' * 32}\n",
        )
        / "project"
    )

    dataset = (project / "data/dataset.py").read_text()
    assert 'file="tabular/adult_train.csv"' in dataset
    assert 'path = fetch_unpacked(SOURCES["signs"]) / "index.csv"' in dataset
    assert 'file="",' in dataset
    assert 'raise NotImplementedError(f"Scans: read it into Splits, by seed {seed}.")' in dataset
    # The catalogue knows these bytes, so a mirror has them under its path.
    assert 'file="clip_vocab/bpe_simple_vocab_16e6.txt.gz"' in dataset
    assert 'file="other/a_b.csv"' in dataset
    assert 'url="https://example.org/a%20b.csv?x=1"' in dataset
    assert "scikit-learn==" in (project / "requirements.txt").read_text()


def test_update_adds_new_items_and_touches_nothing(tmp_path: Path):
    workspace = new_workspace(tmp_path)
    write_items(workspace / "project")
    before = files_of(workspace / "project")
    (workspace / "plan_res.md").write_text(
        plan_text(
            datasets=DATASETS + "### Signs\n- source: catalogue:sign_digits\n",
            models=MODELS + "### Blocks\n- code: model/blocks/net.py:Blocks\n",
            losses=LOSSES + "### Mean error\n",
            metrics=METRICS + "### Log loss\n- goal: lower\n",
        )
    )

    lines = update(workspace)

    after = files_of(workspace / "project")
    assert {name: after[name] for name in before} == before
    assert sorted(set(after) - set(before)) == [
        "model/blocks/__init__.py",
        "model/blocks/net.py",
        "tests/test_blocks.py",
        "tests/test_log_loss.py",
        "tests/test_mean_error.py",
        "tests/test_signs.py",
    ]
    text = "\n".join(lines)
    assert f"written: {workspace / 'project/model/blocks/net.py'}\n" in text
    for expected in (
        "By hand, as no file that was there is touched:\n",
        f"{workspace / 'project/data/dataset.py'} (Signs, the skeleton):\n\n"
        "    from utils.download import fetch_unpacked\n\n\n"
        "    def load_signs(seed: int) -> Splits:\n",
        '(Signs, in SOURCES):\n\n        "signs": Source(\n',
        '(Signs, in DATASETS):\n\n    from data.dataset import load_signs\n        "signs": load',
        "(Blocks, and its name in __all__):\n\n    from model.blocks.net import Blocks\n",
        "(Blocks, in MODELS, unless it is a part of another model):\n",
        "(Mean error, the skeleton):\n\n    from torch import Tensor\n\n\n    def mean_error(",
        "(Mean error, and give it to train):\n\n    from training.loss import mean_error",
        "(Log loss, in METRICS):\n\n    from testing.metrics import log_loss\n",
    ):
        assert expected in text


def test_update_leaves_out_what_the_notes_excuse(tmp_path: Path):
    workspace = new_workspace(tmp_path)
    (workspace / "plan_res.md").write_text(plan_text(models=MODELS + "### Big net\nThe same.\n"))
    (workspace / "notes.md").write_text("## Deviations from Plan\n- **Big net**: too big\n")

    assert update(workspace) == [f"{workspace}: every item of the plan is there."]


def test_update_does_not_guess_about_a_file_it_cannot_parse(tmp_path: Path):
    workspace = new_workspace(tmp_path)
    loss = workspace / "project/training/loss.py"
    loss.write_text("def broken(:\n")

    with pytest.raises(DataError) as caught:
        update(workspace)

    assert str(caught.value) == (
        f"{loss}:1 cannot be parsed (invalid syntax), so nobody can tell what it holds. Correct it "
        "and run again; nothing was written."
    )


def test_update_needs_a_workspace(tmp_path: Path):
    with pytest.raises(UsageError, match=r"is not a research workspace: it has no plan_res\.md"):
        update(tmp_path)


def test_nothing_heavy_is_imported():
    code = f"import sys, {module.__name__}; print(*{{'torch', 'jinja2'}} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
