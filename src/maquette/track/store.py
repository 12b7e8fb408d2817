"""Where runs and models are tracked, and the connection to it.

By default MLflow on one SQLite file in the folder of runs, with artifacts beside it; the variable
MLFLOW_TRACKING_URI names a server instead. Every call to MLflow happens inside `connect`, which
keeps it quiet and turns its failures, and a store that is down, into a `TrackingError`.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from maquette.errors import TrackingError
from maquette.files import held

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
PATIENCE = 3.0
"""Seconds to wait for a server's first sign of life."""
LOCK_PATIENCE = 60.0
"""Seconds to wait while another process writes to the same SQLite store."""

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own number of retries waits four minutes for a server that went away.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # A uv.lock that happens to lie in the working folder says nothing about a bundle.
    "MLFLOW_UV_AUTO_DETECT": "false",
}
"""What MLflow reads from the environment; a value the user has set wins."""

_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def tracking_uri(runs_dir: str | Path) -> str:
    """Return MLFLOW_TRACKING_URI, or the address of the SQLite file in the folder of runs."""
    chosen = os.environ.get("MLFLOW_TRACKING_URI")
    return chosen or f"sqlite:///{(Path(runs_dir).resolve() / DATABASE).as_posix()}"


def artifact_root(uri: str) -> str | None:
    """Return where a SQLite store keeps artifacts: beside its file. None: the server decides."""
    file = _sqlite_file(uri)
    return None if file is None else (file.resolve().parent / ARTIFACTS).as_uri()


def is_empty(runs_dir: str | Path) -> bool:
    """Whether nothing was ever tracked here: there is no SQLite file. Imports nothing heavy."""
    file = _sqlite_file(tracking_uri(runs_dir))
    return file is not None and not file.exists()


@contextmanager
def connect(runs_dir: str | Path) -> Iterator[MlflowClient]:
    """Give a client of the store; its tables are created when it is new.

    Only one process at a time is inside, where the store is a SQLite file: its answer to two
    writers is an error for one of them, and which version is the champion must be read and
    changed as one step.

    Raises:
        TrackingError: MLflow is not installed, the store cannot be reached, or it refuses what
            the block asks of it.
    """
    uri = tracking_uri(runs_dir)
    _check_reachable(uri)
    with _quiet_mlflow() as client_class, _exclusive(uri):
        try:
            with _collector_paused():
                client = client_class(tracking_uri=uri)
            yield client
        except _failures() as error:
            raise TrackingError(f"The tracking store {shown(uri)}: {_reason(error)}") from error


@contextmanager
def tolerate(error_code: str) -> Iterator[None]:
    """Let one kind of MLflow's errors end the block silently: RESOURCE_ALREADY_EXISTS, …"""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != error_code:
            raise


def shown(uri: str) -> str:
    """Return the address as a reader may see it: without its password."""
    address = urlsplit(uri)
    if address.password is None:
        return uri
    return address._replace(netloc=address.netloc.replace(f":{address.password}@", "@")).geturl()


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _check_reachable(uri: str) -> None:
    """Notice a store that is down before MLflow imports for seconds and retries for minutes."""
    address = urlsplit(uri)
    scheme = address.scheme.partition("+")[0]
    try:
        if scheme in ("http", "https"):
            _ask_for_health(uri)
        elif (file := _sqlite_file(uri)) is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(file, timeout=LOCK_PATIENCE)) as database:
                database.execute("SELECT count(*) FROM sqlite_master")
        elif scheme in _PORTS and address.hostname:
            port = address.port or _PORTS[scheme]
            socket.create_connection((address.hostname, port), timeout=PATIENCE).close()
    except (OSError, sqlite3.Error) as error:
        raise TrackingError(
            f"The tracking store {shown(uri)} cannot be used: {_reason(error)} Runs are complete "
            "without it: once it answers, `maquette register RUN_FOLDER` sends one there."
        ) from None


def _ask_for_health(uri: str) -> None:
    """Raise an OSError unless a server answers, be it with an error that MLflow explains better."""
    import ssl
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        urlopen(f"{uri.rstrip('/')}/health", timeout=PATIENCE).close()
    except HTTPError as error:
        error.close()
        if error.code in (502, 503, 504):  # a proxy answers for a server that is down
            raise OSError(f"it answers {error.code} {error.reason}") from None
    except URLError as error:
        if not isinstance(error.reason, ssl.SSLError):
            raise OSError(str(error.reason)) from None
    except HTTPException as error:
        raise OSError(f"it does not speak HTTP: {error!r}") from None


@contextmanager
def _quiet_mlflow() -> Iterator[type[MlflowClient]]:
    """Import MLflow's client, and for the block keep its warnings and logs off the terminal.

    What goes wrong reaches the reader as an exception; the rest is about MLflow's own insides.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"mlflow(\.|$)")
        try:
            with _collector_paused():
                from mlflow import MlflowClient
        except ImportError:
            raise TrackingError(
                "Tracking needs MLflow: pip install 'maquette[tracking]'. "
                "A recipe with `tracking: {enabled: false}` runs without it."
            ) from None
        loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield MlflowClient
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """MLflow's imports make very many objects that all stay: searching them finds nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _exclusive(uri: str) -> Iterator[None]:
    """Hold the lock of a SQLite store; the lock dies with the process. Servers have their own."""
    file = _sqlite_file(uri)
    if file is None:
        yield
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(held(file.with_name(f".{file.name}.lock"), patience=LOCK_PATIENCE))
        except TimeoutError as error:
            raise TrackingError(
                f"Another process has been writing to {file} for {LOCK_PATIENCE:.0f} s ({error}). "
                "Wait for it to end, then `maquette register RUN_FOLDER`."
            ) from None
        yield


def _failures() -> tuple[type[Exception], ...]:
    """What MLflow raises when a store refuses: its own error, the system's, and the database's."""
    from mlflow.exceptions import MlflowException

    database = sys.modules.get("sqlalchemy.exc")
    return (MlflowException, OSError, *([database.SQLAlchemyError] if database else []))


def _reason(error: Exception) -> str:
    """Return the first line of what went wrong, as a sentence."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first if first.endswith((".", "!", "?")) else f"{first}."
