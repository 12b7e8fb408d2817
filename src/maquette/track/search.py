"""Mirror a search to the tracking store: one MLflow run with a child for each trial.

Sent again the same runs are updated; which they are is kept in `tracking.json` of the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maquette.files import write_json
from maquette.track.mirror import (
    METRICS_PER_CALL,
    active_run,
    batches,
    experiment_id,
    log_texts,
    metric_points,
)
from maquette.track.store import connect, shown, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
PARENT = "mlflow.parentRunId"


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """One trial that has ended."""

    name: str
    state: Literal["complete", "pruned", "failed", "running"]
    params: Mapping[str, Any]
    """The values that were tried."""
    history: Sequence[Mapping[str, float | None]]
    """One row per epoch with the key `epoch`."""
    metrics: Mapping[str, float]
    """Final values; empty for one that did not run to its end."""
    tags: Mapping[str, str]


def mirror_search(
    folder: Path,
    *,
    runs_dir: Path,
    experiment: str,
    name: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    artifacts: Sequence[Path],
    trials: Sequence[TrialRun],
) -> str:
    """Send a search to the store of `runs_dir`; trials that are there already are not sent again.

    Args:
        folder: of the study; gets `tracking.json`.
        metrics: of the search as a whole, at step = number of trials.
        artifacts: files to copy to the parent run.
    Returns:
        The MLflow run id of the parent.
    Raises:
        TrackingError: the store cannot be used; the folder is as it was.
    """
    with connect(runs_dir) as client:
        record = _Record(folder / "tracking.json", shown(tracking_uri(runs_dir)))
        where = experiment_id(client, experiment, runs_dir)
        parent = record.run(client, "search")
        if parent is None:
            parent = client.create_run(where, run_name=name)
            record.remember("search", parent.info.run_id)
        parent_id = str(parent.info.run_id)
        for trial in trials:
            if record.run(client, trial.name) is None:
                _send(client, where, trial, parent_id=parent_id, record=record)
        _send_points(client, parent, history=[{"epoch": float(len(trials))}], metrics=metrics)
        log_texts(client, parent_id, {}, tags)
        for path in artifacts:
            client.log_artifact(parent_id, str(path))
        client.set_terminated(parent_id)
        return parent_id


class _Record:
    """Which MLflow runs of one store mirror the search and its trials."""

    def __init__(self, file: Path, store: str) -> None:
        self.file = file
        self.store = store
        self.stores: dict[str, dict[str, str]] = (
            json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        )

    def run(self, client: MlflowClient, name: str) -> Run | None:
        """Return the run, unless there is none or somebody has deleted it."""
        known = self.stores.get(self.store, {}).get(name)
        return None if known is None else active_run(client, known)

    def remember(self, name: str, run_id: str) -> None:
        """Keep the id; a kill afterwards sends nothing twice."""
        self.stores.setdefault(self.store, {})[name] = run_id
        write_json(self.file, self.stores)


def _send(
    client: MlflowClient, where: str, trial: TrialRun, *, parent_id: str, record: _Record
) -> None:
    run = client.create_run(where, run_name=trial.name, tags={PARENT: parent_id})
    run_id = str(run.info.run_id)
    _send_points(client, run, history=trial.history, metrics=trial.metrics)
    log_texts(client, run_id, trial.params, {"state": trial.state, **trial.tags})
    client.set_terminated(run_id, status=STATUS[trial.state])
    record.remember(trial.name, run_id)


def _send_points(
    client: MlflowClient,
    run: Run,
    *,
    history: Sequence[Mapping[str, float | None]],
    metrics: Mapping[str, float],
) -> None:
    points = metric_points(history, metrics, start=run.info.start_time)
    for some in batches(points, METRICS_PER_CALL):
        client.log_batch(run.info.run_id, metrics=some)
