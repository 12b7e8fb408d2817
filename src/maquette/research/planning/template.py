"""A plan to fill in: small, complete, and with a remark at every place."""

from __future__ import annotations

from importlib.resources import files


def template() -> str:
    """Return templates/plan_res.md: a valid plan that `read_plan` reads without a warning."""
    plan = files("maquette.research.planning") / "templates" / "plan_res.md"
    return plan.read_text(encoding="utf-8")
