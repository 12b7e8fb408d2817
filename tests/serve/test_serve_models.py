"""Which bundle answers, where its prediction runs, and that company changes no answer."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from served import serving

from maquette.errors import UsageError
from maquette.serve.models import ServedModels

RNG = np.random.default_rng(0)


def test_two_bundles_of_one_name_are_refused(iris):
    with pytest.raises(UsageError, match=r"Two bundles are named 'iris': .* and .*; serve one"):
        ServedModels([iris, iris])


def test_small_networks_predict_in_the_event_loop_and_large_batches_in_threads(iris):
    models = ServedModels([iris])
    served = models.find("iris")
    seen = set()

    class Watched:
        name = task = ""

        def predict(self, raw):
            seen.add(threading.current_thread().name.partition("_")[0])

    few = type(served)(bundle=Watched(), inline_rows=4, is_default=True)
    asyncio.run(models.predict(few, [0] * 4))
    assert seen == {"MainThread"}
    asyncio.run(models.predict(few, [0] * 5))
    assert seen == {"MainThread", "predict"}


def test_the_inline_batch_is_measured(iris):
    assert ServedModels([iris]).find("iris").inline_rows >= 1


def test_a_slow_network_never_runs_in_the_event_loop(iris, monkeypatch):
    fast = type(iris).predict

    def slow(self, raw):
        time.sleep(0.003)
        return fast(self, raw)

    monkeypatch.setattr(type(iris), "predict", slow)
    assert ServedModels([iris]).find("iris").inline_rows == 0


def test_health_answers_while_a_slow_prediction_runs(iris, monkeypatch):
    served = serving(iris)
    started, finish = threading.Event(), threading.Event()
    fast = type(iris).predict

    def waiting(self, raw):
        started.set()
        assert finish.wait(10)
        return fast(self, raw)

    monkeypatch.setattr(type(iris), "predict", waiting)
    rows = {"features": [[1, 2, 3, 4]] * 1000}
    with served.client, ThreadPoolExecutor(1) as pool:
        prediction = pool.submit(served.client.post, "/predict/tabular", json=rows)
        assert started.wait(10)
        assert served.client.get("/health").status_code == 200
        assert not prediction.done()
        assert "maquette_requests_in_flight 2.0" in served.client.get("/metrics").text
        finish.set()
        assert prediction.result().status_code == 200


def test_answers_in_company_equal_answers_alone(both, colours):
    """Eight clients at once, tables and images mixed, small and large requests."""
    tables = [
        {"features": RNG.uniform(0, 8, (size, 4)).round(2).tolist()} for size in (1, 1, 3, 300)
    ]
    image = {"file": colours.example()}

    def table(body):
        return both.client.post("/predict/tabular", json=body).json()["probabilities"]

    def picture(_):
        return both.client.post("/predict/image", files=image).json()["probabilities"]

    alone = [table(body) for body in tables] + [picture(None)]
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(table, body) for body in tables * 8]
        jobs += [pool.submit(picture, None) for _ in range(8)]
        company = [job.result() for job in jobs]

    assert company == alone[:4] * 8 + alone[4:] * 8
