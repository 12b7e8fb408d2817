"""What a run was, in a few words: for comparisons, from its recipe and its summary alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FACTS = (
    "task",
    "domain",
    "data",
    "dataset",
    "model",
    "base model",
    "loss",
    "fine-tuning",
    "resolution",
    "parameters",
    "epochs",
    "seconds",
    "samples per second",
    "peak memory",
)
"""In this order; a run has those it knows."""

_SECTIONS = ("tabular", "image", "image_text")


def facts_of(recipe: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, str]:
    """Return fact -> text, for the facts that the run knows.

    What the run itself wrote down (`tags` and `system` of the summary) comes before what the recipe
    says; a summary without these keys will do.
    """
    tags: Mapping[str, Any] = summary.get("tags", {})
    system: Mapping[str, float] = summary.get("system", {})
    data = _data_of(recipe)
    model = _section(recipe, "model")
    memory = next((v for name, v in system.items() if "peak" in name and "memory" in name), None)
    found: dict[str, Any] = {
        "task": summary.get("task", model.get("type")),
        "domain": tags.get("domain", data.get("domain")),
        "data": data.get("path"),
        "dataset": str(tags.get("dataset_sha256", ""))[:12] or None,
        "model": summary.get("model", model.get("name")),
        "base model": tags.get("base_model", _section(model, "architecture").get("weights")),
        "loss": tags.get("loss", _loss_of(recipe)),
        "fine-tuning": tags.get("finetune", _section(recipe, "finetune").get("method")),
        "resolution": tags.get("resolutions", data.get("image_size")),
        "parameters": _whole(summary.get("parameters")),
        "epochs": summary.get("epochs"),
        "seconds": _rounded(summary.get("seconds")),
        "samples per second": _whole(summary.get("samples_per_second")),
        "peak memory": None if memory is None else f"{memory:,.0f} MiB",
    }
    return {name: str(found[name]) for name in FACTS if found[name] not in (None, "")}


def _data_of(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    sections = _section(recipe, "data")
    return next((_section(sections, name) for name in _SECTIONS if sections.get(name)), {})


def _loss_of(recipe: Mapping[str, Any]) -> Any:
    own = _section(recipe, "contrastive").get("loss")
    return own or _section(recipe, "training").get("loss")


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section of a recipe; one that is absent is empty."""
    section = values.get(name)
    return section if isinstance(section, Mapping) else {}


def _whole(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:,.1f}"
