"""The bundles being served: which one answers a request, and where its prediction runs.

A small network answers in less time than handing the work to a thread takes, so its predictions
run in the event loop. Everything slower runs in threads, so that /health stays responsive. Which
is which is measured when the server starts, on the bundle's own example.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maquette.errors import RequestError, UsageError, one_of

if TYPE_CHECKING:
    from maquette.bundle import Bundle
    from maquette.tasks.base import Predictions

INLINE_SECONDS = 0.002
"""Longest prediction that may hold the event loop."""

INLINE_BATCHES = (1, 4, 16, 64, 256)
"""Batch sizes tried at the start, smallest first."""

PATHS = {"tabular": "/predict/tabular", "vision": "/predict/image"}
"""Where each task's predictions are asked for."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A warmed-up bundle."""

    bundle: Bundle
    inline_rows: int
    """Largest batch that is predicted in the event loop; 0 for none."""
    is_default: bool
    """Whether it answers requests of its task that name no model."""

    @property
    def name(self) -> str:
        return self.bundle.name


@dataclass(frozen=True, slots=True)
class Answer:
    """Predictions and how long they took."""

    predictions: Predictions
    seconds: float


class ServedModels:
    """All bundles of one server; the first of each task is that task's default."""

    def __init__(self, bundles: Sequence[Bundle], *, workers: int = 1) -> None:
        """Warm up every bundle.

        Args:
            workers: threads for predictions that are too slow for the event loop.
        Raises:
            UsageError: two bundles have the same name.
            MaquetteError: a bundle does not accept its own example.
        """
        _refuse_same_names(bundles)
        _refuse_unserved(bundles)
        self._by_name: dict[str, ServedModel] = {}
        self._defaults: dict[str, ServedModel] = {}
        for bundle in bundles:
            is_default = bundle.task not in self._defaults
            served = ServedModel(
                bundle=bundle, inline_rows=_inline_rows(bundle), is_default=is_default
            )
            self._by_name[bundle.name] = served
            self._defaults.setdefault(bundle.task, served)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="predict")

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Any:
        return iter(self._by_name.values())

    def default(self, task: str) -> ServedModel | None:
        """The model that answers requests of `task` which name none, if any does."""
        return self._defaults.get(task)

    def find(self, name: str) -> ServedModel:
        """Return the model called `name`.

        Raises:
            RequestError: 404, there is none; the text gives the nearest name.
        """
        try:
            return self._by_name[name]
        except KeyError:
            if not self._by_name:
                raise RequestError(
                    f"Unknown model {name!r}: no model is loaded.", status=404
                ) from None
            raise RequestError(one_of("model", name, self._by_name), status=404) from None

    def choose(self, task: str, name: str | None) -> ServedModel:
        """Return the model for a request of `task`: the one named, else the default.

        Raises:
            RequestError: 404 when there is none, 409 when the one named has another task.
        """
        if name is not None:
            served = self.find(name)
            if served.bundle.task != task:
                other = served.bundle.task
                raise RequestError(
                    f"Model {name!r} is a {other} model; post to {PATHS[other]} instead.",
                    status=409,
                )
            return served
        if task not in self._defaults:
            raise RequestError(self._none_for(task), status=404)
        return self._defaults[task]

    async def predict(self, served: ServedModel, raw: Sequence[Any]) -> Answer:
        """Predict `raw` with `served`, in the event loop or in a thread.

        Raises:
            RequestError: an input does not fit the model.
        """
        if len(raw) <= served.inline_rows:
            return _timed(served.bundle, raw)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _timed, served.bundle, raw)

    def close(self) -> None:
        """Let running predictions end and stop the threads."""
        self._pool.shutdown()

    def _none_for(self, task: str) -> str:
        if not self._by_name:
            return "No model is loaded. Start the server with a bundle: maquette serve BUNDLE."
        others = ", ".join(f"{s.name} ({PATHS[s.bundle.task]})" for s in self)
        return f"No {task} model is served here. Served: {others}."


def _refuse_unserved(bundles: Sequence[Bundle]) -> None:
    for bundle in bundles:
        if bundle.task not in PATHS:
            raise UsageError(
                f"The bundle {bundle.name} compares images with texts, which the server does not "
                "offer yet; `maquette predict` and `maquette.load(…).predict` do."
            )


def _refuse_same_names(bundles: Sequence[Bundle]) -> None:
    seen: dict[str, Bundle] = {}
    for bundle in bundles:
        if bundle.name in seen:
            raise UsageError(
                f"Two bundles are named {bundle.name!r}: {seen[bundle.name].path} and "
                f"{bundle.path}. Requests choose a model by its name; serve one of the two, or "
                "train one of them under another `name:`."
            )
        seen[bundle.name] = bundle


def _inline_rows(bundle: Bundle) -> int:
    """Warm up, and return the largest batch whose prediction stays below INLINE_SECONDS."""
    example = bundle.example()
    bundle.predict([example])  # the first call pays for what torch sets up lazily
    fitting = 0
    for size in INLINE_BATCHES:
        if _best_seconds(bundle, [example] * size) > INLINE_SECONDS:
            break
        fitting = size
    return fitting


def _best_seconds(bundle: Bundle, raw: Sequence[Any]) -> float:
    return min(_timed(bundle, raw).seconds for _ in range(3))


def _timed(bundle: Bundle, raw: Sequence[Any]) -> Answer:
    started = time.perf_counter()
    predictions = bundle.predict(raw)
    return Answer(predictions, time.perf_counter() - started)
