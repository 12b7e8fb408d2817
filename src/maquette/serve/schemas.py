"""What requests and answers look like: the types behind the OpenAPI document.

These models document. The server reads requests by hand (`reading.py`), because building a model
for every cell costs more than the prediction of a small network; a test holds the two together.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Document(BaseModel):
    """What all of these share: the sentence under a field is its description."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")


class Prediction(Document):
    """One answer per row or image, in the order of the request."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "predictions": ["versicolor"],
                "probabilities": [[0.0105, 0.9771, 0.0124]],
                "inference_time_ms": 0.081,
            }
        }
    )

    predictions: list[str] | list[float]
    """The predicted class, or the predicted number in the unit of the training data."""
    probabilities: list[list[float]] | None
    """One list per input, in the order of the model's `classes` (GET /models); null for numbers."""
    inference_time_ms: float = Field(ge=0)
    """Milliseconds the prediction took, preprocessing included."""


class Error(Document):
    """What went wrong, for programs and for people."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "error": "invalid_input",
                "detail": "Row 0 (counting from 0) has 3 cells, expected 4 in this order: "
                "sepal_length, sepal_width, petal_length, petal_width.",
                "request_id": "5f0c7d2e9b1a4c38",
            }
        }
    )

    error: str
    """A stable word for the kind of error."""
    detail: str
    """What was wrong, where, and what to change."""
    request_id: str
    """Also in the X-Request-ID header and in the server's log."""


class Health(Document):
    """The process is alive."""

    status: Literal["ok"]
    timestamp: str
    """UTC, ISO 8601."""
    model_loaded: bool
    """Whether at least one model is served."""


class Readiness(Document):
    """All models are loaded and have answered their own example."""

    status: Literal["ready"]
    models: list[str]


class Model(Document):
    """A served model."""

    name: str
    task: Literal["tabular", "vision"]
    default: bool
    """Whether it answers requests of its task that name no model."""
    classes: list[str] | None
    """In the order of `probabilities`; null when the model predicts a number."""
    columns: list[str] | None
    """The order of the cells in `features`; null for images."""
    input_schema: dict[str, Any]
    """JSON Schema of one raw input."""
    metrics: dict[str, float]
    """Measured when the model was trained."""
    created: str
    bundle_id: str


class Models(Document):
    """The served models; the first of each task is its default."""

    models: list[Model]
