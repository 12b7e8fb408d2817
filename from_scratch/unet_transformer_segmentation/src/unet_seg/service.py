"""A service: an image comes by HTTP, a mask and the area of each class go back.

Needs the extra `serve` (fastapi and uvicorn). Start reading at `create_app`.

    GET  /health    what is served
    POST /predict   the bytes of an image file as the body, or a form with a file

    curl --data-binary @photo.png -H "Content-Type: image/png" http://127.0.0.1:8000/predict
    curl -F image=@photo.png "http://127.0.0.1:8000/predict?tta=true"

Every refusal has a status from 400 to 422 and says in "detail" what was wrong and what is expected.
"""

# FastAPI reads the annotations of the handlers, which stand inside a function so that fastapi is
# imported only when needed: they must be types, not text, hence no `from __future__` here.

import base64
import threading
from email.message import Message
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from PIL import Image

from unet_seg.checkpoints import LoadedModel
from unet_seg.errors import SegError
from unet_seg.image_files import palette, read_image, write_mask
from unet_seg.infer import areas, predict

if TYPE_CHECKING:
    from fastapi import FastAPI

MAX_BYTES = 32 * 2**20
"""Largest body that is read."""

MAX_PIXELS = 2**24
"""Largest image that is decoded, 4096 x 4096: a small file can hold a huge image."""

WINDOWS = (64, 1024)
"""Smallest and largest window a request may ask for: others take hours, or all memory."""

FORMATS = {"PNG": ".png", "JPEG": ".jpg"}
"""What Pillow calls the formats that are accepted, and the ending of their files."""

TYPES = ("image/png", "image/jpeg", "application/octet-stream")


class Refused(SegError):
    """A request that is not served, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def create_app(
    loaded: LoadedModel, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> "FastAPI":
    """The FastAPI application that serves one network.

    Args:
        loaded: from `checkpoints.load_model`.
        max_bytes: larger bodies are refused with 413, before they are read to the end.
        max_pixels: larger images are refused with 413, before they are decoded.
    Returns:
        For uvicorn, or for a test client.
    Raises:
        SegError: fastapi is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.concurrency import run_in_threadpool
        from fastapi.responses import JSONResponse
    except ImportError as error:
        raise _extra_missing(error) from None

    app = FastAPI(title="unet_seg", description="Segments images.")
    one_at_a_time = threading.Lock()  # a prediction already uses every core, and much memory

    @app.exception_handler(SegError)
    async def refuse(_request: Request, error: SegError) -> JSONResponse:
        status = error.status if isinstance(error, Refused) else 422
        return JSONResponse({"detail": str(error)}, status_code=status)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """What is served."""
        return {
            "status": "ok",
            "model": loaded.config.model.name,
            "classes": list(loaded.classes),
            "step": loaded.step,
            "device": str(loaded.device),
        }

    @app.post("/predict", openapi_extra={"requestBody": _request_body()})
    async def predict_image(
        request: Request, window: int | None = None, overlap: float = 0.5, tta: bool = False
    ) -> dict[str, Any]:
        """Segment a PNG or JPEG: pixels of each class, and the mask as a palette PNG in base64."""
        if window is not None and not WINDOWS[0] <= window <= WINDOWS[1]:
            raise Refused(422, f"window={window} must be {WINDOWS[0]} to {WINDOWS[1]} here.")
        body = await _read_body(request, max_bytes)
        data = image_bytes(body, request.headers.get("content-type", ""))

        def work() -> dict[str, Any]:
            with one_at_a_time:
                return segment(loaded, data, max_pixels, window=window, overlap=overlap, tta=tta)

        return await run_in_threadpool(work)

    return app


def serve(loaded: LoadedModel, *, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve a network until interrupted.

    Raises:
        SegError: fastapi or uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise _extra_missing(error) from None
    uvicorn.run(create_app(loaded), host=host, port=port)


def segment(
    loaded: LoadedModel, data: bytes, max_pixels: int = MAX_PIXELS, **options: Any
) -> dict[str, Any]:
    """The answer to the bytes of a PNG or JPEG file.

    Args:
        data: the file; its orientation mark is applied.
        max_pixels: refuse larger images.
        options: window, overlap and tta of `infer.predict`.
    Returns:
        "height", "width", "classes" as `infer.areas`, and "mask_png": base64 of a palette PNG whose
        values are class ids.
    Raises:
        Refused: not PNG or JPEG (415), or too many pixels (413).
        SegError: a damaged file, or options out of range.
    """
    ending = check_image(data, max_pixels)
    with TemporaryDirectory(prefix="unet_seg_") as folder:
        source, target = Path(folder) / f"image{ending}", Path(folder) / "mask.png"
        source.write_bytes(data)
        try:
            image = read_image(source, loaded.config.data.channels)
        except SegError as error:  # the name of our own file would tell the sender nothing
            raise SegError(str(error).replace(str(source), "image")) from None
        mask = predict(loaded, image, **options)
        write_mask(target, mask, palette(len(loaded.classes)))
        png = base64.b64encode(target.read_bytes()).decode("ascii")
    return {**areas(mask, loaded.classes), "mask_png": png}


def check_image(data: bytes, max_pixels: int) -> str:
    """The ending of the file that `data` is; reads only the header."""
    try:
        with Image.open(BytesIO(data), formats=tuple(FORMATS)) as image:
            (width, height), name = image.size, str(image.format)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused(
            413, f"the image has more than {max_pixels:,} pixels, the most here."
        ) from None
    except (OSError, ValueError, SyntaxError):
        raise Refused(
            415, "the body is neither a PNG nor a JPEG file; send the file's bytes."
        ) from None
    if width * height > max_pixels:
        raise Refused(
            413,
            f"the image has {width} x {height} pixels, at most {max_pixels:,} are served here; "
            "cut it into parts, or run `python -m unet_seg infer`.",
        )
    return FORMATS[name]


async def _read_body(request: Any, max_bytes: int) -> bytes:
    """The body of a request; stops as soon as it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise Refused(
                413, f"the body is larger than {max_bytes:,} bytes, the most served here."
            )
    if not body:
        raise Refused(400, "the body is empty; send the bytes of a PNG or JPEG file.")
    return bytes(body)


def image_bytes(body: bytes, content_type: str) -> bytes:
    """The image in a body: the body itself, or the file of a form (RFC 7578).

    A form is one of few kinds and holds one file, which is found without a library.

    Raises:
        Refused: another content type (415), or a form without a file (400).
    """
    header = Message()
    header["content-type"] = content_type
    kind = header.get_content_type()
    if kind in TYPES:
        return body
    boundary = header.get_boundary()
    if kind != "multipart/form-data" or not boundary:
        raise Refused(
            415,
            f"Content-Type {content_type!r} is not served; send one of {', '.join(TYPES)} "
            '(curl: -H "Content-Type: image/png"), or a form with a file (curl: -F image=@FILE).',
        )
    # Each part is: line end, headers, empty line, content, line end, boundary.
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:]:
        headers, _, content = part.partition(b"\r\n\r\n")
        if b"filename" in headers.lower():
            return content
    raise Refused(400, "the form holds no file; send one, with curl: -F image=@FILE.")


def _request_body() -> dict[str, Any]:
    """What OpenAPI says of the body."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}
    content: dict[str, Any] = dict.fromkeys(TYPES, binary)
    return {"required": True, "content": {**content, "multipart/form-data": {"schema": form}}}


def _extra_missing(error: ImportError) -> SegError:
    return SegError(
        f"serving needs {error.name}, which is not installed: pip install '.[serve]' in the folder "
        "of this package."
    )
