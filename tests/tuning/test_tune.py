"""`maquette tune` from a recipe to the best recipe, with real trainings."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from maquette.errors import DataError, RunError, UsageError
from maquette.recipe import read_recipe
from maquette.tuning import trial as trial_module
from maquette.tuning import worker as worker_module
from maquette.tuning.search import Search, reopen, tune
from maquette.tuning.worker import run_workers

ROOT = Path(__file__).resolve().parents[2]
RECIPE = f"""\
name: iris
data:
  tabular:
    path: {ROOT / "data/sample/iris.csv"}
    target_column: species
model: {{type: tabular, name: mlp, architecture: {{hidden_layers: [8]}}}}
training: {{epochs: 3, warmup_epochs: 1, learning_rate: 0.01, log_every: 1}}
tracking: {{enabled: false}}
tune:
  trials: 3
  startup_trials: 2
  space:
    training.learning_rate: {{low: 0.001, high: 0.1, log: true}}
    training.batch_size: [16, 64]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe whose search has ended."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "iris.yaml").write_text(RECIPE)
    tune(folder / "iris.yaml", [f"runs_dir={folder / 'runs'}"])
    return folder


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    """The same for one test alone."""
    shutil.copytree(place / "runs", tmp_path / "runs")
    shutil.copy(place / "iris.yaml", tmp_path)
    return tmp_path


def again(place: Path, *overrides: str, **options: object):
    return tune(place / "iris.yaml", [f"runs_dir={place / 'runs'}", *overrides], **options)


def trial_folders(place: Path) -> list[str]:
    return sorted(path.name for path in (place / "runs/tuning/iris").glob("trial-*"))


def test_a_search_leaves_everything(place: Path):
    assert {path.name for path in (place / "runs").iterdir()} == {"tuning"}
    folder = place / "runs/tuning/iris"
    assert {path.name for path in folder.iterdir()} == {
        "recipe.yaml",
        "best.yaml",
        "report.html",
        *trial_folders(place),
    }
    search = reopen(place / "runs/tuning/iris.db")
    best, trials = search.study.best(), search.study.trials()
    assert best is not None
    assert len(trials) == 3
    assert dict(trials[0].values) == {"training.learning_rate": 0.01, "training.batch_size": 64}
    assert best.value == min(trial.value for trial in trials if trial.value is not None)
    assert [trial.name for trial in trials if trial.state == "complete"] == trial_folders(place)
    bundles = [path.parent.parent.name for path in folder.glob("trial-*/*/bundle")]
    assert bundles == [best.name]
    assert not list(folder.glob("trial-*/*/checkpoints"))


def test_the_best_recipe_trains_and_reaches_the_value(place: Path):
    from maquette.lifecycle import train

    file = place / "runs/tuning/iris/best.yaml"
    text = file.read_text(encoding="utf-8")
    best = reopen(place / "runs/tuning/iris.db").study.best()
    assert text.startswith(
        f"# maquette train {file}\n"
        f"# The best of 3 trials of the study 'iris' in {place / 'runs/tuning/iris.db'}:\n"
        f"# trial {best.number}, valid/loss {best.value:.6g}, chosen on the validation split.\n"
        f"#   training.learning_rate: {best.values['training.learning_rate']:.4g}\n"
    )
    content = yaml.safe_load(text)
    assert "tune" not in content
    assert content["training"]["epochs"] == 3
    assert "evaluation" not in content  # only what was given, and what was found
    run = train(file, ["evaluation.bootstrap=0", "evaluation.baselines=false"])
    assert run.metrics["valid/loss"] == pytest.approx(best.value)
    shutil.rmtree(run.folder)


def test_the_page(place: Path):
    page = (place / "runs/tuning/iris/report.html").read_text(encoding="utf-8")
    for words in (
        "Search of 2 recipe keys by valid/loss",
        "All keys at once",
        "trial-",
        "# maquette",
    ):
        assert (words in page) == (words != "trial-")
    assert page.count("<svg") >= 4
    assert "http" not in re.sub(r"http://www\.w3\.org\S*", "", page).replace("http-equiv", "")


def test_called_again_nothing_is_trained(copy: Path, monkeypatch, capsys):
    monkeypatch.setattr(trial_module, "train", None)
    before = trial_folders(copy)
    tuned = again(copy)
    assert len(tuned.trials) == 3
    assert trial_folders(copy) == before
    lines = tuned.lines()
    assert re.fullmatch(r"3 trials: \d ran to their end, \d were stopped early, 0 failed", lines[0])
    assert lines[1] == f"best: trial {tuned.best.number}, valid/loss {tuned.best.value:.6g}"
    assert lines[-3:] == [
        f"report: {copy / 'runs/tuning/iris/report.html'}",
        "not tracked, as the recipe says",
        f"train it: maquette train {copy / 'runs/tuning/iris/best.yaml'}",
    ]


def test_a_longer_search_goes_on(copy: Path, capsys):
    killed = copy / "runs/tuning/iris/trial-0099"
    killed.mkdir()
    tuned = again(copy, "tune.trials=4", output=copy / "mine.yaml")
    assert not killed.exists()
    assert [trial.number for trial in tuned.trials] == [0, 1, 2, 3]
    assert (copy / "mine.yaml").is_file()
    assert re.search(
        r"^trial 3 \(4/4\): training\.learning_rate 0\.\d+, training\.batch_size \d+: .*; best",
        capsys.readouterr().err,
        re.M,
    )


