"""The whole job on real data, with the commands a user would type.

    make demo      train, evaluate, register, serve, ask, and print what came out
    make serve     the same bundles (trained first if there are none), served until Ctrl-C

Data: Iris, the handwritten digits that scikit-learn ships, and 30 coloured discs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from maquette.data.catalogue import resolve

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ("iris", "digits", "colours")
REQUESTS = 50
console = Console(stderr=True)


def main() -> int:
    arguments = _arguments()
    os.chdir(ROOT)
    started = time.perf_counter()
    if arguments.serve:
        bundles = arguments.bundles or [str(_newest(name) or _train(name)) for name in RECIPES]
        os.execv(sys.executable, _maquette("serve", *bundles, "--port", str(arguments.port)))

    _run("check", "configs/iris.yaml")
    runs = {name: _train(name) for name in RECIPES}
    _run("evaluate", str(runs["iris"]))
    _run("models")
    latencies = _serve_and_ask(runs)
    _print_table(runs, latencies)
    print(f"The whole demo took {time.perf_counter() - started:.0f} s.")
    print("`make serve` serves these models; then open http://127.0.0.1:8000/docs.")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="*", help="bundles to serve instead of the demo's own")
    parser.add_argument("--serve", action="store_true", help="serve until interrupted")
    parser.add_argument("--port", type=int, default=8000)
    return parser.parse_args()


def _maquette(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "maquette", *arguments]


def _run(*arguments: str) -> str:
    """Run a verb as a user would, show it, and return what it printed."""
    console.print(f"\n[bold cyan]$ maquette {' '.join(arguments)}[/]", highlight=False)
    done = subprocess.run(_maquette(*arguments), stdout=subprocess.PIPE, text=True, check=False)
    console.print(done.stdout.rstrip(), highlight=False, markup=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def _train(name: str) -> Path:
    return Path(_run("train", f"configs/{name}.yaml").strip().splitlines()[-1])


def _newest(name: str) -> Path | None:
    finished = sorted(Path("runs").glob(f"*-{name}-*/summary.json"))
    return finished[-1].parent if finished else None


def _serve_and_ask(runs: dict[str, Path]) -> dict[str, float]:
    """Serve all bundles from one server, send real requests, return the median seconds of each."""
    port = _free_port()
    arguments = _maquette("serve", *map(str, runs.values()), "--port", str(port))
    shown = " ".join(arguments[2:])
    console.print(f"\n[bold cyan]$ {shown}[/]", highlight=False)
    with Path("runs/demo-server.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(arguments, stderr=log, stdout=log)
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}/ready", server)
            latencies = {name: _ask(name, port) for name in RECIPES}
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=20)
    return latencies


def _ask(name: str, port: int) -> float:
    address = f"http://127.0.0.1:{port}/predict/"
    if name == "iris":
        body = json.dumps({"features": [[5.9, 3.0, 5.1, 1.8]]}).encode()
        url, kind = f"{address}tabular", "application/json"
    else:
        body = _an_image(name).read_bytes()
        url, kind = f"{address}image?model={name}", "image/png"
    seconds = []
    for _ in range(REQUESTS):
        start = time.perf_counter()
        answer = _post(url, body, kind)
        seconds.append(time.perf_counter() - start)
    console.print(f"POST {url}\n  -> {json.dumps(answer)}", highlight=False, markup=False)
    return statistics.median(seconds)


def _an_image(name: str) -> Path:
    folder = resolve("catalogue:digits") if name == "digits" else Path("data/sample/images")
    return sorted(folder.glob("*/*.png"))[-1]


def _post(url: str, body: bytes, kind: str) -> dict[str, Any]:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def _wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("The server did not become ready; see runs/demo-server.log.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _print_table(runs: dict[str, Path], latencies: dict[str, float]) -> None:
    table = Table(title="Maquette: what came out", title_justify="left")
    for heading in ("data", "test accuracy", "95 % interval", "training samples/s", "request p50"):
        table.add_column(heading, justify="left" if heading == "data" else "right")
    for name, run in runs.items():
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        low, high = summary["intervals"]["test/accuracy"]
        table.add_row(
            name,
            f"{summary['metrics']['test/accuracy']:.3f}",
            f"{low:.3f} – {high:.3f}",
            f"{summary['samples_per_second']:,.0f}",
            f"{1000 * latencies[name]:.1f} ms",
        )
    Console().print(table)
    for name, run in runs.items():
        print(f"report of {name + ':':<9} {run / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
