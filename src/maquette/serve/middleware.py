"""What happens around every request, as plain ASGI: an id, a log line, measurements, a size limit.

`Observed` is the outermost layer: it also turns whatever nobody expected into a 500 whose
traceback goes to the log and never to the client. `BodyLimit` refuses a large body before it is
read.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from maquette.errors import RequestError
from maquette.serve.replies import error_reply

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from maquette.serve.observability import AccessLog, Logger, Metrics

SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
"""Request ids from outside that are safe to put into logs and headers as they are."""

CLIENT_LEFT = 499
"""The status in the log when the client closed the connection before the answer."""


@dataclass(slots=True)
class Notes:
    """What is known about one request; handlers add the model and the number of inputs."""

    request_id: str
    model: str = ""
    rows: int = 0
    status: int = 0


def notes_of(scope: Scope) -> Notes:
    """Return the notes that `Observed` keeps for this request."""
    notes: Notes = scope["maquette.notes"]
    return notes


class Observed:
    """Give each request an id, answer what went unexpectedly wrong, measure, and log one line."""

    def __init__(
        self, app: ASGIApp, *, logger: Logger, access_log: AccessLog, metrics: Metrics
    ) -> None:
        self._app = app
        self._logger = logger
        self._access_log = access_log
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        notes = scope["maquette.notes"] = Notes(_request_id(scope))
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                notes.status = message["status"]
                message["headers"].append((b"x-request-id", notes.request_id.encode()))
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            notes.status = CLIENT_LEFT
        except Exception:
            self._logger.exception("unexpected error", request_id=notes.request_id)
            if notes.status:  # the answer had begun: all that is left is to break the connection
                raise
            await _unexpected(notes.request_id)(scope, receive, send_with_id)
        finally:
            self._metrics.in_flight.dec()
            self._record(scope, notes, time.perf_counter() - started)

    def _record(self, scope: Scope, notes: Notes, seconds: float) -> None:
        route = scope.get("route")
        endpoint = route.path if route is not None else "unknown"  # few labels, whatever is asked
        self._metrics.request(endpoint, notes.model, notes.status, seconds)
        self._access_log.add(
            request_id=notes.request_id,
            method=scope["method"],
            path=scope["path"],
            status=notes.status,
            duration_ms=round(seconds * 1000, 3),
            model=notes.model,
            rows=notes.rows,
        )


class BodyLimit:
    """Refuse bodies above a limit: by their declared length, or as soon as they have grown past it.

    The connection is closed with the refusal, so the rest of the body is never read.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = _header(scope, b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise RequestError(self._detail(), status=413)
            return message

        await self._app(scope, counted, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = error_reply(
            413,
            self._detail(),
            request_id=notes_of(scope).request_id,
            headers={"connection": "close"},
        )
        await reply(scope, receive, send)

    def _detail(self) -> str:
        return (
            f"The body is larger than {self._max_bytes} bytes, the most this server reads; "
            "send it in parts."
        )


def _unexpected(request_id: str) -> Response:
    return error_reply(
        500,
        "The server failed to answer this request; its log has the cause under the request_id.",
        request_id=request_id,
    )


def _request_id(scope: Scope) -> str:
    given = _header(scope, b"x-request-id")
    if given is not None and SANE_ID.fullmatch(given):
        return given.decode()
    return secrets.token_hex(8)


def _header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            content: bytes = value
            return content
    return None
