"""Request ids, the access log, and the body limit."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest
from served import serving
from starlette.requests import ClientDisconnect, Request

from maquette.serve.middleware import BodyLimit, Notes
from maquette.serve.reading import Limits

ROW = {"features": [[5.1, 3.5, 1.4, 0.2]]}


def test_one_line_per_request_says_what_happened(iris):
    served = serving(iris)
    served.client.post("/predict/tabular", json=ROW, headers={"X-Request-ID": "abc-1"})

    (line,) = served.log()
    assert line["duration_ms"] > 0
    age = datetime.now(UTC) - datetime.fromisoformat(line["timestamp"])
    assert timedelta(0) <= age < timedelta(seconds=5)
    told = {name: line[name] for name in line if name not in ("duration_ms", "timestamp")}
    assert told == {
        "event": "request",
        "level": "info",
        "request_id": "abc-1",
        "method": "POST",
        "path": "/predict/tabular",
        "status": 200,
        "model": "iris",
        "rows": 1,
    }


def test_start_and_stop_are_logged(iris):
    served = serving(iris)
    with served.client:
        pass

    assert [line["event"] for line in served.log()] == ["server started", "server stopped"]
    assert served.log()[0]["models"] == ["iris"]


def test_a_sane_request_id_is_kept(iris):
    reply = serving(iris).client.get("/health", headers={"X-Request-ID": "job:7_a.b-c"})

    assert reply.headers["x-request-id"] == "job:7_a.b-c"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"b', "a\\n", "é"])
def test_another_request_id_is_replaced(iris, given):
    reply = serving(iris).client.get("/health", headers={"X-Request-ID": given.encode()})

    assert re.fullmatch(r"[0-9a-f]{16}", reply.headers["x-request-id"])


def test_unknown_paths_share_one_label(iris):
    client = serving(iris).client
    for path in ("/a", "/b", "/c"):
        client.get(path)

    text = client.get("/metrics").text
    assert 'maquette_requests_total{endpoint="unknown",model="",status="404"} 3.0' in text
    assert '"/a"' not in text


def test_a_body_within_the_limit_is_read(iris):
    client = serving(iris, limits=Limits(max_body_bytes=200)).client

    assert client.post("/predict/tabular", json=ROW).status_code == 200


def test_a_streamed_body_is_cut_off_when_it_passes_the_limit(iris):
    """Without a Content-Length only what was received can be counted."""
    served = serving(iris, limits=Limits(max_body_bytes=1000))
    sent = 0

    def endless():
        nonlocal sent
        while True:
            sent += 100
            yield b" " * 100
            if sent > 100_000:
                return

    reply = served.client.post(
        "/predict/tabular", content=endless(), headers={"Content-Type": "application/json"}
    )
    assert reply.status_code == 413
    assert "larger than 1000 bytes" in reply.json()["detail"]


def test_the_body_limit_stops_reading_at_once():
    """At most one part beyond the limit is taken from the connection."""
    received = []

    async def receive():
        received.append(1)
        return {"type": "http.request", "body": b"x" * 400, "more_body": True}

    async def app(scope, receive, send):
        await Request(scope, receive).body()

    async def run():
        scope = {"type": "http", "headers": [], "method": "POST"}
        await BodyLimit(app, max_bytes=1000)(scope, receive, None)

    with pytest.raises(Exception, match="larger than 1000 bytes"):
        asyncio.run(run())
    assert len(received) == 3


def test_a_declared_length_beyond_the_limit_is_refused_unread():
    sent = []

    async def receive():
        raise AssertionError("nothing should be read")

    async def send(message):
        sent.append(message)

    async def run():
        scope = {
            "type": "http",
            "method": "POST",
            "headers": [(b"content-length", b"1001")],
            "maquette.notes": Notes("abc"),
        }
        await BodyLimit(None, max_bytes=1000)(scope, receive, send)

    asyncio.run(run())
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_client_that_leaves_is_logged_as_499(iris, monkeypatch):
    served = serving(iris)

    async def leave(_):
        raise ClientDisconnect

    monkeypatch.setattr(Request, "body", leave)
    with pytest.raises(AssertionError):  # the test client insists on an answer
        served.client.post("/predict/tabular", json=ROW)
    assert served.log()[-1]["status"] == 499
