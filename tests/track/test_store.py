"""The connection: which store, how quietly, and what is said when it cannot be used."""

from __future__ import annotations

import logging
import re
import socket
import sqlite3
import sys
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from maquette.errors import TrackingError
from maquette.track import store
from maquette.track.store import artifact_root, connect, is_empty, shown, tracking_uri


@pytest.fixture
def proxy() -> Iterator[str]:
    """A server that answers 503 to everything, as a proxy does for a store that is down."""

    class Unavailable(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Unavailable) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def refusal(runs_dir: Path) -> str:
    """Connect, and return the text of the error that comes."""
    with pytest.raises(TrackingError) as error, connect(runs_dir):
        pass
    return str(error.value)


def test_the_default_is_one_file_beside_the_runs(tmp_path: Path):
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert artifact_root(tracking_uri(tmp_path)) == f"file://{tmp_path}/mlartifacts"
    assert is_empty(tmp_path)


def test_the_environment_names_another_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://tracking.example")
    assert tracking_uri(tmp_path) == "https://tracking.example"
    assert artifact_root(tracking_uri(tmp_path)) is None
    assert not is_empty(tmp_path)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("postgresql://me:secret@db:5432/runs", "postgresql://me@db:5432/runs"),
        ("postgresql://me@db/runs", "postgresql://me@db/runs"),
        ("sqlite:////runs/mlflow.db", "sqlite:////runs/mlflow.db"),
    ],
)
def test_passwords_are_not_shown(uri: str, text: str):
    assert shown(uri) == text


def test_a_server_that_is_down_says_how_to_sync_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    message = re.sub(r"\[Errno \d+\]", "[Errno N]", refusal(tmp_path))
    assert message == (
        "The tracking store http://127.0.0.1:9 cannot be used: [Errno N] Connection refused. "
        "Runs are complete without it: once it answers, `maquette register RUN_FOLDER` sends "
        "one there."
    )


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_a_server_that_never_answers_is_given_up_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
):
    monkeypatch.setattr(store, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        port = silent.getsockname()[1]
        others = [socket.socket() for _ in range(3)]  # fill the backlog
        for other in others:
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://127.0.0.1:{port}")
        assert "timed out. Runs are complete without it" in refusal(tmp_path)
        for other in others:
            other.close()


def test_a_proxy_without_its_server_counts_as_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy)
    assert f"{proxy} cannot be used: it answers 503 Service Unavailable." in refusal(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "mlflow.db").write_text("this is text, and not a little of it" * 100)
    assert "mlflow.db cannot be used: file is not a database. Runs are" in refusal(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert "cannot be used: [Errno 20] Not a directory" in refusal(tmp_path / "file" / "runs")


def test_without_mlflow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert refusal(tmp_path) == (
        "Tracking needs MLflow: pip install 'maquette[tracking]'. "
        "A recipe with `tracking: {enabled: false}` runs without it."
    )


def test_what_the_store_refuses_becomes_one_sentence(runs_dir: Path):
    with pytest.raises(TrackingError) as error, connect(runs_dir) as client:
        client.get_run("0" * 32)
    assert str(error.value) == (
        f"The tracking store sqlite:///{runs_dir}/mlflow.db: "
        "Run with id=00000000000000000000000000000000 not found."
    )


def test_a_long_writer_is_named(runs_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "LOCK_PATIENCE", 0.1)
    with connect(runs_dir):
        text = refusal(runs_dir)
    assert text == (
        f"Another process has been writing to {runs_dir}/mlflow.db for 0 s (database is locked). "
        "Wait for it to end, then `maquette register RUN_FOLDER`."
    )


def test_mlflow_is_quiet_inside_and_as_before_afterwards(
    runs_dir: Path, capfd: pytest.CaptureFixture[str]
):
    logger = logging.getLogger("mlflow")
    level = logger.level
    filters = list(warnings.filters)
    with connect(runs_dir) as client:
        client.search_experiments()
    assert logger.level == level
    assert list(warnings.filters) == filters
    assert capfd.readouterr() == ("", "")


def test_a_new_store_has_the_tables_of_mlflow_itself(tmp_path: Path):
    with connect(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    database.close()
    assert {"runs", "metrics", "registered_models", "alembic_version"} <= names
    assert not is_empty(tmp_path)
