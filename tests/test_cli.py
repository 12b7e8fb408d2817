"""The command line: thin, polite, quick to answer, and never a traceback."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from maquette.cli import app, main

ROOT = Path(__file__).resolve().parent.parent
IRIS = str(ROOT / "configs" / "iris.yaml")


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    """Shipped recipes name their data relative to the checkout."""
    monkeypatch.chdir(ROOT)


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, stdout and stderr."""
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def test_every_command_has_help_that_ends_with_an_example(capsys):
    for command in app.registered_commands:
        name = command.callback.__name__
        code, out, _ = run(capsys, name, "--help")
        assert code == 0
        assert f"Example: maquette {name}" in " ".join(out.split())


def test_help_and_check_import_nothing_heavy():
    """What keeps `--help` and `check` quick, told without a clock."""
    for arguments in (["--help"], ["check", IRIS]):
        code = (
            "import sys; from maquette.cli import main\n"
            f"try: main({arguments!r})\nexcept SystemExit: pass\n"
            "heavy = {'torch', 'mlflow', 'sklearn', 'matplotlib', 'pandas', 'scipy', 'PIL'}\n"
            "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_python_dash_m_and_version():
    done = subprocess.run(
        [sys.executable, "-m", "maquette", "--version"], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"maquette \d+\.\d+\.\d+\n", done.stdout)


def test_check(capsys, tmp_path):
    code, out, _ = run(capsys, "check", IRIS)
    assert code == 0
    assert "150 samples" in out
    schema = tmp_path / "schema.json"
    code, out, _ = run(capsys, "check", "data/sample/iris.csv", "--infer-schema", schema)
    assert code == 0
    assert "150 rows, 5 columns, no violations" in out
    assert set(json.loads(schema.read_text(encoding="utf-8"))["properties"]) == {
        "sepal_length",
        "sepal_width",
        "petal_length",
        "petal_width",
        "species",
    }
    code, out, _ = run(capsys, "check", "data/sample/iris.csv", "--schema", schema)
    assert code == 0
    code, out, _ = run(capsys, "check", "data/sample/images")
    assert code == 0
    assert "30 samples" in out
    code, out, _ = run(capsys, "check", IRIS, "--infer-schema", tmp_path / "again.json")
    assert code == 0
    assert (tmp_path / "again.json").is_file()


def test_check_lists_every_violation(capsys, tmp_path):
    schema = tmp_path / "schema.json"
    run(capsys, "check", "data/sample/iris.csv", "--infer-schema", schema)
    bad = tmp_path / "bad.csv"
    lines = (ROOT / "data/sample/iris.csv").read_text(encoding="utf-8").splitlines()
    lines[3] = lines[3].replace("4.7", "wide")
    lines[9] = "x," + lines[9].split(",", 1)[1]
    bad.write_text("\n".join(lines), encoding="utf-8")
    code, _, err = run(capsys, "check", bad, "--schema", schema)
    assert code == 1
    assert "2 violations" in err
    assert re.search(r"row 4, column 'sepal_length': 'wide', expected a number", err)
    assert "row 10, column 'sepal_length': 'x'" in err
    code, _, err = run(capsys, "check", IRIS, f"data.tabular.path={bad}", "--schema", schema)
    assert code == 1
    assert "row 10" in err


def test_check_usage(capsys, tmp_path):
    code, _, err = run(capsys, "check", "data/sample/iris.csv", "training.epochs=3")
    assert code == 2
    assert "is not a recipe, so 'training.epochs=3' changes nothing" in err
    colours = str(ROOT / "configs" / "colours.yaml")
    code, _, err = run(capsys, "check", colours, "--infer-schema", tmp_path / "s.json")
    assert code == 2
    assert "describes tables; this recipe's data are images" in err
    code, _, err = run(capsys, "check", "nowhere.csv")
    assert code == 1
    assert "nowhere.csv" in err


def test_train_prints_the_run_folder_last(capsys, tmp_path):
    code, out, err = run(
        capsys,
        "train",
        IRIS,
        "training.epochs=3",
        "evaluation.bootstrap=20",
        f"runs_dir={tmp_path}",
        "tracking.enabled=false",
    )
    assert code == 0, err
    folder = Path(out.strip().splitlines()[-1])
    assert folder.parent == tmp_path
    assert (folder / "summary.json").is_file()
    assert "test/accuracy" in out
    assert "boosted trees" in out
    assert f"report: {folder / 'report.html'}" in out


def test_train_usage(capsys, tmp_path):
    code, _, err = run(capsys, "train")
    assert code == 2
    assert "Give either a recipe to start a run, or --resume" in err
    code, _, err = run(capsys, "train", IRIS, "--resume", tmp_path)
    assert code == 2
    code, _, err = run(capsys, "train", "iriss.yaml")
    assert code == 2
    assert "There is no recipe iriss.yaml" in err
    code, _, err = run(capsys, "train", IRIS, "training.epochs=-1")
    assert code == 2
    assert "training.epochs is -1" in err


def test_unknown_command(capsys):
    code, _, err = run(capsys, "trian")
    assert code == 2
    assert "Did you mean 'train'" in err


def test_predict_a_table(capsys, iris_run, tmp_path):
    output = tmp_path / "answers.csv"
    code, out, err = run(
        capsys, "predict", iris_run.folder, "data/sample/iris.csv", "--output", output
    )
    assert code == 0, err
    assert "150 predictions" in out
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classes = ("setosa", "versicolor", "virginica")
    right = sum(row["prediction"] == row["species"] for row in rows)
    assert right > 120
    for row in rows:
        assert sum(float(row[f"probability_{name}"]) for name in classes) == pytest.approx(1, 1e-4)


def test_predict_names_the_row_that_does_not_fit(capsys, iris_run, tmp_path):
    bad = tmp_path / "bad.csv"
    lines = (ROOT / "data/sample/iris.csv").read_text(encoding="utf-8").splitlines()
    lines[5] = "wide," + lines[5].split(",", 1)[1]
    bad.write_text("\n".join(lines), encoding="utf-8")
    output = tmp_path / "answers.csv"
    code, _, err = run(capsys, "predict", iris_run.folder, bad, "--output", output)
    assert code == 1
    assert "row 6" in err
    assert "'sepal_length'" in err
    assert "'wide'" in err
    assert not output.exists()

    renamed = tmp_path / "renamed.csv"
    renamed.write_text("\n".join(lines).replace("sepal_length", "sepal_lenght"), encoding="utf-8")
    code, _, err = run(capsys, "predict", iris_run.folder, renamed, "--output", output)
    assert code == 1
    assert "has no column 'sepal_length', which the model needs. Did you mean 'sepal_lenght'" in err

    taken = tmp_path / "taken.csv"
    taken.write_text("\n".join(lines).replace("species", "prediction"), encoding="utf-8")
    code, _, err = run(capsys, "predict", iris_run.folder, taken, "--output", output)
    assert code == 1
    assert "already has a column 'prediction'" in err


def test_predict_images(capsys, colours_run, tmp_path):
    output = tmp_path / "answers.jsonl"
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    source = sorted((ROOT / "data/sample/images").glob("*/*.png"))[0]
    (folder / "deep" / "a.png").write_bytes(source.read_bytes())
    (folder / "b.png").write_bytes(b"not a picture")
    code, out, err = run(capsys, "predict", colours_run.folder, folder, "--output", output)
    assert code == 0, err
    assert "1 prediction in" in out
    assert "not read: 1 of 2 files" in out
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [line["image"] for line in lines] == ["b.png", "deep/a.png"]
    assert "error" in lines[0]
    assert sum(lines[1]["probabilities"].values()) == pytest.approx(1, abs=1e-5)

    code, out, _ = run(capsys, "predict", colours_run.folder, source, "--output", output)
    assert code == 0
    assert "1 prediction in" in out


def test_predict_images_that_are_none(capsys, colours_run, tmp_path):
    output = tmp_path / "answers.jsonl"
    code, _, err = run(capsys, "predict", colours_run.folder, tmp_path, "--output", output)
    assert code == 1
    assert "holds no image" in err
    (tmp_path / "b.png").write_bytes(b"not a picture")
    code, _, err = run(capsys, "predict", colours_run.folder, tmp_path, "--output", output)
    assert code == 1
    assert "None of the 1 files" in err
    assert not output.exists()
    code, _, err = run(capsys, "predict", colours_run.folder, tmp_path / "x", "--output", output)
    assert code == 1
    assert "There is no file or folder" in err


def test_evaluate_prints_json(capsys, iris_run):
    code, out, _ = run(capsys, "evaluate", iris_run.folder, "--split", "valid")
    assert code == 0
    assert 0 <= json.loads(out)["accuracy"] <= 1


def test_init_writes_a_recipe_that_trains(capsys, tmp_path):
    recipe = tmp_path / "mine.yaml"
    code, out, err = run(capsys, "init", "data/sample/iris.csv", "--output", recipe)
    assert code == 0, err
    assert f"maquette train {recipe}" in out
    assert "#" in recipe.read_text(encoding="utf-8")
    code, _, err = run(capsys, "init", "data/sample/iris.csv", "--output", recipe)
    assert code == 2
    assert "exists; choose another --output, or --force" in err
    code, out, err = run(capsys, "train", recipe, f"runs_dir={tmp_path}", "tracking.enabled=false")
    assert code == 0, err
    summary = json.loads((Path(out.split()[-1]) / "summary.json").read_text(encoding="utf-8"))
    assert summary["metrics"]["test/accuracy"] > 0.8


def test_init_for_images(capsys, tmp_path):
    recipe = tmp_path / "mine.yaml"
    code, _, err = run(capsys, "init", "data/sample/images", "--output", recipe)
    assert code == 0, err
    code, _, err = run(capsys, "check", recipe)
    assert code == 0, err


def test_init_refuses(capsys, tmp_path):
    output = tmp_path / "r.yaml"
    code, _, err = run(
        capsys, "init", "data/sample/iris.csv", "--target", "specie", "--output", output
    )
    assert code == 2
    assert "Did you mean 'species'" in err
    code, _, err = run(capsys, "init", "nowhere.csv", "--output", output)
    assert code == 1
    code, _, err = run(
        capsys, "init", "data/sample/images", "--target", "colour", "--output", output
    )
    assert code == 2
    assert "folders name the classes" in err
    assert not output.exists()


def test_doctor(capsys):
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    for fact in ("device", "precision", "torch threads", "python", "maquette"):
        assert fact in out


def test_registry_from_end_to_end(capsys, iris_run, tmp_path, monkeypatch):
    """register, models, promote, rollback, serve's URI: as a deployer types them."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs = iris_run.folder.parent
    code, out, err = run(capsys, "register", iris_run.folder)
    assert code == 0, err
    assert "registered as iris version 1 (champion)" in out
    code, out, _ = run(capsys, "models", "--runs-dir", runs)
    assert code == 0
    assert "iris" in out
    code, _, err = run(capsys, "promote", "iriss", "--runs-dir", runs)
    assert code == 1
    assert "Did you mean 'iris'" in err
    code, _, err = run(capsys, "rollback", "iris", "--runs-dir", runs)
    assert code == 1
    assert "nothing to roll back to" in err


def test_compare(capsys, iris_run):
    code, out, _ = run(capsys, "compare", iris_run.folder, iris_run.folder)
    assert code == 0
    assert "test/accuracy" in out


def test_interrupt_is_quiet(capsys, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("maquette.checking.check_source", interrupted)
    code, _, err = run(capsys, "check", IRIS)
    assert code == 130
    assert "Interrupted" in err or err.strip() in ("", "Aborted!")


def test_serve_refuses_what_is_no_bundle(capsys, tmp_path):
    code, _, err = run(capsys, "serve", tmp_path)
    assert code == 1
    assert "is not a bundle" in err


def test_serve_without_its_extra_says_what_to_install(capsys, monkeypatch, iris_run):
    monkeypatch.delitem(sys.modules, "maquette.serve.run", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = run(capsys, "serve", iris_run.folder)
    assert code == 2
    assert "Serving needs uvicorn, which is not installed: pip install 'maquette[serve]'" in err
