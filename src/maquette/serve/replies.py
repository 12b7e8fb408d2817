"""Answers as JSON: predictions, and one shape for every error.

An error is `{"error", "detail", "request_id"}`: a stable word to branch on, a sentence for people
that says what to change, and the id under which the log has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from maquette.serve.models import Answer

ERRORS = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    409: "wrong_task",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_input",
    500: "internal_error",
    503: "not_ready",
}
"""The word for each status an error can have."""


class Json(Response):
    """A JSON answer; arrays are written without a detour through lists, NaN becomes null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def prediction_reply(answer: Answer) -> Json:
    """Return `{predictions, probabilities, inference_time_ms}`."""
    predictions = answer.predictions
    return Json(
        {
            "predictions": predictions.values,
            "probabilities": predictions.probabilities,
            "inference_time_ms": round(answer.seconds * 1000, 3),
        }
    )


def error_reply(
    status: int, detail: str, *, request_id: str, headers: Mapping[str, str] | None = None
) -> Json:
    """Return `{error, detail, request_id}` with `status`."""
    content = {"error": ERRORS.get(status, "error"), "detail": detail, "request_id": request_id}
    return Json(content, status_code=status, headers=dict(headers or {}))
