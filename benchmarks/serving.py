"""Latency of our server beside the FastAPI app an engineer would write by hand.

    OMP_NUM_THREADS=1 python benchmarks/serving.py               makes two bundles first
    OMP_NUM_THREADS=1 python benchmarks/serving.py --table RUN --image RUN

Both servers run the same network with the same scaling, each in a process of its own, under the
same uvicorn. They are measured alternately in one run, in short blocks, so that whatever else the
machine does meets both. Clients keep their connections open and send the next request when the
answer is there; their own time is part of every number.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 30


@dataclass
class Server:
    """A server, and what was measured of it."""

    name: str
    port: int
    milliseconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    """Time its blocks took, for requests per second."""


def main() -> None:
    arguments = read_arguments()
    if arguments.serve:
        {"ours": serve_ours, "plain": serve_plain}[arguments.serve](arguments.bundle)
        return
    with tempfile.TemporaryDirectory() as folder:
        table = arguments.table or train(folder, "iris.yaml", "tabular.path=data/sample/iris.csv")
        image = arguments.image or train(
            folder,
            "colours.yaml",
            "image.path=data/sample/images",
            "data.image.image_size=[224,224]",
            "model.name=resnet18",
            "model.architecture.stem=standard",
            "model.architecture.base_width=64",
        )
        print("| request | clients | server | p50 ms | p99 ms | requests/s | p50 ratio |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for clients, requests in ((1, 100), (8, 240), (32, 480)):
            compare("table, 1 row", table, table_request(table), clients, requests)
        for clients, requests in ((1, 4), (8, 8)):
            compare("ResNet-18 224 px PNG", image, image_request(image), clients, requests)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", help="a run or bundle folder of a table with numbers only")
    parser.add_argument("--image", help="a run or bundle folder of an image model")
    parser.add_argument("--serve", choices=["ours", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--bundle", help=argparse.SUPPRESS)
    return parser.parse_args()


def train(folder: str, recipe: str, *overrides: str) -> str:
    """Train one epoch: latency does not depend on what the weights are."""
    from maquette.lifecycle import train as train_recipe

    settings = [f"data.{overrides[0]}", *overrides[1:], "training.epochs=1"]
    settings += ["tracking.enabled=false", "evaluation.bootstrap=0", f"runs_dir={folder}"]
    return str(train_recipe(ROOT / "configs" / recipe, settings).folder)


def serve_ours(bundle: str) -> None:
    from maquette.serve.run import serve

    serve([bundle], port=0)


def serve_plain(path: str) -> None:
    import uvicorn

    from maquette.bundle import load_bundle

    bundle = load_bundle(path)
    app = plain_table(bundle) if bundle.task == "tabular" else plain_image(bundle)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), file=sys.stderr)
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


def plain_table(bundle: Any) -> Any:
    """Scaling and network by hand, in the event loop: faster here than FastAPI's threads."""
    import torch
    from fastapi import FastAPI
    from pydantic import BaseModel

    columns = bundle.preprocessor.numbers
    center = torch.tensor([column.center for column in columns])
    scale = torch.tensor([column.scale for column in columns])
    network, classes = bundle.model, bundle.classes

    class Request(BaseModel):
        features: list[list[float]]

    class Reply(BaseModel):
        predictions: list[str]
        probabilities: list[list[float]]
        inference_time_ms: float

    app = FastAPI()

    async def predict(request: Request) -> Reply:
        started = time.perf_counter()
        with torch.inference_mode():
            features = (torch.tensor(request.features) - center) / scale
            probabilities = torch.softmax(network(features), dim=1)
        return Reply(
            predictions=[classes[i] for i in probabilities.argmax(dim=1).tolist()],
            probabilities=probabilities.tolist(),
            inference_time_ms=(time.perf_counter() - started) * 1000,
        )

    # Types of a function's own scope are not found by name, so they are given as objects.
    predict.__annotations__ = {"request": Request, "return": Reply}
    app.post("/predict/tabular")(predict)
    return app


