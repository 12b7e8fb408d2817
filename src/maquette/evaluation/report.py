"""report.html: one file, no outside request, made for people.

`write_report` renders the pieces that report_sections.py prepares through report.html.j2. The page
carries its own content policy: no network, pictures only from the file itself, and no script but
ours, so that data in it can never act.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from maquette.evaluation import report_sections as sections
from maquette.evaluation.report_data import ReportData
from maquette.files import write_text

if TYPE_CHECKING:
    from jinja2 import Template


def write_report(path: Path, data: ReportData) -> None:
    """Write the report to `path`, whole or not at all; the same data gives the same bytes.

    Raises:
        RunError: the file cannot be written.
        ValueError: arrays that do not fit each other.
    """
    write_text(path, render_report(data))


def render_report(data: ReportData) -> str:
    """Return the report as HTML."""
    script = _asset("report.js")
    return _template().render(
        data=data,
        style=_asset("report.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        summary=sections.summary(data),
        training=sections.training(data),
        quality=sections.classification(data) if data.classes else sections.regression(data),
        mistakes=sections.mistakes(data),
        dataset=sections.dataset(data),
        recipe=sections.highlighted_yaml(data.recipe_yaml),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("report.html.j2"))


def _asset(name: str) -> str:
    return (files("maquette.evaluation") / "page" / name).read_text(encoding="utf-8")
