"""A plan to fill in: small, complete, and with a remark at every place."""

from __future__ import annotations

from importlib.resources import files


def template() -> str:
    """Return templates/plan_res.md: a valid plan that `read_plan` reads without a warning."""
    return (files("maquette.research") / "templates" / "plan_res.md").read_text(encoding="utf-8")
