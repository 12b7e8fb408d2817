"""The model registry: named models, numbered versions, and which one is the champion.

    register   bundle -> a new version; the first becomes the champion, later ones the challenger
    promote    make a version the champion
    rollback   make the previous champion the champion again, as often as there is one
    list_models, render_models
    fetch      models:/NAME@champion -> a local bundle folder

Versions are MLflow models whose code loads the bundle (`served_model.py`), so every MLflow tool
can use them too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from maquette.errors import TrackingError, one_of
from maquette.track.package import bundle_at, pack, read_manifest
from maquette.track.store import connect, is_empty, shown, tolerate, tracking_uri
from maquette.track.versions import (
    BUNDLE_ID,
    METRICS,
    Version,
    all_models,
    render_models,
    versions_of,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

__all__ = [
    "Promotion",
    "Version",
    "fetch",
    "list_models",
    "promote",
    "register",
    "render_models",
    "rollback",
]

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "maquette.previous_champions"
"""Tag of a registered model: JSON list of versions, the latest last."""


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What `promote` and `rollback` did."""

    model: str
    champion: int
    before: int | None
    """The champion until now; None when there was none."""

    def __str__(self) -> str:
        if self.before == self.champion:
            return f"{self.model} version {self.champion} was the champion already"
        before = f"; before it was version {self.before}" if self.before else ""
        return f"{self.model} version {self.champion} is the champion{before}"


def register(
    bundle: Path,
    *,
    name: str,
    run_id: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    runs_dir: str | Path,
) -> Version:
    """Store a bundle as a version of the model `name`; the same bundle is never stored twice.

    Args:
        bundle: a bundle folder.
        run_id: the MLflow run that mirrors its training, from `mirror_run`.
        metrics: shown when models are listed, for example {"test/accuracy": 0.97}.
        tags: further facts, by name.
    Raises:
        BundleError: `bundle` is not a bundle.
        TrackingError: the store cannot be used.
    """
    bundle_id = str(read_manifest(bundle)["bundle_id"])
    with connect(runs_dir) as client:
        with tolerate("RESOURCE_ALREADY_EXISTS"):
            client.create_registered_model(name)
        model = client.get_registered_model(name)
        known = [v.number for v in versions_of(client, model) if v.bundle_id == bundle_id]
        if known:
            number = known[0]
        else:
            facts = {BUNDLE_ID: bundle_id, METRICS: json.dumps(dict(metrics)), **tags}
            number = _store(client, bundle, name=name, run_id=run_id, tags=facts)
        if CHAMPION not in model.aliases:
            client.set_registered_model_alias(name, CHAMPION, str(number))
        elif not known:
            client.set_registered_model_alias(name, CHALLENGER, str(number))
        model = client.get_registered_model(name)
        return next(v for v in versions_of(client, model) if v.number == number)


def promote(name: str, version: int | None = None, *, runs_dir: str | Path = "runs") -> Promotion:
    """Make a version, by default the challenger, the champion; remember the one it replaces.

    Raises:
        TrackingError: there is no such model or version, or the store cannot be used.
    """
    with _connect_to_model(name, runs_dir) as (client, model):
        number = _challenger(model) if version is None else version
        _require_version(client, model, number)
        before = _champion(model)
        if number != before:
            # Remembered first: a kill in between costs nothing, as rollback skips the champion.
            if before is not None:
                _remember(client, name, [*_previous_champions(model), before])
            _crown(client, model, number)
    return Promotion(model=name, champion=number, before=before)


def rollback(name: str, *, runs_dir: str | Path = "runs") -> Promotion:
    """Make the previous champion the champion again; called again, the one before that.

    Raises:
        TrackingError: there is no such model, no previous champion is left, or the store cannot
            be used.
    """
    with _connect_to_model(name, runs_dir) as (client, model):
        before = _champion(model)
        present = [version.number for version in versions_of(client, model)]
        previous = _previous_champions(model)
        while previous and (previous[-1] not in present or previous[-1] == before):
            previous.pop()
        if not previous:
            raise TrackingError(
                f"There is nothing to roll back to: {name} has had no other champion than version "
                f"{before}. `maquette promote {name} VERSION` chooses one of its versions: "
                f"{_listed(present)}."
            )
        champion = previous.pop()
        _crown(client, model, champion)
        _remember(client, name, previous)
    return Promotion(model=name, champion=champion, before=before)


def list_models(*, runs_dir: str | Path = "runs") -> list[Version]:
    """Return every version of every model: models by name, the newest version first.

    Raises:
        TrackingError: the store cannot be used.
    """
    if is_empty(runs_dir):
        return []
    with connect(runs_dir) as client:
        models = sorted(all_models(client), key=lambda model: str(model.name))
        return [version for model in models for version in versions_of(client, model)]


