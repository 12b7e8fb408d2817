"""Recognition over HTTP, with FastAPI (an optional extra).

    POST /recognize       {"features": [[...], ...]}   log-mel frames, num_mels numbers in each
    POST /recognize/wav   the bytes of a WAV file
    GET  /schema          what the model wants: num_mels, frame_seconds, sample_rate, limits
    GET  /health          {"status": "ok", ...}

Both POSTs answer {text, tokens, times, confidence, duration, notes}. What cannot be recognised gets
a status from 400 to 499 and {"detail": "what was wrong and what to do"}.
"""
# No `from __future__ import annotations`: FastAPI reads the annotations of functions made inside
# `create_app`, and could not find the names imported there if they were text.

import json
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from paraformer_asr import __version__
from paraformer_asr.checkpoints import Loaded
from paraformer_asr.errors import AsrError
from paraformer_asr.features import FRAME_SECONDS
from paraformer_asr.infer import recognize, result
from paraformer_asr.inputs import Sound, check_length, frames_from, sound_from_wav
from paraformer_asr.settings import nearest

if TYPE_CHECKING:
    from fastapi import FastAPI

INSTALL = "pip install fastapi uvicorn"


class Refused(Exception):
    """A request that cannot be answered, with the HTTP status and the reason."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def create_app(
    loaded: Loaded, *, max_seconds: float = 60.0, max_bytes: int = 32 * 2**20
) -> "FastAPI":
    """The web application around one model.

    Args:
        loaded: the model; it is put into evaluation mode for good.
        max_seconds: longest recording that is recognised.
        max_bytes: largest body that is read.
    Raises:
        AsrError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.concurrency import run_in_threadpool
        from fastapi.responses import JSONResponse
    except ImportError:
        raise AsrError(f"the service needs FastAPI; install it with: {INSTALL}") from None

    service = Service(loaded, max_seconds)
    app = FastAPI(title="Paraformer speech recognition", version=__version__)

    @app.exception_handler(Refused)
    async def refused(_: Request, problem: Refused) -> JSONResponse:
        return JSONResponse({"detail": problem.detail}, status_code=problem.status)

    async def body_of(request: Request) -> bytes:
        body = bytearray()
        async for part in request.stream():  # counted here: a client may lie about the length
            body += part
            if len(body) > max_bytes:
                raise Refused(413, f"the body is larger than {max_bytes} bytes; send less at once.")
        if not body:
            raise Refused(400, "the body is empty; GET /schema says what to send.")
        return bytes(body)

    @app.post("/recognize", openapi_extra=JSON_BODY)
    async def features(request: Request) -> dict[str, Any]:
        """Recognise log-mel frames."""
        return await run_in_threadpool(service.recognize_json, await body_of(request))

    @app.post("/recognize/wav", openapi_extra=WAV_BODY)
    async def wav(request: Request) -> dict[str, Any]:
        """Recognise a WAV file."""
        return await run_in_threadpool(service.recognize_wav, await body_of(request))

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Whether the service runs, and on what."""
        return service.health()

    @app.get("/schema")
    def schema() -> dict[str, Any]:
        """What the model wants."""
        return {**service.schema(), "max_bytes": max_bytes}

    return app


JSON_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["features"],
                    "properties": {
                        "features": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "array", "items": {"type": "number"}},
                        }
                    },
                }
            }
        },
    }
}
WAV_BODY = {
    "requestBody": {
        "required": True,
        "content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class Service:
    """One model and what can be asked of it; knows nothing of HTTP but the status of a refusal."""

    def __init__(self, loaded: Loaded, max_seconds: float) -> None:
        self.loaded = loaded
        self.model = loaded.model.eval()
        self.max_seconds = max_seconds
        # One recognition at a time: each uses all cores (or the one GPU) already.
        self.lock = threading.Lock()

    def recognize_json(self, body: bytes) -> dict[str, Any]:
        """The answer to POST /recognize."""
        num_mels = self.model.frontend.config.num_mels
        rows = feature_rows(parse_json(body), num_mels)
        seconds = len(rows) * FRAME_SECONDS
        self.check_seconds(seconds)
        try:
            frames = frames_from(np.array(rows, dtype=np.float64), num_mels, where="features")
            check_length(self.model, len(frames), where="features")
        except AsrError as error:
            raise Refused(422, str(error)) from None
        return self.answer(Sound(frames, seconds))

    def recognize_wav(self, body: bytes) -> dict[str, Any]:
        """The answer to POST /recognize/wav."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "body.wav"
            path.write_bytes(body)
            try:
                sound = sound_from_wav(self.model, path)
                self.check_seconds(sound.seconds)
                check_length(self.model, len(sound.frames), where="the body")
            except AsrError as error:
                raise Refused(422, str(error).replace(str(path), "the body")) from None
        return self.answer(sound)

    def answer(self, sound: Sound) -> dict[str, Any]:
        with self.lock:
            (transcript,) = recognize(self.model, [sound])
        return result(sound, transcript)

    def check_seconds(self, seconds: float) -> None:
        if seconds > self.max_seconds:
            raise Refused(
                413,
                f"{seconds:.1f} seconds are longer than the {self.max_seconds:g} that this service "
                "takes; cut the recording at pauses.",
            )

    def health(self) -> dict[str, Any]:
        """The answer to GET /health."""
        return {
            "status": "ok",
            "version": __version__,
            "model": self.loaded.config.name,
            "step": self.loaded.step,
            "device": str(self.loaded.device),
        }

    def schema(self) -> dict[str, Any]:
        """The answer to GET /schema, but for the limit on bytes."""
        config = self.model.frontend.config
        return {
            "num_mels": config.num_mels,
            "frame_seconds": FRAME_SECONDS,
            "sample_rate": config.sample_rate,
            "vocabulary_size": self.model.tokenizer.size,
            "max_seconds": self.max_seconds,
            "features": f"rows of {config.num_mels} natural logarithms of mel energies, one per 10 "
            "ms, before stacking and normalisation",
        }


