"""The service, asked through starlette's test client: answers, refusals, and their messages."""

from __future__ import annotations

import base64
import builtins
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unet_seg.checkpoints import LoadedModel
from unet_seg.config import Config
from unet_seg.errors import SegError
from unet_seg.infer import predict
from unet_seg.models import build_model
from unet_seg.service import Refused, create_app, image_bytes, serve

pytest.importorskip("fastapi", reason="the service is an extra")
testclient = pytest.importorskip("starlette.testclient", reason="the client is an extra")

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def loaded(make_config: Callable[..., Config]) -> LoadedModel:
    config = make_config()
    torch.manual_seed(0)
    model = build_model(config).eval()
    classes = config.data.classes
    return LoadedModel(model, config, classes, 7, torch.device("cpu"), Path("m.pt"))


@pytest.fixture
def client(loaded: LoadedModel) -> Any:
    return testclient.TestClient(create_app(loaded, max_bytes=20_000, max_pixels=700))


def encode(array: np.ndarray, file_format: str = "PNG") -> bytes:
    file = BytesIO()
    Image.fromarray(array).save(file, format=file_format)
    return file.getvalue()


def claim(height: int, width: int) -> bytes:
    """A small PNG whose header says that it is large."""
    png = encode(np.zeros((1, 1), np.uint8))
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def test_health(client: Any, loaded: LoadedModel) -> None:
    assert client.get("/health").json() == {
        "status": "ok",
        "model": "unet",
        "classes": list(loaded.classes),
        "step": 7,
        "device": "cpu",
    }


@pytest.mark.parametrize("how", ["body", "octets", "form"])
def test_an_image_gives_its_mask_and_areas(client: Any, loaded: LoadedModel, how: str) -> None:
    data = encode(PICTURE)
    if how == "form":
        answer = client.post("/predict", files={"image": ("a b.png", data)}, data={"note": "x"})
    else:
        kind = "image/png" if how == "body" else "application/octet-stream; charset=binary"
        answer = client.post("/predict", content=data, headers={"Content-Type": kind})
    assert answer.status_code == 200
    result = answer.json()
    expected = predict(loaded, PICTURE)
    with Image.open(BytesIO(base64.b64decode(result["mask_png"]))) as file:
        assert file.mode == "P"
        np.testing.assert_array_equal(np.asarray(file), expected)
    assert (result["height"], result["width"]) == (20, 30)
    assert {name: area["pixels"] for name, area in result["classes"].items()} == {
        name: int((expected == index).sum()) for index, name in enumerate(loaded.classes)
    }


def test_grey_jpeg_and_settings(client: Any, loaded: LoadedModel) -> None:
    data = encode(PICTURE[..., 0], "JPEG")
    answer = client.post(
        "/predict?tta=true&window=64&overlap=0.25",
        content=data,
        headers={"Content-Type": "image/jpeg"},
    )
    assert answer.status_code == 200
    with Image.open(BytesIO(data)) as file:
        expected = predict(loaded, np.asarray(file), tta=True)
    with Image.open(BytesIO(base64.b64decode(answer.json()["mask_png"]))) as file:
        np.testing.assert_array_equal(np.asarray(file), expected)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is empty; send the bytes of a PNG or JPEG file."),
        (b"hello", 415, "the body is neither a PNG nor a JPEG file; send the file's bytes."),
        (encode(PICTURE, "GIF"), 415, "the body is neither a PNG nor a JPEG file; send"),
        (encode(PICTURE)[:900], 422, "image: is broken or truncated"),
        (bytes(20_001), 413, "the body is larger than 20,000 bytes, the most served here."),
        (
            encode(np.zeros((70, 11), np.uint8)),
            413,
            "the image has 11 x 70 pixels, at most 700 are served here; cut it into parts, or run "
            "`python -m unet_seg infer`.",
        ),
        (claim(9500, 9500), 413, "the image has more than 700 pixels"),
        (claim(14000, 14000), 413, "the image has more than 700 pixels"),
    ],
    ids=["empty", "text", "gif", "truncated", "bytes", "pixels", "bomb_warning", "bomb_error"],
)
def test_bodies_that_are_refused(client: Any, body: bytes, status: int, message: str) -> None:
    answer = client.post("/predict", content=body, headers=PNG)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(message)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("window=8", "window=8 must be 64 to 1024 here."),
        ("window=5000", "window=5000 must be 64 to 1024 here."),
        ("overlap=2", "overlap=2 must be in [0, 0.9]; use 0.5."),
    ],
)
def test_settings_that_are_refused(client: Any, query: str, message: str) -> None:
    answer = client.post(f"/predict?{query}", content=encode(PICTURE), headers=PNG)
    assert answer.status_code == 422
    assert answer.json() == {"detail": message}
    assert client.post("/predict?tta=perhaps", content=b"", headers=PNG).status_code == 422


def test_other_content_types_are_told_what_to_send(client: Any) -> None:
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = client.post("/predict", content=encode(PICTURE), headers={"Content-Type": kind})
        assert answer.status_code == 415
        assert answer.json()["detail"] == (
            f"Content-Type '{kind}' is not served; send one of image/png, image/jpeg, "
            'application/octet-stream (curl: -H "Content-Type: image/png"), or a form with a file '
            "(curl: -F image=@FILE)."
        )


def test_a_form_without_a_file(client: Any) -> None:
    with pytest.raises(Refused) as error:
        image_bytes(
            b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nhi\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        )
    assert str(error.value) == "the form holds no file; send one, with curl: -F image=@FILE."
    assert error.value.status == 400


def test_a_file_in_a_form_keeps_every_byte() -> None:
    content = bytes(range(256)) + b"\r\n--y\r\n\r\n"
    head = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    body = b"preamble\r\n--x y\r\n" + head + content + b"\r\n--x y--\r\n"
    assert image_bytes(body, 'multipart/form-data; boundary="x y"') == content


def test_openapi_describes_the_body(client: Any) -> None:
    body = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]
    assert list(body["content"]) == [
        *("image/png", "image/jpeg", "application/octet-stream", "multipart/form-data"),
    ]


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_without_the_extra(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    real = builtins.__import__

    def absent(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(SegError) as error:
        create_app(loaded) if missing == "fastapi" else serve(loaded)
    assert str(error.value) == (
        f"serving needs {missing}, which is not installed: pip install '.[serve]' in the folder of "
        "this package."
    )
