"""What an operator sees: JSON logs on stderr, Prometheus metrics, the health of the process."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

import orjson
import psutil
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from structlog.typing import EventDict, FilteringBoundLogger

if TYPE_CHECKING:
    from maquette.serve.models import Answer, ServedModel, ServedModels

Logger: TypeAlias = FilteringBoundLogger

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10)
"""Upper edges of the latency buckets; 0.2 s is the promise for an image."""


def make_logger(stream: BinaryIO | None = None) -> Logger:
    """Return a logger that writes one JSON object per line to `stream` (stderr by default)."""
    logger = structlog.wrap_logger(
        structlog.BytesLogger(stream or sys.stderr.buffer),
        processors=[
            structlog.processors.add_log_level,
            _add_timestamp,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    return cast(Logger, logger.bind())


def _add_timestamp(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Write when it happened, which is `at` (seconds since 1970) where a line was kept back."""
    moment = datetime.fromtimestamp(event.pop("at", None) or time.time(), UTC)
    event["timestamp"] = moment.isoformat(timespec="milliseconds")
    return event


class AccessLog:
    """One line per request, written in batches.

    Answering a small prediction takes so little that rendering and writing its line by itself would
    be felt; many lines are written at once instead. A line waits `WAIT_SECONDS` at most.
    """

    WAIT_SECONDS = 0.05
    BATCH = 64

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._lines: list[dict[str, Any]] = []

    def add(self, **line: Any) -> None:
        """Keep a line that is to be written soon; called in the event loop."""
        self._lines.append({"at": time.time(), **line})
        if len(self._lines) >= self.BATCH:
            self.flush()
        elif len(self._lines) == 1:
            asyncio.get_running_loop().call_later(self.WAIT_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what was kept back."""
        lines, self._lines = self._lines, []
        for line in lines:
            self._logger.info("request", **line)


class ToLogger(logging.Handler):
    """Hands what libraries log the standard way to our logger, so that every line is JSON."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        exc_info = record.exc_info or None
        self._logger.log(record.levelno, record.getMessage(), source=record.name, exc_info=exc_info)


class Metrics:
    """The measurements of one server, in a registry of its own."""

    def __init__(self, models: ServedModels) -> None:
        self._registry = CollectorRegistry()
        labels = ["endpoint", "model", "status"]
        requests = Counter(
            "maquette_requests", "Requests answered.", labels, registry=self._registry
        )
        latency = Histogram(
            "maquette_request_seconds",
            "Seconds from the first byte of a request to the last of its answer.",
            labels,
            buckets=SECONDS,
            registry=self._registry,
        )
        inference = Histogram(
            "maquette_inference_seconds",
            "Seconds a prediction took, preprocessing included.",
            ["model"],
            buckets=SECONDS,
            registry=self._registry,
        )
        predictions = Counter(
            "maquette_predictions",
            "Predictions by class; the class is empty for regression.",
            ["model", "class"],
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "maquette_requests_in_flight", "Requests being answered.", registry=self._registry
        )
        # Finding the series of some labels costs more than counting in it, and they are few.
        self._of_request = cache(lambda *by: (requests.labels(*by), latency.labels(*by)))
        self._of_inference = cache(inference.labels)
        self._of_class = cache(predictions.labels)
        self._add_model_info(models)
        self._registry.register(SystemHealth())

    def request(self, endpoint: str, model: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        count, latency = self._of_request(endpoint, model, str(status))
        count.inc()
        latency.observe(seconds)

    def prediction(self, served: ServedModel, answer: Answer) -> None:
        """Count one answered prediction request's inference time and classes."""
        self._of_inference(served.name).observe(answer.seconds)
        values = answer.predictions.values
        if served.bundle.classes is None:
            self._of_class(served.name, "").inc(len(values))
            return
        for value in values:
            self._of_class(served.name, value).inc()

    def as_text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def as_json(self) -> dict[str, Any]:
        """The same as `{metric: {type, help, samples: [{name, labels, value}]}}`."""
        return {
            family.name: {
                "type": family.type,
                "help": family.documentation,
                "samples": [
                    {"name": s.name, "labels": s.labels, "value": s.value} for s in family.samples
                ],
            }
            for family in self._registry.collect()
        }

    def _add_model_info(self, models: ServedModels) -> None:
        info = Gauge(
            "maquette_model_info",
            "1 for each model served.",
            ["model", "task", "bundle_id", "created", "device"],
            registry=self._registry,
        )
        for served in models:
            bundle = served.bundle
            info.labels(
                bundle.name, bundle.task, bundle.bundle_id, bundle.created, bundle.device.name
            ).set(1)


class SystemHealth(Collector):
    """Reads the process and the machine whenever the metrics are asked for."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._started = time.time()

    def collect(self) -> Iterator[Metric]:
        """Yield one metric per fact."""
        with self._process.oneshot():
            times = self._process.cpu_times()
            yield CounterMetricFamily(
                "maquette_process_cpu_seconds",
                "CPU seconds this process has used.",
                value=times.user + times.system,
            )
            for name, help_text, value in self._gauges():
                yield GaugeMetricFamily(f"maquette_{name}", help_text, value=value)

    def _gauges(self) -> Iterator[tuple[str, str, float]]:
        process = self._process
        memory = psutil.virtual_memory()
        yield "process_memory_bytes", "Resident memory of this process.", process.memory_info().rss
        yield "process_threads", "Threads of this process.", process.num_threads()
        yield "process_open_files", "Open files and sockets of this process.", _open_files(process)
        yield "uptime_seconds", "Seconds since the server was made.", time.time() - self._started
        yield "system_cpu_percent", "CPU use of the machine since asked last.", psutil.cpu_percent()
        yield "system_memory_bytes", "Memory of the machine.", memory.total
        yield "system_memory_available_bytes", "Memory left on the machine.", memory.available


def _open_files(process: psutil.Process) -> int:
    return process.num_fds() if os.name == "posix" else len(process.open_files())
