"""Request bodies -> raw inputs. What is checked here is the envelope: content type, JSON, limits.

The cells of a row and the pixels of an image are checked by the bundle's own preprocessor, the
same one as in training, so there is one place that knows what fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from maquette.errors import RequestError, nearest

UPLOAD_FIELDS = ("file", "files")
NOT_NUMBERS = ("NaN", "Infinity", "-Infinity", "inf", "-inf", "nan")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one request may ask for."""

    max_body_bytes: int = 32 * 2**20
    """A larger body is refused with 413, before all of it is read."""
    max_rows: int = 10_000
    """Rows of a table in one request."""
    max_images: int = 64
    """Images in one request."""


async def read_rows(request: Request, limits: Limits) -> list[Any]:
    """Return the rows of a table request: lists from `features`, mappings from `rows`.

    Raises:
        RequestError: 415 when it is not JSON by its content type, 400 when it is malformed, 422
            when it is not what the endpoint takes, 413 when it has too many rows.
    """
    _expect_json(request.headers.get("content-type"))
    body = parse_json(await request.body())
    return _rows_of(body, limits.max_rows)


async def read_images(request: Request, limits: Limits) -> list[bytes]:
    """Return the bytes of each image: uploads of a multipart form, or one raw image body.

    Raises:
        RequestError: 415 for another content type, 400 for a malformed form, 422 when no image is
            in it, 413 when too many are.
    """
    given = request.headers.get("content-type")
    kind = _media_type(given)
    if kind.startswith("image/"):
        return [_not_empty(await request.body(), "The body")]
    if kind == "multipart/form-data":
        return await _uploads(request, limits.max_images)
    raise RequestError(
        f"Content-Type is {given or 'missing'}, expected multipart/form-data with the field "
        "'file', or image/png, image/jpeg, … with the image as the body. "
        "Example: curl -F file=@photo.jpg URL",
        status=415,
    )


def parse_json(content: bytes) -> Any:
    """Parse a JSON body.

    Raises:
        RequestError: 400; the text gives line and column.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RequestError(_explain(content, error), status=400) from None


def _explain(content: bytes, error: orjson.JSONDecodeError) -> str:
    """Say what is wrong and where; NaN and infinity get their own advice, for JSON has neither."""
    if not content:
        return 'The body is empty, expected JSON such as {"features": [[5.1, 3.5]]}.'
    place = f"line {error.lineno} column {error.colno}"
    rest = error.doc[max(0, error.pos - 1) :].lstrip("[,: -")
    number = next((word for word in NOT_NUMBERS if rest.startswith(word.lstrip("-"))), None)
    if number is not None or "infinity" in error.msg:
        return (
            f"The number at {place} is {number or 'too large'}, and every number must be finite. "
            "Send null for a missing value."
        )
    return f"The body is not valid JSON: {error.msg} at {place}."


def _expect_json(content_type: str | None) -> None:
    if content_type == "application/json":  # what nearly every request says
        return
    kind = _media_type(content_type)
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise RequestError(
            f"Content-Type is {content_type or 'missing'}, expected application/json. "
            "With curl add: -H 'Content-Type: application/json'",
            status=415,
        )


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _rows_of(body: Any, max_rows: int) -> list[Any]:
    if not isinstance(body, dict):
        raise RequestError(
            f"The body is {_kind(body)}, expected an object: "
            '{"features": [[…], …]} or {"rows": [{…}, …]}.'
        )
    key = _only_key(body)
    rows = body[key]
    expected: type = list if key == "features" else dict
    one = "a list of cells" if key == "features" else "an object {column: cell}"
    if not isinstance(rows, list):
        raise RequestError(f"{key} is {_kind(rows)}, expected a list with {one} for each row.")
    if not rows:
        raise RequestError(f"{key} is empty; give it at least one row.")
    if len(rows) > max_rows:
        raise RequestError(
            f"{key} has {len(rows)} rows, at most {max_rows} are answered at once; "
            "send them in parts.",
            status=413,
        )
    for index, row in enumerate(rows):
        if not isinstance(row, expected):
            raise RequestError(f"{key}[{index}] is {_kind(row)}, expected {one}.")
    return rows


def _only_key(body: dict[str, Any]) -> str:
    """Return "features" or "rows", whichever the body has; it must have exactly one key."""
    for key in body:
        if key not in ("features", "rows"):
            raise RequestError(
                f"Unknown key {key!r} in the body.{nearest(key, ('features', 'rows'))} "
                "Expected features or rows."
            )
    if len(body) != 1:
        found = "both features and rows" if body else "neither features nor rows"
        raise RequestError(f"The body has {found}, expected one of the two.")
    return next(iter(body))


def _kind(value: Any) -> str:
    """The JSON name of a value's type, with its article."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")


async def _uploads(request: Request, max_images: int) -> list[bytes]:
    try:
        form = await request.form(max_files=max_images, max_fields=max_images)
    except HTTPException as error:  # how starlette reports what its form parser found
        if "Too many" in error.detail:
            raise RequestError(
                f"The form has more than {max_images} parts, at most {max_images} images are "
                "answered at once; send them in parts.",
                status=413,
            ) from None
        raise RequestError(f"The form cannot be read: {error.detail}", status=400) from None
    try:
        images = [await _image_of(name, part) for name, part in form.multi_items()]
    finally:
        await form.close()
    if not images:
        raise RequestError("The form has no image; upload one in the field 'file'.")
    return images


async def _image_of(name: str, part: UploadFile | str) -> bytes:
    if name not in UPLOAD_FIELDS:
        raise RequestError(
            f"Unknown form field {name!r}.{nearest(name, UPLOAD_FIELDS)} "
            "Upload images in the field 'file' (repeated for several)."
        )
    if isinstance(part, str):
        raise RequestError(
            f"The form field {name!r} is text, expected a file. With curl: -F {name}=@photo.jpg"
        )
    return _not_empty(await part.read(), f"The file {part.filename!r}")


def _not_empty(content: bytes, what: str) -> bytes:
    if not content:
        raise RequestError(f"{what} is empty (0 bytes), expected an image.")
    return content