def parse_json(body: bytes) -> Any:
    """JSON text as Python values; what is no JSON, NaN included, is refused."""

    def no_number(name: str) -> NoReturn:
        raise Refused(422, f"the body holds {name}, which is no number in JSON; send finite ones.")

    try:
        return json.loads(body, parse_constant=no_number)
    except RecursionError:
        raise Refused(400, 'the JSON is nested too deeply; send {"features": [[...]]}.') from None
    except UnicodeDecodeError as error:
        raise Refused(
            400,
            f"byte {error.start} of the body is not UTF-8; send JSON, or a WAV to /recognize/wav.",
        ) from None
    except ValueError as error:
        raise Refused(
            400, f'the body is not JSON ({error}); send {{"features": [[...], ...]}}.'
        ) from None


def feature_rows(values: Any, num_mels: int) -> list[list[float]]:
    """The rows of `{"features": rows}`, each with num_mels numbers; refuses anything else."""
    if not isinstance(values, dict) or "features" not in values:
        found = f"the keys {sorted(values)}" if isinstance(values, dict) else kind(values)
        raise Refused(422, f'found {found}; expected {{"features": [[...], ...]}}.')
    for key in values:
        if key != "features":
            raise Refused(422, f"{key!r} is no key here.{nearest(key, ['features'])} Leave it out.")
    rows = values["features"]
    if not isinstance(rows, list):
        raise Refused(422, f"features is {kind(rows)}; expected a list of frames.")
    if not rows:
        raise Refused(422, "features is empty; expected at least one frame.")
    for number, row in enumerate(rows):
        if not isinstance(row, list):
            raise Refused(
                422, f"features[{number}] is {kind(row)}; expected a list of {num_mels} numbers."
            )
        if len(row) != num_mels:
            raise Refused(
                422,
                f"features[{number}] has {len(row)} numbers; this model takes {num_mels} mel bands "
                "(GET /schema).",
            )
        if not {int, float}.issuperset(map(type, row)):  # a bool is no number here
            place = next(i for i, v in enumerate(row) if type(v) not in (int, float))
            raise Refused(
                422, f"features[{number}][{place}] is {kind(row[place])}; expected a number."
            )
        if any(abs(value) > 1e30 for value in row):  # also whole numbers beyond any float
            place = next(i for i, v in enumerate(row) if abs(v) > 1e30)
            raise Refused(
                422, f"features[{number}][{place}] is too large; log-mel values lie within 100."
            )
    return rows


def kind(value: Any) -> str:
    """What a JSON value is, in JSON's words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}
    return names[type(value)]


def serve(loaded: Loaded, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Answer requests until the process is told to stop.

    Raises:
        AsrError: FastAPI or uvicorn is not installed, or the address cannot be listened on.
    """
    app = create_app(loaded)
    try:
        import uvicorn
    except ImportError:
        raise AsrError(f"the service needs uvicorn; install it with: {INSTALL}") from None
    with listen(host, port) as listener:
        uvicorn.Server(uvicorn.Config(app, log_level="info")).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; AsrError that says why not."""
    if not 0 <= port <= 65535:
        raise AsrError(f"port {port}: choose from 1 to 65535 (0 takes any free one).")
    try:
        family, kind_, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind_, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise AsrError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port."
        ) from None
    return listener
