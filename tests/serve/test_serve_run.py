"""The server as a process: it starts, answers, refuses teachingly, and stops."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from maquette.errors import BundleError, RunError, UsageError
from maquette.serve.run import reserve, serve

SERVE = "import sys; from maquette.serve.run import serve; serve(sys.argv[1:], port=0)"


def fetch(url: str, body: bytes | None = None, content_type: str = "application/json"):
    request = Request(url, data=body, headers={"Content-Type": content_type})
    with urlopen(request, timeout=20) as reply:
        return json.loads(reply.read())


def test_a_process_serves_a_table_and_images_until_it_is_terminated(tmp_path, iris, colours):
    log = tmp_path / "log"
    with log.open("wb") as stream:
        command = [sys.executable, "-c", SERVE, iris.path, colours.path]
        process = subprocess.Popen(command, stderr=stream)
    try:
        url = wait_for_url(process, log)
        table = fetch(f"{url}/predict/tabular", b'{"features": [[5.1, 3.5, 1.4, 0.2]]}')
        image = fetch(f"{url}/predict/image", colours.example(), "image/png")
        ready = fetch(f"{url}/ready")
    finally:
        process.terminate()
        ended = process.wait(20)

    assert ended == -signal.SIGTERM  # after the orderly stop below, as a shell expects it
    assert ready == {"status": "ready", "models": ["iris", "colours"]}
    assert table["predictions"] == iris.predict([[5.1, 3.5, 1.4, 0.2]]).values
    assert image["predictions"] == colours.predict([colours.example()]).values
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events == ["listening", "server started", *["request"] * 3, "server stopped"]


def wait_for_url(process: subprocess.Popen, log: Path) -> str:
    while process.poll() is None:
        for line in log.read_text().splitlines():
            if line.endswith("}") and "url" in json.loads(line):
                return json.loads(line)["url"]
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def test_an_interrupted_server_returns_and_a_body_far_too_large_closes_its_connection(iris):
    with reserve("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    replies = []

    def use_it() -> None:
        try:
            replies.append(fetch_when_ready(f"http://127.0.0.1:{port}/health"))
            replies.append(too_large_a_request(port))
            replies.append(fetch(f"http://127.0.0.1:{port}/health"))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    user = threading.Thread(target=use_it)
    user.start()
    serve([iris.path], port=port)  # returns, for Ctrl-C is how a server is stopped
    user.join()

    assert replies[0]["status"] == replies[2]["status"] == "ok"
    assert replies[1].startswith(b"HTTP/1.1 413")
    assert b'"error":"too_large"' in replies[1]


def fetch_when_ready(url: str):
    for _ in range(200):
        try:
            return fetch(url)
        except URLError:
            time.sleep(0.05)
    raise AssertionError("the server did not start")


def too_large_a_request(port: int) -> bytes:
    """Announce 100 GB, send one byte, and read until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(
            b"POST /predict/tabular HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99999999999\r\n\r\n{"
        )
        reply = b""
        while part := connection.recv(65536):
            reply += part
        return reply


def test_a_port_in_use_is_told_before_anything_is_loaded(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RunError) as raised:
            serve([tmp_path / "no bundle here"], port=port)

    text = str(raised.value)
    assert f"Port {port} on 127.0.0.1 is in use by another program" in text
    suggested = int(text.rpartition("--port ")[2].rstrip("."))
    reserve("127.0.0.1", suggested).close()


def test_a_reserved_port_is_taken(tmp_path):
    with reserve("127.0.0.1", 0) as listener, pytest.raises(RunError, match="in use"):
        reserve("127.0.0.1", listener.getsockname()[1])


def test_an_address_of_another_machine_is_a_usage_error():
    with pytest.raises(UsageError, match=r"Cannot listen on host '192\.0\.2\.1'.*127\.0\.0\.1"):
        reserve("192.0.2.1", 0)


def test_an_unknown_host_is_a_usage_error():
    with pytest.raises(UsageError, match=r"Cannot listen on host 'no\.such\.host\.invalid'"):
        reserve("no.such.host.invalid", 0)


def test_a_port_that_does_not_exist_is_a_usage_error():
    with pytest.raises(UsageError, match="Port 70000 does not exist; ports go from 1 to 65535"):
        reserve("127.0.0.1", 70000)


def test_no_bundle_is_a_usage_error():
    with pytest.raises(UsageError, match="Give at least one bundle"):
        serve([])


def test_a_bundle_whose_probes_differ_stops_the_start(tmp_path, iris):
    from maquette.files import sha256, write_json

    damaged = shutil.copytree(iris.path, tmp_path / "damaged")
    probes = json.loads((damaged / "probes.json").read_text())
    probes["outputs"][0] = [100.0 for _ in probes["outputs"][0]]
    write_json(damaged / "probes.json", probes)
    manifest = json.loads((damaged / "bundle.json").read_text())
    manifest["files"]["probes.json"] = sha256(damaged / "probes.json")
    write_json(damaged / "bundle.json", manifest)

    with pytest.raises(BundleError, match="does not reproduce its own answers"):
        serve([damaged], port=0)
