"""API.md is the OpenAPI document."""

from __future__ import annotations

from pathlib import Path

from maquette.serve.api_document import render_api

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_page_is_up_to_date():
    committed = (ROOT / "API.md").read_text(encoding="utf-8")

    assert committed == render_api(), "run `make docs`"


def test_every_endpoint_is_in_it():
    text = render_api()

    for line in (
        "## GET /health",
        "## GET /metrics",
        "## GET /models",
        "## GET /ready",
        "## POST /predict/image",
        "## POST /predict/tabular",
    ):
        assert line in text
