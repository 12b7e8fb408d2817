"""What the tests of the server share: an app around bundles, and what it logged."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from maquette.bundle import Bundle
from maquette.serve.app import create_app
from maquette.serve.observability import make_logger
from maquette.serve.reading import Limits


@dataclass
class Serving:
    """A client of an app, and what the app has logged."""

    client: TestClient
    stream: io.BytesIO

    def log(self) -> list[dict[str, Any]]:
        self.client.app.state.access_log.flush()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def serving(*bundles: Bundle, limits: Limits | None = None) -> Serving:
    stream = io.BytesIO()
    app = create_app(bundles, limits=limits, logger=make_logger(stream))
    return Serving(TestClient(app), stream)


def write_houses(path: Path) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["area", "age", "place", "price"])
        for i in range(120):
            age = "" if i % 7 == 0 else i % 50
            rows.writerow([40 + i * 1.5, age, ("town", "village", "coast")[i % 3], 999.5 + i * 3.7])
