"""Mirror a run folder to the tracking store: one MLflow run per folder, however often it is sent.

The folder stays the source of truth. Which run mirrors it is kept in its `tracking.json`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from maquette.errors import TrackingError
from maquette.files import write_json
from maquette.track.store import artifact_root, connect, shown, tolerate, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

T = TypeVar("T")

METRICS_PER_CALL = 1000
PARAMS_PER_CALL = 100
"""What a server accepts at once."""


def mirror_run(
    folder: Path,
    *,
    experiment: str,
    run_name: str,
    params: Mapping[str, Any],
    history: Iterable[Mapping[str, float | None]],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    artifacts: Sequence[Path],
) -> str:
    """Send a run to the store of its folder of runs; sent again, the same MLflow run is updated.

    Args:
        folder: the run folder; the store is that of `folder.parent`.
        params: flat, for example {"training.epochs": 50}.
        history: one row per epoch with the key `epoch`, which becomes the step, and metrics.
        metrics: final values. One that also has a history is called `final/<name>`, so that the
            curve keeps its last point and the shipped value stays visible.
        artifacts: files and folders to copy.
    Returns:
        The MLflow run id.
    Raises:
        TrackingError: the store cannot be used; the run folder is as it was.
    """
    with connect(folder.parent) as client:
        run = _run_of(client, folder, experiment, run_name)
        points = list(metric_points(history, metrics, start=run.info.start_time))
        for some in batches(points, METRICS_PER_CALL):
            client.log_batch(run.info.run_id, metrics=some)
        log_texts(client, run.info.run_id, params, tags)
        for path in artifacts:
            client.log_artifact(run.info.run_id, str(path))
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)


def _run_of(client: MlflowClient, folder: Path, experiment: str, run_name: str) -> Run:
    """Return the MLflow run that mirrors `folder`, made now if there is none."""
    record = folder / "tracking.json"
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    store = shown(tracking_uri(folder.parent))
    if store in known and (run := active_run(client, known[store])) is not None:
        return run
    run = client.create_run(experiment_id(client, experiment, folder.parent), run_name=run_name)
    write_json(record, known | {store: run.info.run_id})
    return run


def active_run(client: MlflowClient, run_id: str) -> Run | None:
    """Return the run, unless somebody has deleted it."""
    with tolerate("RESOURCE_DOES_NOT_EXIST"):
        run = client.get_run(run_id)
        if run.info.lifecycle_stage == "active":
            return run
    return None


def experiment_id(client: MlflowClient, name: str, runs_dir: Path) -> str:
    """Return the id of an experiment, made now if there is none."""
    found = client.get_experiment_by_name(name)
    if found is None:
        with tolerate("RESOURCE_ALREADY_EXISTS"):  # another process was faster
            client.create_experiment(name, artifact_location=artifact_root(tracking_uri(runs_dir)))
        found = client.get_experiment_by_name(name)
        assert found is not None, "made above"
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"The experiment {name!r} was deleted. Bring it back with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`, or name another with tracking.experiment."
        )
    return str(found.experiment_id)


def metric_points(
    history: Iterable[Mapping[str, float | None]], metrics: Mapping[str, float], *, start: int
) -> Iterator[Metric]:
    """Turn rows and final values into points; equal input gives equal points, stored once.

    A point is identified by name, step, time and value, so the time (ms) must not be the clock's.
    """
    from mlflow.entities import Metric

    step, has_history = 0, set()
    for row in history:
        step = int(row["epoch"] or 0)
        for name, value in row.items():
            if name != "epoch" and value is not None and math.isfinite(value):
                has_history.add(name)
                yield Metric(plain_key(name), float(value), start + step, step)
    for name, value in metrics.items():
        if math.isfinite(value):
            final = f"final/{name}" if name in has_history else name
            yield Metric(plain_key(final), float(value), start + step, step)


def log_texts(
    client: MlflowClient, run_id: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> None:
    """Send parameters and tags, as many at once as a server accepts."""
    from mlflow.entities import Param, RunTag

    for some in batches([Param(plain_key(k), str(v)) for k, v in params.items()], PARAMS_PER_CALL):
        client.log_batch(run_id, params=some)
    for more in batches([RunTag(plain_key(k), str(v)) for k, v in tags.items()], PARAMS_PER_CALL):
        client.log_batch(run_id, tags=more)


def plain_key(name: str) -> str:
    """Replace what MLflow allows in no key: "f1_<=50K" becomes "f1___50K"."""
    return re.sub(r"[^\w.\- /]", "_", name)


def batches(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut values into lists of at most `size`."""
    iterator = iter(values)
    while some := list(islice(iterator, size)):
        yield some
