"""The frame of a report: one HTML file with its style, its script and its own content policy.

The policy allows no network, pictures only from the file itself, and no script but ours, so that
data in a report can never act. The templates are in page/: base.html.j2 and one for each kind of
report.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(template: str, **pieces: Any) -> str:
    """Return the HTML of page/`template` filled with `pieces`, whose text it escapes."""
    script = page_asset("report.js")
    return (
        _environment()
        .get_template(template)
        .render(
            style=page_asset("report.css"),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            **pieces,
        )
    )


def page_asset(name: str) -> str:
    """Return the text of a file in page/."""
    return (files("maquette.evaluation") / "page" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(page_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
