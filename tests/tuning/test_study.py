"""The study: trials are handed out once, kept, resumed, and told apart."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from tuning_cases import SPACE, opened

from maquette.errors import RunError, UsageError
from maquette.tuning import study as study_module
from maquette.tuning.study import Study


def run_all(study: Study, limit: int, **more: object) -> list[dict[str, object]]:
    """Run trials whose value is the learning rate; return what they were given."""
    given = []
    while (claimed := study.claim(limit=limit, seed=0, **more)) is not None:
        given.append(claimed.values)
        claimed.report(1.0, epoch=1)
        claimed.complete(float(claimed.values["training.learning_rate"]))
    return given


def test_trials_are_counted_and_compared(open_here):
    study = open_here()
    given = run_all(study, 4)
    assert len(given) == 4
    assert all(SPACE[key].holds(value) for values in given for key, value in values.items())
    assert study.claim(limit=4, seed=0) is None
    trials = study.trials()
    assert [trial.number for trial in trials] == list(range(4))
    assert {trial.state for trial in trials} == {"complete"}
    assert [dict(trial.values) for trial in trials] == given
    assert trials[0].curve == ((1, 1.0),)
    best = study.best()
    assert best is not None
    assert best.value == min(values["training.learning_rate"] for values in given)
    assert best.name == f"trial-{best.number:04}"
    larger = open_here(name="larger", larger_is_better=True)
    given = run_all(larger, 3)
    assert larger.best().value == max(values["training.learning_rate"] for values in given)


def test_a_search_in_two_calls_is_the_search_in_one(open_here):
    whole = run_all(open_here(name="whole"), 5)
    assert run_all(open_here(name="parts"), 3) + run_all(open_here(name="parts"), 5) == whole
    other = open_here(name="other").claim(limit=1, seed=1)
    assert other is not None
    assert other.values != whole[0]


def test_the_first_trial_may_be_given(open_here):
    first = {
        "training.learning_rate": 0.001,
        "training.batch_size": 64,
        "training.optimizer": "adamw",
    }
    study = open_here()
    given = run_all(study, 3, first=first)
    assert given[0] == first
    assert given[1] != first


def test_an_interrupted_trial_is_made_again(open_here):
    study = open_here()
    run_all(study, 1)
    claimed = study.claim(limit=3, seed=0)
    claimed.interrupt()
    assert [trial.number for trial in study.trials()] == [0]
    again = study.claim(limit=3, seed=0)
    assert again.values == claimed.values
    assert again.name != claimed.name


def test_trials_under_way_count_and_do_not_repeat(open_here):
    study = open_here()
    claims = [study.claim(limit=3, seed=0) for _ in range(3)]
    assert study.claim(limit=3, seed=0) is None
    assert len({str(claimed.values) for claimed in claims}) == 3
    assert {trial.state for trial in study.trials()} == {"running"}


def test_a_trial_whose_process_is_gone_is_given_up(open_here, monkeypatch):
    dead = {"host": study_module.socket.gethostname(), "pid": 2**22 + 1, "since": 0.0}
    for worker in (dead, dead | {"pid": study_module.os.getpid()}, None):
        with monkeypatch.context() as patch:
            patch.setattr(study_module, "_this_process", lambda worker=worker: worker)
            open_here().claim(limit=1, seed=0)
    lost = open_here().claim(limit=1, seed=0)
    assert lost is not None
    assert len(open_here().trials()) == 1
    monkeypatch.setattr(study_module, "_this_process", lambda: dead | {"host": "elsewhere"})
    assert open_here().claim(limit=2, seed=0) is not None
    assert open_here().claim(limit=2, seed=0) is None  # another machine is taken at its word


def test_what_falls_behind_is_pruned(open_here):
    study = open_here(startup_trials=2, warmup_epochs=2)
    for _ in range(2):
        claimed = study.claim(limit=9, seed=0)
        for epoch in (1, 2, 3):
            claimed.report(0.5, epoch=epoch)
            assert not claimed.falls_behind()
        claimed.complete(0.5)
    worse = study.claim(limit=9, seed=0)
    worse.report(0.9, epoch=1)
    assert not worse.falls_behind()  # epochs to warm up
    worse.report(0.9, epoch=3)
    assert worse.falls_behind()
    worse.prune()
    last = study.trials()[-1]
    assert (last.state, last.value) == ("pruned", None)
    better = study.claim(limit=9, seed=0)
    better.report(0.1, epoch=3)
    assert not better.falls_behind()


def test_failures_stop_a_search_that_has_nothing_else(open_here):
    study = open_here()
    for number in range(3):
        study.claim(limit=9, seed=0).fail(f"reason {number}")
    assert [trial.reason for trial in study.trials()] == ["reason 0", "reason 1", "reason 2"]
    assert study.best() is None
    with pytest.raises(RunError) as error:
        study.claim(limit=9, seed=0)
    assert str(error.value) == (
        "The first 3 trials failed, so the search stops. The last said: reason 2"
    )


def test_importance_finds_what_matters(open_here):
    study = open_here(startup_trials=30)
    run_all(study, 3)
    assert study.importance() == {}
    run_all(study, 12)
    importance = study.importance()
    assert next(iter(importance)) == "training.learning_rate"
    assert sum(importance.values()) == pytest.approx(1)


def test_before_the_first_trial_the_recipe_may_change(open_here):
    open_here()
    open_here(facts={"training.epochs": "6"}).claim(limit=1, seed=0).interrupt()
    open_here(facts={"training.epochs": "7"})


def test_another_recipe_is_another_search(open_here, tmp_path: Path):
    open_here().claim(limit=1, seed=0)
    with pytest.raises(UsageError) as error:
        open_here(facts={"training.epochs": "6", "training.optimizer": "sgd"})
    assert str(error.value) == (
        f"The study 'iris' in {tmp_path / 'iris.db'} was begun with another recipe: "
        "training.epochs was 5, is 6; training.optimizer was absent, is sgd. Its trials cannot be "
        "compared with new ones. Undo the change, or keep the new search apart with "
        "--storage FILE."
    )


def test_a_file_that_is_no_study(tmp_path: Path):
    file = tmp_path / "notes.db"
    file.write_text("these are notes, and not a database at all")
    with pytest.raises(UsageError) as error:
        opened(file)
    assert re.fullmatch(
        rf"{re.escape(str(file))} cannot be used as a study: .*file is not a database.*\. Choose "
        r"another file with --storage, or remove this one to begin again\.",
        str(error.value),
    )
    assert file.read_text() == "these are notes, and not a database at all"


def test_a_place_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match=r"Could not use .*iris\.db for the study: .*--storage FILE"):
        opened(tmp_path / "file" / "iris.db")


def test_without_optuna(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError) as error:
        opened(tmp_path / "iris.db")
    assert str(error.value) == (
        "Tuning needs Optuna, which is not installed: pip install 'maquette[tune]'."
    )
    assert not list(tmp_path.iterdir())


def test_a_study_that_another_process_holds(open_here, tmp_path: Path, monkeypatch):
    from maquette.files import held

    study = open_here()
    monkeypatch.setattr(study_module, "PATIENCE", 0.05)
    lock = tmp_path / ".iris.db.lock"
    with held(lock, patience=1), pytest.raises(RunError) as error:
        study.claim(limit=1, seed=0)
    assert str(error.value) == (
        f"Another process has held {lock} for 0 s. Wait for it to end, then run the same command "
        "again: the search goes on where it stopped."
    )
