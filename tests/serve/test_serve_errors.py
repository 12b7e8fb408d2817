"""Requests that cannot be answered: status, one shape, and a text that says what to change."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from served import serving

from maquette.serve.reading import Limits

JSON = {"Content-Type": "application/json"}


def expect(reply, status: int, error: str, *texts: str) -> None:
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert list(body) == ["error", "detail", "request_id"]
    assert body["error"] == error
    for text in texts:
        assert text in body["detail"]
    assert "Traceback" not in body["detail"]
    assert reply.headers["x-request-id"] == body["request_id"]


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (b"", ["The body is empty", '{"features": [[5.1, 3.5]]}']),
        (b'{"features": [[1, 2', ["not valid JSON", "line 1 column"]),
        (b'{"features":\n [[1, oops]]}', ["not valid JSON", "line 2 column 7"]),
        (b'{"features": [[NaN, 1, 2, 3]]}', ["is NaN", "must be finite", "Send null"]),
        (b'{"features": [[1, -Infinity, 2, 3]]}', ["is Infinity", "must be finite"]),
        (b'{"features": [[1, 1e999, 2, 3]]}', ["too large", "must be finite"]),
        (b'\xff{"features": [[1]]}', ["not valid JSON", "UTF-8"]),
        (b"\n{}}", ["not valid JSON", "line 2 column 3"]),
        (b"[" * 5000, ["not valid JSON", "depth"]),
    ],
)
def test_malformed_json_is_400_with_its_place(both, body, texts):
    expect(
        both.client.post("/predict/tabular", content=body, headers=JSON),
        400,
        "bad_request",
        *texts,
    )


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        ([[1, 2, 3, 4]], ["The body is a list", "expected an object"]),
        ("5.1", ["The body is a string"]),
        (5, ["The body is a number"]),
        (True, ["The body is a boolean"]),
        ({}, ["neither features nor rows"]),
        ({"features": [[1]], "rows": [{}]}, ["both features and rows"]),
        ({"feature": [[1]]}, ["Unknown key 'feature'", "Did you mean 'features'?"]),
        ({"features": []}, ["features is empty", "at least one row"]),
        ({"features": {}}, ["features is an object", "expected a list"]),
        ({"features": [1, 2, 3, 4]}, ["features[0] is a number", "expected a list of cells"]),
        ({"rows": [[1, 2]]}, ["rows[0] is a list", "expected an object"]),
        (
            {"features": [[1, 2, 3, 4], [1, 2, 3]]},
            ["Row 1", "3 cells", "expected 4", "petal_width"],
        ),
        ({"features": [[1, 2, 3, "wide"]]}, ["Row 0", "'petal_width'", "'wide'", "finite number"]),
        ({"features": [[1, 2, 3, True]]}, ["Row 0", "'petal_width'", "True"]),
        ({"features": [[1, 2, 3, [4]]]}, ["Row 0", "'petal_width'"]),
        ({"rows": [{"sepal_lenght": 1}]}, ["sepal_lenght", "Did you mean 'sepal_length'?"]),
        ({"rows": [{"sepal_length": 1}]}, ["Row 0", "no field 'sepal_width'"]),
    ],
)
def test_rows_that_do_not_fit_are_422_and_say_why(both, body, texts):
    expect(both.client.post("/predict/tabular", json=body), 422, "invalid_input", *texts)


def test_null_is_not_a_body(both):
    reply = both.client.post("/predict/tabular", content=b"null", headers=JSON)

    expect(reply, 422, "invalid_input", "The body is null, expected an object")


@pytest.mark.parametrize("content_type", ["text/csv", "application/x-www-form-urlencoded", ""])
def test_other_content_types_are_415(both, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    reply = both.client.post("/predict/tabular", content=b"{}", headers=headers)

    expect(reply, 415, "unsupported_media_type", content_type or "missing", "application/json")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/ld+json"])
def test_every_spelling_of_json_is_taken(both, content_type):
    reply = both.client.post(
        "/predict/tabular",
        content=b'{"features": [[5, 3, 4, 1]]}',
        headers={"Content-Type": content_type},
    )

    assert reply.status_code == 200


def test_too_many_rows_are_413(iris):
    client = serving(iris, limits=Limits(max_rows=2)).client
    reply = client.post("/predict/tabular", json={"features": [[1, 2, 3, 4]] * 3})

    expect(reply, 413, "too_large", "3 rows", "at most 2", "in parts")


def test_too_large_a_body_is_413(iris):
    client = serving(iris, limits=Limits(max_body_bytes=1000)).client
    reply = client.post("/predict/tabular", content=b" " * 1001, headers=JSON)

    expect(reply, 413, "too_large", "larger than 1000 bytes", "in parts")
    assert reply.headers["connection"] == "close"


def test_an_unknown_model_is_404_with_the_nearest(both):
    reply = both.client.post("/predict/tabular?model=irys", json={"features": [[1, 2, 3, 4]]})

    expect(reply, 404, "not_found", "'irys'", "Did you mean 'iris'?", "colours, iris")


def test_a_model_of_another_task_is_409_with_its_path(both):
    reply = both.client.post("/predict/tabular?model=colours", json={"features": [[1, 2, 3, 4]]})

    expect(reply, 409, "wrong_task", "'colours' is a vision model", "/predict/image")


def test_a_table_request_to_a_server_of_images_is_404_and_tells_what_is_served(colours):
    reply = serving(colours).client.post("/predict/tabular", json={"features": [[1]]})

    expect(reply, 404, "not_found", "No tabular model is served", "colours (/predict/image)")


def test_an_unknown_path_is_404_with_the_nearest(both):
    reply = both.client.post("/predict/tablar", json={})

    expect(reply, 404, "not_found", "'/predict/tablar'", "Did you mean '/predict/tabular'?")


def test_a_wrong_method_is_405_with_the_right_one(both):
    reply = both.client.get("/predict/tabular")

    expect(reply, 405, "method_not_allowed", "does not take GET", "use POST")
    assert reply.headers["allow"] == "POST"


def test_text_is_not_an_image(both):
    reply = both.client.post("/predict/image", files={"file": b"not an image"})

    expect(reply, 422, "invalid_input", "Image 0", "not an image Maquette reads")


def test_the_second_of_two_images_is_named(both, colours):
    uploads = [("file", colours.example()), ("file", colours.example()[:60])]
    reply = both.client.post("/predict/image", files=uploads)

    expect(reply, 422, "invalid_input", "Image 1", "truncated or corrupt")


def test_a_decompression_bomb_is_refused_by_its_header(both):
    reply = both.client.post("/predict/image", files={"file": bomb(40_000, 40_000)})

    expect(reply, 422, "invalid_input", "1600000000 pixels", "max_pixels", "before decoding")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        check = struct.pack(">I", zlib.crc32(kind + data))
        content += struct.pack(">I", len(data)) + kind + data + check
    return content


def test_empty_and_missing_images(both):
    expect(
        both.client.post("/predict/image", files={"file": ("a.png", b"")}),
        422,
        "invalid_input",
        "'a.png' is empty (0 bytes)",
    )
    expect(
        both.client.post("/predict/image", content=b"", headers={"Content-Type": "image/png"}),
        422,
        "invalid_input",
        "The body is empty (0 bytes)",
    )


def test_form_fields_are_named_when_they_are_wrong(both, colours):
    image = colours.example()
    expect(
        both.client.post("/predict/image", files={"fil": image}),
        422,
        "invalid_input",
        "Unknown form field 'fil'",
        "Did you mean 'file'?",
    )
    boundary = {"Content-Type": "multipart/form-data; boundary=edge"}
    text = b'--edge\r\nContent-Disposition: form-data; name="file"\r\n\r\nphoto.jpg\r\n--edge--\r\n'
    expect(
        both.client.post("/predict/image", content=text, headers=boundary),
        422,
        "invalid_input",
        "'file' is text, expected a file",
        "-F file=@photo.jpg",
    )
    expect(
        both.client.post("/predict/image", content=b"--edge--\r\n", headers=boundary),
        422,
        "invalid_input",
        "no image",
    )


def test_a_malformed_form_is_400(both):
    reply = both.client.post(
        "/predict/image", content=b"abc", headers={"Content-Type": "multipart/form-data"}
    )

    expect(reply, 400, "bad_request", "The form cannot be read", "boundary")


def test_too_many_images_are_413(colours):
    client = serving(colours, limits=Limits(max_images=2)).client
    uploads = [("file", colours.example())] * 3

    expect(client.post("/predict/image", files=uploads), 413, "too_large", "at most 2 images")


def test_json_sent_to_images_is_415(both):
    reply = both.client.post("/predict/image", json={"features": [[1]]})

    expect(reply, 415, "unsupported_media_type", "application/json", "multipart/form-data", "curl")


def test_an_image_of_another_kind_is_decoded_all_the_same(both):
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    for name in ("JPEG", "BMP", "TIFF", "WebP"):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format=name)
        reply = both.client.post("/predict/image", files={"file": stream.getvalue()})
        assert reply.status_code == 200


def test_an_unexpected_failure_is_500_and_its_traceback_stays_in_the_log(iris, monkeypatch):
    served = serving(iris)

    def fail(*_):
        raise RuntimeError("the secret cause")

    monkeypatch.setattr(type(iris), "predict", fail)
    reply = served.client.post("/predict/tabular", json={"features": [[1, 2, 3, 4]]})

    expect(reply, 500, "internal_error", "its log has the cause")
    assert "secret" not in reply.text
    failure, access = served.log()
    assert failure["request_id"] == access["request_id"] == reply.json()["request_id"]
    assert "the secret cause" in failure["exception"]
    assert access["status"] == 500