def test_another_recipe_is_refused(copy: Path):
    with pytest.raises(UsageError, match=r"training\.epochs was 3, is 4\. Its trials cannot be"):
        again(copy, "training.epochs=4")
    with pytest.raises(UsageError, match=r"tune\.share was 1\.0, is 0\.5"):
        again(copy, "tune.share=0.5")


def test_shorter_trials_say_so_in_the_best_recipe(tmp_path: Path):
    (tmp_path / "iris.yaml").write_text(RECIPE)
    tuned = again(
        tmp_path, "training.epochs=4", "tune.share=0.5", "tune.trials=1", "tune.prune=off"
    )
    assert tuned.trials[0].curve[-1][0] == 2
    text = tuned.recipe.read_text(encoding="utf-8")
    assert "# Its trials ran 2 epochs (tune.share 0.5); this recipe runs 4.\n" in text
    assert read_recipe(tuned.recipe).training.epochs == 4


def test_two_workers_share_a_search(copy: Path):
    tuned = again(copy, "tune.trials=5", workers=2)
    assert [trial.number for trial in tuned.trials] == [0, 1, 2, 3, 4]
    assert len({str(trial.values) for trial in tuned.trials}) == 5


def test_what_stops_a_worker_is_told(copy: Path):
    (copy / "runs/tuning/iris/recipe.yaml").unlink()
    with pytest.raises(UsageError, match="There is no recipe"):
        run_workers(2, file=copy / "runs/tuning/iris.db", threads=1)


def test_a_worker_that_is_killed_leaves_its_status():
    error = worker_module._error_of("", status=-9)
    assert isinstance(error, RunError)
    assert str(error) == (
        "A worker of the search ended with status -9; what it said is above. Finished trials are "
        "kept: the same command goes on, and fewer --workers take less memory."
    )


def test_a_worker_in_this_process(copy: Path, capsys):
    file = copy / "runs/tuning/iris.db"
    assert worker_module.main([str(file), "1"]) == 0
    (copy / "runs/tuning/iris/recipe.yaml").unlink()
    assert worker_module.main([str(file), "1"]) == 2
    assert '"kind": "RecipeError"' in capsys.readouterr().out


def test_what_a_search_cannot_begin_with(tmp_path: Path):
    (tmp_path / "iris.yaml").write_text(RECIPE)
    with pytest.raises(UsageError) as error:
        again(tmp_path, workers=0)
    assert str(error.value) == "--workers is 0; a search needs at least 1."
    with pytest.raises(UsageError) as error:
        again(tmp_path, "tune.monitor=test/loss")
    assert str(error.value) == (
        "tune.monitor is 'test/loss'; a search is judged on the validation split, for example by "
        "valid/loss."
    )
    with pytest.raises(UsageError, match="There is nothing to search"):
        again(tmp_path, "tune=")
    assert not (tmp_path / "runs").exists()


def test_an_unknown_metric_ends_the_search(tmp_path: Path):
    (tmp_path / "iris.yaml").write_text(RECIPE)
    with pytest.raises(UsageError, match=r"Unknown tune\.monitor 'valid/acuracy'\. Did you mean"):
        again(tmp_path, "tune.monitor=valid/acuracy")
    assert trial_folders(tmp_path) == []
    assert reopen(tmp_path / "runs/tuning/iris.db").study.trials() == []


def test_bad_data_end_the_search(tmp_path: Path):
    (tmp_path / "iris.yaml").write_text(RECIPE)
    with pytest.raises(DataError, match=r"gone\.csv"):
        again(tmp_path, "data.tabular.path=gone.csv")
    assert trial_folders(tmp_path) == []


def test_a_search_in_which_all_fails(tmp_path: Path):
    (tmp_path / "iris.yaml").write_text(RECIPE)
    (tmp_path / "not a folder").write_text("")
    changes = [
        "training.checkpoint.enabled=false",
        f"runs_dir={tmp_path / 'runs'}",
        "tune.space={training.final_learning_rate: [0.5, 0.6]}",
    ]
    with pytest.raises(UsageError, match=r"final_learning_rate 0\.5 is above learning_rate"):
        tune(tmp_path / "iris.yaml", changes)
    changes[-1] = "tune.space={training.learning_rate: [1.0e+18, 1.0e+19]}"
    with pytest.raises(RunError, match="The first 3 trials failed, so the search stops"):
        tune(tmp_path / "iris.yaml", [*changes, "training.optimizer=sgd", "tune.trials=4"])


def test_none_ran_to_its_end(copy: Path, monkeypatch):
    with pytest.raises(RunError) as error:
        again(copy, "tune.trials=1", storage=empty_study(copy, monkeypatch))
    assert str(error.value) == (
        f"None of the 1 trials of the study in {copy / 'other.db'} ran to its end, so there is no "
        "best recipe. The last failure: valid/loss is nan, so it cannot be compared."
    )


def empty_study(place: Path, monkeypatch) -> Path:
    """A study whose trials end with a value that cannot be compared."""

    class Run:
        metrics = {"valid/loss": float("nan")}  # noqa: RUF012

    monkeypatch.setattr(trial_module, "train", lambda *_, **__: Run)
    return place / "other.db"


def test_an_interrupt_keeps_what_has_ended(copy: Path, monkeypatch, capsys):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trial_module, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        again(copy, "tune.trials=9")
    assert "The trials that ended are kept: the same command goes on from here." in (
        capsys.readouterr().err
    )
    assert len(reopen(copy / "runs/tuning/iris.db").study.trials()) == 3
    assert isinstance(reopen(copy / "runs/tuning/iris.db"), Search)