def plain_image(bundle: Any) -> Any:
    """Decode, scale, predict in FastAPI's threads, which is what keeps such an app responsive."""
    import io

    import torch
    from fastapi import FastAPI, UploadFile
    from PIL import Image

    height, width = bundle.recipe.data.image.image_size
    network, classes = bundle.model, bundle.classes
    app = FastAPI()

    def predict(file: UploadFile) -> dict[str, Any]:
        started = time.perf_counter()
        image = Image.open(io.BytesIO(file.file.read())).convert("RGB").resize((width, height))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0)
        with torch.inference_mode():
            probabilities = torch.softmax(network((pixels / 255 - 0.5) / 0.25), dim=1)
        return {
            "predictions": [classes[i] for i in probabilities.argmax(dim=1).tolist()],
            "probabilities": probabilities.tolist(),
            "inference_time_ms": (time.perf_counter() - started) * 1000,
        }

    predict.__annotations__ = {"file": UploadFile, "return": dict[str, Any]}
    app.post("/predict/image")(predict)
    return app


def compare(what: str, bundle: str, request: bytes, clients: int, requests: int) -> None:
    """Measure both servers in alternating blocks and print one line for each."""
    with started("ours", bundle) as ours, started("plain", bundle) as plain:
        for round_number in range(-1, ROUNDS):  # the first block only warms up
            for server in (ours, plain):
                began = time.perf_counter()
                latencies = asyncio.run(block(server.port, request, clients, requests))
                if round_number >= 0:
                    server.seconds += time.perf_counter() - began
                    server.milliseconds += latencies
        ratio = np.median(ours.milliseconds) / np.median(plain.milliseconds)
        for server, shown in ((ours, f"{ratio:.2f}"), (plain, "1")):
            p50, p99 = np.percentile(server.milliseconds, (50, 99))
            rate = len(server.milliseconds) / server.seconds
            line = f"| {what} | {clients} | {server.name} | {p50:.3f} | {p99:.3f} | {rate:.0f} |"
            print(f"{line} {shown} |", flush=True)


@contextlib.contextmanager
def started(name: str, bundle: str) -> Iterator[Server]:
    """Start a server process; its log, a file, says which port it took."""
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name, "--bundle", bundle], stderr=log
        )
        try:
            yield Server(name, wait_for_port(process, Path(log.name)))
        finally:
            process.terminate()
            process.wait()


def wait_for_port(process: subprocess.Popen[bytes], log: Path) -> int:
    while process.poll() is None:
        for line in log.read_text().splitlines():
            if '"url"' in line and line.endswith("}"):
                return int(json.loads(line)["url"].rpartition(":")[2])
        time.sleep(0.05)
    raise SystemExit(f"The server did not start:\n{log.read_text()}")


async def block(port: int, request: bytes, clients: int, requests: int) -> list[float]:
    """Send `requests` requests over `clients` connections; return each one's milliseconds."""
    share = requests // clients
    parts = await asyncio.gather(*(client(port, request, share) for _ in range(clients)))
    return [latency for part in parts for latency in part]


async def client(port: int, request: bytes, requests: int) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    latencies = []
    for _ in range(requests):
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None, head
        await reader.readexactly(int(length[1]))
        latencies.append((time.perf_counter() - began) * 1000)
    writer.close()
    await writer.wait_closed()
    return latencies


def table_request(path: str) -> bytes:
    from maquette.bundle import load_bundle

    row = list(load_bundle(path).example().values())
    body = json.dumps({"features": [row]}).encode()
    return post("/predict/tabular", "application/json", body)


def image_request(path: str) -> bytes:
    from maquette.bundle import load_bundle
    from maquette.serve.examples import example_image

    image = example_image(load_bundle(path))
    begin = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="example.png"\r\n'
    body = begin + b"Content-Type: image/png\r\n\r\n" + image + b"\r\n--edge--\r\n"
    return post("/predict/image", "multipart/form-data; boundary=edge", body)


def post(path: str, content_type: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


if __name__ == "__main__":
    main()
