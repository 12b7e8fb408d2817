"""What the OpenAPI document says beyond the signatures: bodies, examples, errors, names of groups.

Each function returns the keyword arguments of one route. The examples come from the bundles that
are served, so every one of them works as it is; a server without a model shows Iris.
"""

from __future__ import annotations

from typing import Any

from maquette.serve.examples import example_body, example_features
from maquette.serve.models import ServedModels
from maquette.serve.reading import Limits
from maquette.serve.schemas import Error

DESCRIPTION = (
    "Predictions of trained models over HTTP. Every error has the form "
    "`{error, detail, request_id}`; the request id is also in the `X-Request-ID` header of every "
    "answer, and one sent with a request is kept."
)

IRIS_ROW = {
    "sepal_length": 5.8,
    "sepal_width": 3.0,
    "petal_length": 4.35,
    "petal_width": 1.3,
}

ERRORS = {
    400: "The body is not valid JSON, or not a readable form.",
    404: "No such model, or none for this kind of input.",
    409: "The named model takes another kind of input.",
    415: "The Content-Type is not one this endpoint reads.",
    422: "An input does not fit the model; the detail names which, and why.",
    500: "The server failed; its log has the cause under the request id.",
    503: "No model is loaded.",
}

MODEL_PARAMETER = {
    "name": "model",
    "in": "query",
    "required": False,
    "description": "The model to ask, by its name; by default the first of its kind.",
    "schema": {"type": "string"},
}

BINARY = {"type": "string", "format": "binary"}
CELL = {"type": ["number", "string", "boolean", "null"]}


def tabular(models: ServedModels, limits: Limits) -> dict[str, Any]:
    """POST /predict/tabular."""
    content = {"schema": _table_schema(models, limits.max_rows), "examples": _row_examples(models)}
    return _prediction_route("application/json", content, f"{limits.max_rows} rows", limits)


def image(models: ServedModels, limits: Limits) -> dict[str, Any]:
    """POST /predict/image."""
    uploads = {"type": "array", "items": BINARY, "minItems": 1, "maxItems": limits.max_images}
    form = {
        "type": "object",
        "properties": {"file": uploads},
        "required": ["file"],
        "additionalProperties": False,
    }
    most = f"{limits.max_images} images"
    route = _prediction_route("multipart/form-data", {"schema": form}, most, limits)
    body = route["openapi_extra"]["requestBody"]["content"]
    examples = {
        served.name: {
            "summary": f"An image for {served.name}",
            "externalValue": f"/models/{served.name}/example",
        }
        for served in models
        if served.bundle.task == "vision"
    }
    body["image/png"] = {"schema": BINARY} | ({"examples": examples} if examples else {})
    body["image/jpeg"] = {"schema": BINARY}
    return route


def ready() -> dict[str, Any]:
    """GET /ready."""
    return {"tags": ["Status"], "responses": _errors(503)}


def metrics() -> dict[str, Any]:
    """GET /metrics."""
    content = {
        "text/plain": {"schema": {"type": "string"}},
        "application/json": {"schema": {"type": "object"}},
    }
    described = {"description": "Prometheus text; JSON with `Accept: application/json`."}
    return {"tags": ["Status"], "responses": {200: described | {"content": content}}}


def example(models: ServedModels) -> dict[str, Any]:
    """GET /models/{name}/example."""
    name = {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "examples": {served.name: {"value": served.name} for served in models},
    }
    content = {"application/json": {"schema": {"type": "object"}}, "image/png": {"schema": BINARY}}
    described = {"description": "A request body, or a PNG, ready to be posted."}
    return {
        "tags": ["Models"],
        "responses": {200: described | {"content": content}} | _errors(404),
        "openapi_extra": {"parameters": [name]},
    }


def _prediction_route(
    media_type: str, content: dict[str, Any], most: str, limits: Limits
) -> dict[str, Any]:
    body = {"required": True, "content": {media_type: content}}
    mebibytes = f"{limits.max_body_bytes / 2**20:g} MiB"
    too_large = {"model": Error, "description": f"More than {mebibytes} or {most} in a request."}
    responses = {**_errors(400, 404, 409, 415, 422, 500), 413: too_large}
    return {
        "tags": ["Predictions"],
        "responses": dict(sorted(responses.items())),
        "openapi_extra": {"parameters": [MODEL_PARAMETER], "requestBody": body},
    }


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Error, "description": ERRORS[status]} for status in statuses}


def _table_schema(models: ServedModels, max_rows: int) -> dict[str, Any]:
    return {
        "oneOf": [
            _list_under("features", {"type": "array", "items": CELL}, max_rows),
            _list_under("rows", _row_schema(models), max_rows),
        ]
    }


def _list_under(key: str, items: dict[str, Any], max_items: int) -> dict[str, Any]:
    rows = {"type": "array", "items": items, "minItems": 1, "maxItems": max_items}
    return {
        "type": "object",
        "properties": {key: rows},
        "required": [key],
        "additionalProperties": False,
    }


def _row_schema(models: ServedModels) -> dict[str, Any]:
    """The schema of a named row where there is only one; GET /models has that of each model."""
    tables = [served.bundle for served in models if served.bundle.task == "tabular"]
    if len(tables) != 1:
        return {"type": "object"}
    return {key: part for key, part in tables[0].input_schema().items() if key != "$schema"}


def _row_examples(models: ServedModels) -> dict[str, Any]:
    served = models.default("tabular")
    if served is None:
        named = {"rows": [IRIS_ROW]}
        listed = {"features": [list(IRIS_ROW.values())]}
    else:
        named, listed = example_body(served.bundle), example_features(served.bundle)
    return {
        "features": {"summary": "Cells in the order of the columns", "value": listed},
        "rows": {"summary": "Cells by column name", "value": named},
    }
