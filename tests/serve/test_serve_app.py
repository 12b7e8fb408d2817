"""The endpoints, through real bundles."""

from __future__ import annotations

import re
from datetime import datetime

import numpy as np
import pytest
from served import serving

FIELDS = ["predictions", "probabilities", "inference_time_ms"]
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 3.0, 4.2, 1.5]]


def test_health_has_exactly_its_three_fields(both):
    reply = both.client.get("/health")

    assert reply.status_code == 200
    assert list(reply.json()) == ["status", "timestamp", "model_loaded"]
    assert reply.json()["status"] == "ok"
    assert reply.json()["model_loaded"] is True
    assert datetime.fromisoformat(reply.json()["timestamp"]).tzinfo is not None


def test_ready_names_the_models(both):
    reply = both.client.get("/ready")

    assert (reply.status_code, reply.json()) == (
        200,
        {"status": "ready", "models": ["iris", "colours"]},
    )


def test_a_server_without_models_is_healthy_but_not_ready():
    client = serving().client

    assert client.get("/health").json()["model_loaded"] is False
    assert client.get("/ready").status_code == 503
    assert client.get("/ready").json()["error"] == "not_ready"
    assert "No model is loaded" in client.get("/ready").json()["detail"]
    assert client.get("/models").json() == {"models": []}
    assert client.post("/predict/tabular", json={"features": ROWS}).status_code == 404


def test_features_get_the_answers_of_the_bundle(both, iris):
    reply = both.client.post("/predict/tabular", json={"features": ROWS}).json()
    expected = iris.predict(ROWS)

    assert list(reply) == FIELDS
    assert reply["predictions"] == expected.values
    np.testing.assert_array_equal(
        np.array(reply["probabilities"], dtype=np.float32), expected.probabilities
    )
    assert reply["inference_time_ms"] > 0


def test_named_rows_in_any_order_equal_features(both, iris):
    columns = both.client.get("/models").json()["models"][0]["columns"]
    named = [dict(reversed(list(zip(columns, row, strict=True)))) for row in ROWS]

    by_name = both.client.post("/predict/tabular", json={"rows": named}).json()
    by_place = both.client.post("/predict/tabular", json={"features": ROWS}).json()

    assert by_name["probabilities"] == by_place["probabilities"]


def test_probabilities_are_in_the_order_that_models_tells(both):
    classes = both.client.get("/models").json()["models"][0]["classes"]
    reply = both.client.post("/predict/tabular", json={"features": ROWS}).json()

    likeliest = [classes[int(np.argmax(row))] for row in reply["probabilities"]]
    assert likeliest == reply["predictions"]


def test_regression_answers_numbers_and_no_probabilities(houses):
    served = serving(houses)
    row = {"area": 120.0, "age": None, "place": "coast"}

    reply = served.client.post("/predict/tabular", json={"rows": [row]}).json()

    assert list(reply) == FIELDS
    assert reply["probabilities"] is None
    assert reply["predictions"] == houses.predict([row]).values
    assert isinstance(reply["predictions"][0], float)


@pytest.mark.parametrize("count", [1, 3])
def test_uploaded_images_get_the_answers_of_the_bundle(both, colours, count):
    image = colours.example()
    uploads = [("file", (f"{i}.png", image, "image/png")) for i in range(count)]

    reply = both.client.post("/predict/image", files=uploads).json()
    expected = colours.predict([image])

    assert list(reply) == FIELDS
    assert reply["predictions"] == expected.values * count
    np.testing.assert_allclose(
        reply["probabilities"], np.repeat(expected.probabilities, count, axis=0), atol=1e-6
    )


def test_an_image_may_be_the_body_itself(both, colours):
    image = colours.example()

    raw = both.client.post("/predict/image", content=image, headers={"Content-Type": "image/png"})
    form = both.client.post("/predict/image", files={"file": image})

    assert raw.status_code == 200
    assert raw.json()["probabilities"] == form.json()["probabilities"]


def test_model_chooses_among_several(iris, houses):
    client = serving(iris, houses).client
    house = {"rows": [{"area": 50, "age": 10, "place": "town"}]}

    assert client.post("/predict/tabular?model=houses", json=house).status_code == 200
    assert client.post("/predict/tabular?model=iris", json={"features": ROWS}).status_code == 200
    assert client.post("/predict/tabular", json={"features": ROWS}).status_code == 200
    assert [m["default"] for m in client.get("/models").json()["models"]] == [True, False]


def test_models_tells_what_a_client_needs(both, iris, colours):
    table, image = both.client.get("/models").json()["models"]

    assert (table["name"], table["task"], table["default"]) == ("iris", "tabular", True)
    assert table["classes"] == ["setosa", "versicolor", "virginica"]
    assert table["columns"] == ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    assert table["input_schema"] == iris.input_schema()
    assert table["metrics"] == pytest.approx(iris.metrics)
    assert (table["created"], table["bundle_id"]) == (iris.created, iris.bundle_id)
    assert (image["task"], image["columns"]) == ("vision", None)
    assert image["classes"] == list(colours.classes)


def test_every_example_of_the_document_is_answered(both):
    spec = both.client.get("/openapi.json").json()
    table = spec["paths"]["/predict/tabular"]["post"]["requestBody"]["content"]
    image = spec["paths"]["/predict/image"]["post"]["requestBody"]["content"]

    examples = table["application/json"]["examples"].values()
    assert len(examples) == 2
    for example in examples:
        assert both.client.post("/predict/tabular", json=example["value"]).status_code == 200
    for example in image["image/png"]["examples"].values():
        fetched = both.client.get(example["externalValue"])
        headers = {"Content-Type": fetched.headers["content-type"]}
        reply = both.client.post("/predict/image", content=fetched.content, headers=headers)
        assert reply.status_code == 200


def test_the_example_of_each_model_is_a_request_it_answers(iris, houses):
    client = serving(iris, houses).client

    for name in ("iris", "houses"):
        body = client.get(f"/models/{name}/example").json()
        assert client.post(f"/predict/tabular?model={name}", json=body).status_code == 200
    assert client.get("/models/irs/example").status_code == 404


def test_the_schema_of_a_single_table_is_in_the_document(iris):
    spec = serving(iris).client.get("/openapi.json").json()
    options = spec["paths"]["/predict/tabular"]["post"]["requestBody"]["content"]
    rows = options["application/json"]["schema"]["oneOf"][1]["properties"]["rows"]

    assert rows["items"]["required"] == list(iris.example())


def test_the_documentation_page_needs_nothing_from_outside(both):
    reply = both.client.get("/docs")

    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", reply.text)
    assert "@import" not in reply.text


def test_metrics_are_prometheus_text_by_default(both):
    both.client.post("/predict/tabular", json={"features": ROWS})
    reply = both.client.get("/metrics")

    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (
        'maquette_requests_total{endpoint="/predict/tabular",model="iris",status="200"} 1.0'
        in reply.text
    )


def test_metrics_are_json_when_asked_for(both):
    both.client.post("/predict/tabular", json={"features": ROWS})
    reply = both.client.get("/metrics", headers={"Accept": "application/json"}).json()

    samples = reply["maquette_predictions"]["samples"]
    counted = sum(s["value"] for s in samples if s["name"] == "maquette_predictions_total")
    assert counted == len(ROWS)
    assert reply["maquette_process_memory_bytes"]["samples"][0]["value"] > 0
