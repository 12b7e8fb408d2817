"""Versions, the champion and the way back, and bundles found again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from maquette.errors import BundleError, TrackingError
from maquette.track.mirror import mirror_run
from maquette.track.registry import (
    Version,
    fetch,
    list_models,
    promote,
    register,
    render_models,
    rollback,
)
from maquette.track.store import connect

MakeBundle = Callable[[str], Path]


def send(bundle: Path, *, name: str = "iris", accuracy: float = 0.9) -> Version:
    """Mirror the run a bundle lies in, and register the bundle."""
    run_id = mirror_run(
        bundle.parent,
        experiment="maquette",
        run_name=bundle.parent.name,
        params={},
        history=[],
        metrics={"test/accuracy": accuracy},
        tags={},
        artifacts=[],
    )
    return register(
        bundle,
        name=name,
        run_id=run_id,
        metrics={"test/accuracy": accuracy, "test/f1_macro": 0.5, "valid/loss": 0.25},
        tags={"task": "tabular"},
        runs_dir=bundle.parents[1],
    )


@pytest.fixture
def three(runs_dir: Path, make_bundle: MakeBundle) -> Path:
    """A store with three versions of iris: 1 is the champion, 3 the challenger."""
    for bundle_id in "abc":
        send(make_bundle(bundle_id))
    return runs_dir


def champion(runs_dir: Path, name: str = "iris") -> int:
    return next(v.number for v in list_models(runs_dir=runs_dir) if "champion" in v.aliases)


def test_the_first_version_is_champion_and_later_ones_challenge(make_bundle: MakeBundle):
    assert str(send(make_bundle("a"))) == "iris version 1 (champion)"
    assert str(send(make_bundle("b"))) == "iris version 2 (challenger)"
    assert str(send(make_bundle("c"))) == "iris version 3 (challenger)"


def test_a_bundle_is_registered_once(make_bundle: MakeBundle, runs_dir: Path):
    bundle = make_bundle("a")
    send(bundle)
    send(make_bundle("b"))
    assert str(send(bundle)) == "iris version 1 (champion)"
    assert len(list_models(runs_dir=runs_dir)) == 2


def test_a_version_knows_its_run_metrics_and_bundle(make_bundle: MakeBundle, runs_dir: Path):
    version = send(make_bundle("a"), accuracy=0.75)
    assert version.metrics["test/accuracy"] == 0.75
    assert version.bundle_id == "a"
    with connect(runs_dir) as client:
        (output,) = client.get_run(version.run_id).outputs.model_outputs
        logged = client.get_logged_model(output.model_id)
        tags = client.get_model_version("iris", "1").tags
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "iris", "version": 1}]
    assert str(logged.status) == "READY"
    assert tags["task"] == "tabular"


def test_what_is_stored_has_signature_and_example_and_no_pickle(
    make_bundle: MakeBundle, runs_dir: Path
):
    from mlflow.models import Model

    bundle = make_bundle("a")
    send(bundle)
    packed = fetch("models:/iris@champion", runs_dir=runs_dir).parents[1]
    names = {path.name for path in packed.rglob("*") if path.is_file()}
    assert {"MLmodel", "served_model.py", "input_example.json", "bundle.json"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib", ".pt"))]
    model = Model.load(str(packed))
    assert [(c.name, c.type.name, c.required) for c in model.signature.inputs] == [
        ("age", "double", False),
        ("sepal length", "double", False),
        ("colour", "string", False),
    ]
    assert [(c.name, c.type.name) for c in model.signature.outputs] == [
        ("prediction", "string"),
        ("probability_no", "double"),
        ("probability_yes", "double"),
    ]
    example = model.load_input_example(str(packed))
    assert example["sepal length"].tolist() == [5.1]
    requirements = (packed / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in requirements] == ["maquette", "mlflow"]


def test_promote_takes_the_challenger_by_default(three: Path):
    assert str(promote("iris", runs_dir=three)) == (
        "iris version 3 is the champion; before it was version 1"
    )
    assert {v.number: v.aliases for v in list_models(runs_dir=three)} == {
        3: ("champion",),
        2: (),
        1: (),
    }


def test_promote_a_version(three: Path):
    assert promote("iris", 2, runs_dir=three).champion == 2
    aliases = {v.number: v.aliases for v in list_models(runs_dir=three)}
    assert aliases == {3: ("challenger",), 2: ("champion",), 1: ()}
    assert str(promote("iris", 2, runs_dir=three)) == ("iris version 2 was the champion already")


def test_rollback_goes_back_step_by_step(three: Path):
    promote("iris", 2, runs_dir=three)
    promote("iris", 3, runs_dir=three)
    assert str(rollback("iris", runs_dir=three)) == (
        "iris version 2 is the champion; before it was version 3"
    )
    assert rollback("iris", runs_dir=three).champion == 1
    assert champion(three) == 1
    with pytest.raises(TrackingError) as error:
        rollback("iris", runs_dir=three)
    assert str(error.value) == (
        "There is nothing to roll back to: iris has had no other champion than version 1. "
        "`maquette promote iris VERSION` chooses one of its versions: 1, 2, 3."
    )


def test_rollback_passes_over_deleted_versions(three: Path):
    promote("iris", 2, runs_dir=three)
    promote("iris", 3, runs_dir=three)
    with connect(three) as client:
        client.delete_model_version("iris", "2")
    assert rollback("iris", runs_dir=three).champion == 1


def test_unknown_model_names_the_nearest(three: Path):
    for ask in (promote, rollback):
        with pytest.raises(TrackingError) as error:
            ask("irs", runs_dir=three)
        assert str(error.value) == (
            "Unknown registered model 'irs'. Did you mean 'iris'? Available: iris."
        )


def test_a_store_without_models_says_how_to_get_one(tmp_path: Path, runs_dir: Path):
    for folder in (tmp_path / "never used", runs_dir):
        with pytest.raises(TrackingError) as error:
            promote("iris", runs_dir=folder)
        assert str(error.value) == (
            f"There is no registered model 'iris': nothing is registered in sqlite:///{folder}/"
            "mlflow.db yet. `maquette train RECIPE` registers a model."
        )
    assert not (tmp_path / "never used").exists()


def test_unknown_version_lists_them(three: Path):
    with pytest.raises(TrackingError) as error:
        promote("iris", 7, runs_dir=three)
    assert str(error.value) == "iris has no version 7; its versions are 1, 2, 3."


def test_no_challenger_asks_for_a_version(make_bundle: MakeBundle, runs_dir: Path):
    send(make_bundle("a"))
    with pytest.raises(TrackingError) as error:
        promote("iris", runs_dir=runs_dir)
    assert str(error.value) == (
        "iris has no challenger: no version was registered since its champion was chosen. "
        "Name the version: `maquette promote iris VERSION`."
    )


def test_models_as_a_table(make_bundle: MakeBundle, runs_dir: Path):
    send(make_bundle("a"))
    send(make_bundle("b"), accuracy=0.95)
    send(make_bundle("d"), name="digits", accuracy=0.9876)
    text = re.sub(
        r"\d{4}-\d\d-\d\d \d\d:\d\d",
        "2026-01-01 12:00",
        render_models(list_models(runs_dir=runs_dir)),
    )
    assert text == (
        "model   version  alias       created (UTC)     metrics\n"
        "digits  1        champion    2026-01-01 12:00  accuracy 0.9876, f1_macro 0.5\n"
        "iris    2        challenger  2026-01-01 12:00  accuracy 0.95, f1_macro 0.5\n"
        "iris    1        champion    2026-01-01 12:00  accuracy 0.9, f1_macro 0.5"
    )


def test_no_models_is_said_without_importing_mlflow(tmp_path: Path):
    command = (
        "import sys; from maquette.track.registry import list_models, render_models; "
        f"print(render_models(list_models(runs_dir={str(tmp_path)!r}))); "
        "print([name for name in ('mlflow', 'torch', 'pandas') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert answer.stdout == (
        "No model is registered yet; `maquette train RECIPE` registers one.\n[]\n"
    ), answer.stderr


def test_fetch_finds_the_stored_bundle_without_copying(three: Path):
    promote("iris", 2, runs_dir=three)
    by_alias = fetch("models:/iris@champion", runs_dir=three)
    assert json.loads((by_alias / "bundle.json").read_text())["bundle_id"] == "b"
    assert by_alias == fetch("models:/iris/2", runs_dir=three)
    assert three / "mlartifacts" in by_alias.parents
    run_id = next(v.run_id for v in list_models(runs_dir=three) if v.number == 2)
    assert by_alias == fetch(f"runs:/{run_id}", runs_dir=three)
    assert by_alias == fetch(f"runs:/{run_id}/model", runs_dir=three)


def test_fetch_of_what_is_not_there(three: Path):
    no_run = f"runs:/{'0' * 32}"
    texts = {
        "models:/iris@champoin": "Unknown alias of iris 'champoin'. Did you mean 'champion'? "
        "Available: challenger, champion.",
        "models:/iris/9": "iris has no version 9; its versions are 1, 2, 3.",
        "models:/iris": "'models:/iris' names no model; write models:/NAME@champion, "
        "models:/NAME/VERSION or runs:/RUN_ID. `maquette models` lists what there is.",
        no_run: f"{no_run}: there is no such run in this store.",
    }
    for uri, text in texts.items():
        with pytest.raises(TrackingError) as error:
            fetch(uri, runs_dir=three)
        assert str(error.value) == text


def test_fetch_of_a_run_without_a_model(make_bundle: MakeBundle, runs_dir: Path):
    with connect(runs_dir) as client:
        run_id = client.create_run("0").info.run_id
    with pytest.raises(TrackingError) as error:
        fetch(f"runs:/{run_id}", runs_dir=runs_dir)
    assert str(error.value) == (
        f"runs:/{run_id}: this run has no model. `maquette register RUN_FOLDER` gives it one."
    )


def test_a_model_of_another_tool_is_not_a_bundle(runs_dir: Path):
    (runs_dir / "other").mkdir()
    (runs_dir / "other" / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    with connect(runs_dir) as client:
        client.create_registered_model("other")
        client.create_model_version("other", (runs_dir / "other").as_uri())
    with pytest.raises(BundleError) as error:
        fetch("models:/other/1", runs_dir=runs_dir)
    assert str(error.value) == (
        f"models:/other/1 is not a bundle: {runs_dir / 'other'} holds none. It was registered by "
        "another tool, or its files were removed; `maquette register RUN_FOLDER` registers a "
        "bundle."
    )
    assert [v.metrics for v in list_models(runs_dir=runs_dir)] == [{}]


def test_a_folder_that_is_no_bundle_is_refused(runs_dir: Path):
    with pytest.raises(BundleError) as error:
        register(runs_dir, name="iris", run_id="", metrics={}, tags={}, runs_dir=runs_dir)
    assert str(error.value) == (
        f"{runs_dir} is not a bundle: it has no bundle.json that Maquette wrote. "
        "Give the bundle folder of a run: runs/<run>/bundle."
    )


def test_a_name_that_mlflow_refuses_is_explained(make_bundle: MakeBundle):
    with pytest.raises(TrackingError, match=r"Invalid model name 'a/b'. Names cannot contain '/'"):
        send(make_bundle("a"), name="a/b")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """MLflow's own server, on its own store and artifact folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path / "server"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"],
        cwd=folder,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path / "cache"))
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@pytest.mark.slow
def test_a_server_keeps_the_bundle_and_gives_it_back(
    server: str, make_bundle: MakeBundle, runs_dir: Path
):
    bundle = make_bundle("a")
    version = send(bundle)
    assert str(version) == "iris version 1 (champion)"
    assert str(send(make_bundle("b"))) == "iris version 2 (challenger)"
    fetched = fetch("models:/iris@champion", runs_dir=runs_dir)
    assert (fetched / "probes.json").read_bytes() == (bundle / "probes.json").read_bytes()
    assert runs_dir not in fetched.parents
    assert fetch("models:/iris/1", runs_dir=runs_dir) == fetched
    assert fetch(f"runs:/{version.run_id}", runs_dir=runs_dir) == fetched
    assert str(promote("iris", runs_dir=runs_dir)) == (
        "iris version 2 is the champion; before it was version 1"
    )
    assert rollback("iris", runs_dir=runs_dir).champion == 1


