"""Registered versions: what is known of one, how they are found, how they are shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from maquette.track.text import table

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

HEADLINES = ("accuracy", "f1_macro", "roc_auc", "rmse", "mae", "r2")
"""Test metrics that a list of models shows."""
BUNDLE_ID = "maquette.bundle_id"
METRICS = "maquette.metrics"
"""Tags of a version; the metrics are a JSON object."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One registered bundle."""

    model: str
    number: int
    aliases: tuple[str, ...]
    """champion, challenger, or others given with MLflow's own tools."""
    created: datetime
    """UTC."""
    metrics: Mapping[str, float]
    bundle_id: str
    run_id: str

    def __str__(self) -> str:
        aliases = f" ({', '.join(self.aliases)})" if self.aliases else ""
        return f"{self.model} version {self.number}{aliases}"


def all_models(client: MlflowClient) -> list[RegisteredModel]:
    """Return every registered model, in no order."""
    return _pages(client.search_registered_models)


def versions_of(client: MlflowClient, model: RegisteredModel) -> list[Version]:
    """Return the versions of a model, the newest first."""
    found = _pages(partial(client.search_model_versions, f"name = '{model.name}'"))
    versions = [
        Version(
            model=model.name,
            number=int(one.version),
            aliases=tuple(
                sorted(a for a, v in model.aliases.items() if int(v) == int(one.version))
            ),
            created=datetime.fromtimestamp(one.creation_timestamp / 1000, UTC),
            metrics=json.loads(one.tags.get(METRICS, "{}")),
            bundle_id=one.tags.get(BUNDLE_ID, ""),
            run_id=one.run_id or "",
        )
        for one in found
    ]
    return sorted(versions, key=lambda version: -version.number)


def render_models(versions: Sequence[Version]) -> str:
    """Write the versions as a plain-text table."""
    if not versions:
        return "No model is registered yet; `maquette train RECIPE` registers one."
    header = ["model", "version", "alias", "created (UTC)", "metrics"]
    rows = [
        [
            version.model,
            str(version.number),
            ", ".join(version.aliases),
            f"{version.created:%Y-%m-%d %H:%M}",
            _headline(version.metrics),
        ]
        for version in versions
    ]
    return table([header, *rows])


def _pages(search: Callable[..., Any]) -> list[Any]:
    """Collect every page of one of MLflow's searches."""
    page = search()
    found = list(page)
    while page.token:
        page = search(page_token=page.token)
        found += page
    return found


def _headline(metrics: Mapping[str, float]) -> str:
    """Return the few test metrics one looks at first."""
    chosen = [name for name in HEADLINES if f"test/{name}" in metrics]
    return ", ".join(f"{name} {metrics[f'test/{name}']:.4g}" for name in chosen)