def fetch(uri: str, *, runs_dir: str | Path = "runs") -> Path:
    """Return the local bundle folder of a registered model, or of a tracked run's model.

    Args:
        uri: models:/NAME@ALIAS, models:/NAME/VERSION or runs:/RUN_ID. What lies on this machine
            is not copied; anything else is downloaded once, into the cache.
    Raises:
        TrackingError: there is no such thing, or the store cannot be used.
        BundleError: it is not a bundle.
    """
    by_name = re.fullmatch(r"models:/([^/@]+)(?:@([^/]+)|/(\d+))", uri)
    by_run = re.fullmatch(r"runs:/([0-9a-f]+)(?:/.*)?", uri)
    if by_name:
        name, alias, number = by_name.groups()
        with _connect_to_model(name, runs_dir) as (client, model):
            wanted = _aliased(model, alias) if alias else int(number)
            _require_version(client, model, wanted)
            location = client.get_model_version_download_uri(name, str(wanted))
            return bundle_at(location, store=tracking_uri(runs_dir), what=uri)
    if by_run:
        with connect(runs_dir) as client:
            location = _location_of_run(client, by_run.group(1), uri)
            return bundle_at(location, store=tracking_uri(runs_dir), what=uri)
    raise TrackingError(
        f"{uri!r} names no model; write models:/NAME@champion, models:/NAME/VERSION or "
        "runs:/RUN_ID. `maquette models` lists what there is."
    )


@contextmanager
def _connect_to_model(
    name: str, runs_dir: str | Path
) -> Iterator[tuple[MlflowClient, RegisteredModel]]:
    """Connect, and find the registered model `name`."""
    nothing = (
        f"There is no registered model {name!r}: nothing is registered in "
        f"{shown(tracking_uri(runs_dir))} yet. `maquette train RECIPE` registers a model."
    )
    if is_empty(runs_dir):
        raise TrackingError(nothing)
    with connect(runs_dir) as client:
        names = [str(model.name) for model in all_models(client)]
        if name not in names:
            raise TrackingError(one_of("registered model", name, names) if names else nothing)
        yield client, client.get_registered_model(name)


def _store(
    client: MlflowClient, bundle: Path, *, name: str, run_id: str, tags: Mapping[str, str]
) -> int:
    """Upload the bundle as an MLflow model of its run and make it a version; return its number."""
    from mlflow.entities import LoggedModelOutput

    logged = client.create_logged_model(
        client.get_run(run_id).info.experiment_id,
        name=re.sub(r"[^\w\-]", "_", name),
        source_run_id=run_id,
    )
    with TemporaryDirectory() as folder:
        pack(bundle, Path(folder) / "model", logged=logged)
        client.log_model_artifacts(logged.model_id, str(Path(folder) / "model"))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    version = client.create_model_version(
        name, logged.artifact_location, run_id, tags=dict(tags), model_id=logged.model_id
    )
    # A server adds this link from the model to its version by itself; SQLite needs it from us.
    link = json.dumps([{"name": name, "version": version.version}])
    client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": link})
    return int(version.version)


def _champion(model: RegisteredModel) -> int | None:
    return int(model.aliases[CHAMPION]) if CHAMPION in model.aliases else None


def _challenger(model: RegisteredModel) -> int:
    if CHALLENGER not in model.aliases:
        raise TrackingError(
            f"{model.name} has no challenger: no version was registered since its champion was "
            f"chosen. Name the version: `maquette promote {model.name} VERSION`."
        )
    return int(model.aliases[CHALLENGER])


def _aliased(model: RegisteredModel, alias: str) -> int:
    if alias not in model.aliases:
        raise TrackingError(one_of(f"alias of {model.name}", alias, model.aliases))
    return int(model.aliases[alias])


def _require_version(client: MlflowClient, model: RegisteredModel, number: int) -> None:
    present = [version.number for version in versions_of(client, model)]
    if number not in present:
        raise TrackingError(
            f"{model.name} has no version {number}; its versions are {_listed(present)}."
        )


def _previous_champions(model: RegisteredModel) -> list[int]:
    previous: list[int] = json.loads(model.tags.get(PREVIOUS, "[]"))
    return previous


def _remember(client: MlflowClient, name: str, previous: list[int]) -> None:
    client.set_registered_model_tag(name, PREVIOUS, json.dumps(previous))


def _crown(client: MlflowClient, model: RegisteredModel, number: int) -> None:
    """Move the champion's alias; a champion is a challenger no longer."""
    client.set_registered_model_alias(model.name, CHAMPION, str(number))
    if str(model.aliases.get(CHALLENGER)) == str(number):
        client.delete_registered_model_alias(model.name, CHALLENGER)


def _location_of_run(client: MlflowClient, run_id: str, uri: str) -> str:
    """Return where the model that a run produced is stored."""
    with tolerate("RESOURCE_DOES_NOT_EXIST"):
        outputs = client.get_run(run_id).outputs
        models = outputs.model_outputs if outputs else []
        if models:
            return str(client.get_logged_model(models[-1].model_id).artifact_location)
        raise TrackingError(
            f"{uri}: this run has no model. `maquette register RUN_FOLDER` gives it one."
        )
    raise TrackingError(f"{uri}: there is no such run in this store.")


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
