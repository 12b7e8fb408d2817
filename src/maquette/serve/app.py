"""The endpoints. `create_app(bundles)` is a complete ASGI application; `run.py` runs it.

GET  /health            is the process alive            GET /ready    may traffic come
POST /predict/tabular   rows -> predictions             GET /models   what is served
POST /predict/image     images -> predictions           GET /metrics  Prometheus text, or JSON
GET  /models/NAME/example   an input to try             GET /docs     the page to try it on
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from maquette import __version__
from maquette.device import cpu_count
from maquette.errors import RequestError, one_of
from maquette.serve import openapi
from maquette.serve.examples import example_body, example_image
from maquette.serve.middleware import BodyLimit, Observed, notes_of
from maquette.serve.models import ServedModel, ServedModels
from maquette.serve.observability import AccessLog, Logger, Metrics, make_logger
from maquette.serve.reading import Limits, read_images, read_rows
from maquette.serve.replies import Json, error_reply, prediction_reply
from maquette.serve.schemas import Health, Models, Prediction, Readiness

if TYPE_CHECKING:
    from maquette.bundle import Bundle


class DirectRoute(APIRoute):
    """A documented route whose handler takes the request and gives the response as they are.

    FastAPI's own parsing and checking in between costs more than a small network's prediction.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler itself, `async (Request) -> Response`."""
        return self.endpoint


def create_app(
    bundles: Sequence[Bundle],
    *,
    limits: Limits | None = None,
    logger: Logger | None = None,
    workers: int | None = None,
) -> FastAPI:
    """Warm up `bundles` and return the application that serves them.

    Args:
        bundles: the first of each task answers requests that name no model.
        limits: how much one request may ask for.
        logger: where log lines go; stderr by default.
        workers: threads for slow predictions; by default as many as keep the cores busy when each
            uses torch's own number of threads.
    Raises:
        UsageError: two bundles have the same name.
        MaquetteError: a bundle does not accept its own example.
    """
    models = ServedModels(bundles, workers=workers or _workers())
    limits, logger, metrics = limits or Limits(), logger or make_logger(), Metrics(models)
    access_log = AccessLog(logger)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        logger.info("server started", models=[served.name for served in models])
        yield
        models.close()
        access_log.flush()
        logger.info("server stopped")

    app = FastAPI(
        title="Maquette",
        version=__version__,
        description=openapi.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.router.route_class = DirectRoute
    app.state.access_log = access_log
    _add_predictions(app, models, limits, metrics)
    _add_status(app, models, metrics)
    _add_documents(app, models)
    _add_errors(app)
    app.add_middleware(BodyLimit, max_bytes=limits.max_body_bytes)
    app.add_middleware(  # added last, so outermost
        Observed, logger=logger, access_log=access_log, metrics=metrics
    )
    return app


def _workers() -> int:
    import torch

    return max(1, cpu_count() // torch.get_num_threads())


def _add_predictions(app: FastAPI, models: ServedModels, limits: Limits, metrics: Metrics) -> None:
    async def answer(request: Request, served: ServedModel, raw: list[Any]) -> Json:
        notes = notes_of(request.scope)
        notes.model, notes.rows = served.name, len(raw)
        answered = await models.predict(served, raw)
        metrics.prediction(served, answered)
        return prediction_reply(answered)

    @app.post("/predict/tabular", response_model=Prediction, **openapi.tabular(models, limits))
    async def predict_tabular(request: Request) -> Response:
        """Predict rows of a table, given as lists of cells or as objects by column name."""
        served = models.choose("tabular", _wanted_model(request))
        return await answer(request, served, await read_rows(request, limits))

    @app.post("/predict/image", response_model=Prediction, **openapi.image(models, limits))
    async def predict_image(request: Request) -> Response:
        """Predict images, uploaded as a form or sent as the body."""
        served = models.choose("vision", _wanted_model(request))
        return await answer(request, served, await read_images(request, limits))


def _add_status(app: FastAPI, models: ServedModels, metrics: Metrics) -> None:
    @app.get("/health", response_model=Health, tags=["Status"])
    async def health(_: Request) -> Response:
        """Tell that the process is alive."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Json({"status": "ok", "timestamp": now, "model_loaded": len(models) > 0})

    @app.get("/ready", response_model=Readiness, **openapi.ready())
    async def ready(_: Request) -> Response:
        """Tell whether requests may come: every model is loaded and warmed up."""
        if not len(models):
            raise RequestError(
                "No model is loaded. Start the server with a bundle: maquette serve BUNDLE.",
                status=503,
            )
        return Json({"status": "ready", "models": [served.name for served in models]})

    @app.get("/models", response_model=Models, tags=["Models"])
    async def list_models(_: Request) -> Response:
        """List the served models: classes, columns, input schema, metrics."""
        return Json({"models": [_model_facts(served) for served in models]})

    @app.get("/metrics", response_class=Response, **openapi.metrics())
    async def read_metrics(request: Request) -> Response:
        """Give the server's measurements."""
        if "application/json" in request.headers.get("accept", ""):
            return Json(metrics.as_json())
        return Response(metrics.as_text(), media_type="text/plain; version=0.0.4")


def _add_documents(app: FastAPI, models: ServedModels) -> None:
    page = files("maquette.serve").joinpath("docs.html").read_text(encoding="utf-8")

    @app.get("/models/{name}/example", response_class=Response, **openapi.example(models))
    async def example(request: Request) -> Response:
        """Give an input the model accepts: a request body for tables, a PNG for images."""
        served = models.find(request.path_params["name"])
        if served.bundle.task == "tabular":
            return Json(example_body(served.bundle))
        image = await asyncio.to_thread(example_image, served.bundle)
        return Response(image, media_type="image/png")

    @app.get("/docs", include_in_schema=False)
    async def docs(_: Request) -> Response:
        return HTMLResponse(page)


def _add_errors(app: FastAPI) -> None:
    async def explain(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        # The rest of a refused body would only be read to be thrown away.
        headers = {"connection": "close"} if error.http_status == 413 else None
        request_id = notes_of(request.scope).request_id
        return error_reply(error.http_status, str(error), request_id=request_id, headers=headers)

    async def explain_routing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return error_reply(
            error.status_code,
            _routing_detail(app, request, error),
            request_id=notes_of(request.scope).request_id,
            headers=error.headers,
        )

    app.add_exception_handler(RequestError, explain)
    app.add_exception_handler(HTTPException, explain_routing)


def _wanted_model(request: Request) -> str | None:
    return request.query_params.get("model") if request.scope["query_string"] else None


def _routing_detail(app: FastAPI, request: Request, error: HTTPException) -> str:
    """Say which paths there are, or which method the path takes."""
    path = request.url.path
    if error.status_code == 404:
        paths = [route.path for route in app.routes if isinstance(route, Route)]
        return one_of("path", path, paths)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return f"{path} does not take {request.method}; use {allowed}."
    return str(error.detail)


def _model_facts(served: ServedModel) -> dict[str, Any]:
    bundle = served.bundle
    schema = bundle.input_schema()
    return {
        "name": bundle.name,
        "task": bundle.task,
        "default": served.is_default,
        "classes": bundle.classes,
        "columns": list(schema["properties"]) if bundle.task == "tabular" else None,
        "input_schema": schema,
        "metrics": bundle.metrics,
        "created": bundle.created,
        "bundle_id": bundle.bundle_id,
    }
