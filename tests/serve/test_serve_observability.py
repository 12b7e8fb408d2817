"""Logs and metrics."""

from __future__ import annotations

import asyncio
import io
import json
import logging

from prometheus_client.parser import text_string_to_metric_families
from served import serving

from maquette.serve.observability import AccessLog, ToLogger, make_logger

ROWS = {"features": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}


def families(client) -> dict:
    text = client.get("/metrics").text
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_the_text_is_prometheus_and_holds_what_an_operator_asks(both):
    both.client.post("/predict/tabular", json=ROWS)
    both.client.post("/predict/tabular", json={})
    found = families(both.client)

    statuses = {
        (s.labels["endpoint"], s.labels["model"], s.labels["status"])
        for s in found["maquette_requests"].samples
    }
    assert statuses == {("/predict/tabular", "iris", "200"), ("/predict/tabular", "", "422")}
    counts = [s.value for s in found["maquette_predictions"].samples if s.name.endswith("_total")]
    assert sum(counts) == 2
    inference = found["maquette_inference_seconds"].samples
    assert next(s.value for s in inference if s.name.endswith("_count")) == 1
    models = {s.labels["model"]: s.labels for s in found["maquette_model_info"].samples}
    assert models["colours"]["task"] == "vision"
    assert models["iris"]["device"] == "cpu"


def test_the_health_of_process_and_machine_is_plausible(both):
    found = {
        name: family.samples[0].value
        for name, family in families(both.client).items()
        if family.samples
    }

    assert found["maquette_process_cpu_seconds"] > 0.1
    assert 50e6 < found["maquette_process_memory_bytes"] < found["maquette_system_memory_bytes"]
    assert found["maquette_system_memory_available_bytes"] < found["maquette_system_memory_bytes"]
    assert found["maquette_process_threads"] >= 1
    assert found["maquette_process_open_files"] >= 3
    assert 0 <= found["maquette_system_cpu_percent"] <= 100
    assert 0 < found["maquette_uptime_seconds"] < 3600
    assert found["maquette_requests_in_flight"] == 1


def test_predictions_of_numbers_are_counted_without_a_class(houses):
    served = serving(houses)
    row = {"rows": [{"area": 50, "age": 10, "place": "town"}] * 3}
    served.client.post("/predict/tabular", json=row)

    text = served.client.get("/metrics").text
    assert 'maquette_predictions_total{class="",model="houses"} 3.0' in text


def test_two_apps_do_not_share_measurements(iris):
    first, second = serving(iris), serving(iris)
    first.client.post("/predict/tabular", json=ROWS)

    assert "maquette_requests_total{" in first.client.get("/metrics").text
    assert "maquette_requests_total{" not in second.client.get("/metrics").text


def test_access_lines_are_written_within_their_wait():
    stream = io.BytesIO()

    async def run() -> tuple[bytes, bytes]:
        log = AccessLog(make_logger(stream))
        log.add(path="/a")
        log.add(path="/b")
        at_once = stream.getvalue()
        await asyncio.sleep(AccessLog.WAIT_SECONDS * 1.5)
        return at_once, stream.getvalue()

    at_once, later = asyncio.run(run())
    assert at_once == b""
    assert [json.loads(line)["path"] for line in later.splitlines()] == ["/a", "/b"]


def test_a_full_batch_of_access_lines_is_written_at_once():
    stream = io.BytesIO()

    async def run() -> None:
        log = AccessLog(make_logger(stream))
        for i in range(AccessLog.BATCH + 1):
            log.add(number=i)
            await asyncio.sleep(0)

    asyncio.run(run())
    numbers = [json.loads(line)["number"] for line in stream.getvalue().splitlines()]
    assert numbers == list(range(AccessLog.BATCH))


def test_a_line_kept_back_has_the_time_of_its_request():
    stream = io.BytesIO()

    async def run() -> None:
        log = AccessLog(make_logger(stream))
        log.add(path="/a")
        await asyncio.sleep(0.03)
        make_logger(stream).info("afterwards")
        log.flush()

    asyncio.run(run())
    afterwards, line = map(json.loads, stream.getvalue().splitlines())
    assert afterwards["event"] == "afterwards"
    assert line["timestamp"] < afterwards["timestamp"]


def test_what_libraries_log_becomes_json_too():
    stream = io.BytesIO()
    logger = logging.Logger("a library")
    logger.addHandler(ToLogger(make_logger(stream)))

    logger.info("chatter")
    try:
        raise ValueError("the cause")
    except ValueError:
        logger.exception("it failed at %d", 7)

    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert (line["event"], line["level"], line["source"]) == (
        "it failed at 7",
        "error",
        "a library",
    )
    assert "ValueError: the cause" in line["exception"]