SEND = """
import sys
from pathlib import Path
from maquette.track.mirror import mirror_run
from maquette.track.registry import register

for bundle in map(Path, sys.argv[1:]):
    run_id = mirror_run(
        bundle.parent, experiment="maquette", run_name="r", params={"a": 1},
        history=[{"epoch": e, "train/loss": 1.0} for e in range(50)],
        metrics={}, tags={}, artifacts=[],
    )
    register(bundle, name="iris", run_id=run_id, metrics={}, tags={},
             runs_dir=bundle.parents[1])
"""


def test_two_processes_may_register_at_once(make_bundle: MakeBundle, runs_dir: Path):
    ids = [[f"{process}-{index}" for index in range(2)] for process in "ab"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SEND, *(str(make_bundle(i)) for i in mine)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for mine in ids
    ]
    assert [process.communicate()[1] for process in processes] == ["", ""]
    versions = list_models(runs_dir=runs_dir)
    assert sorted(v.number for v in versions) == [1, 2, 3, 4]
    assert sorted(v.bundle_id for v in versions) == sorted(ids[0] + ids[1])
    assert [v.number for v in versions if "champion" in v.aliases] == [1]
    assert [v.number for v in versions if "challenger" in v.aliases] == [4]
    for version in versions:
        bundle = fetch(f"models:/iris/{version.number}", runs_dir=runs_dir)
        assert json.loads((bundle / "bundle.json").read_text())["bundle_id"] == version.bundle_id
