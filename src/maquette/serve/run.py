"""`serve(paths)`: hold the port, load the bundles, answer until told to stop."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from maquette.bundle import load_bundle
from maquette.errors import RunError, UsageError
from maquette.serve.app import create_app
from maquette.serve.observability import ToLogger, make_logger
from maquette.serve.reading import Limits

GRACE_SECONDS = 10
"""How long requests in flight may take to end once the server is told to stop."""


def serve(
    paths: Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
) -> None:
    """Serve bundles until SIGINT or SIGTERM; requests in flight are answered first.

    Args:
        paths: bundle or run folders; the first of each task answers requests that name no model.
        port: 0 takes any free one; the log tells which.
    Raises:
        UsageError: no bundle given, the address does not exist, or two bundles share a name.
        RunError: the port is in use, or may not be used.
        BundleError: a bundle is damaged or does not reproduce its probe answers.
    """
    if not paths:
        raise UsageError("Give at least one bundle to serve: maquette serve BUNDLE.")
    with reserve(host, port) as listener:  # first, for loading takes longer than finding out
        logger = make_logger()
        app = create_app([load_bundle(path) for path in paths], limits=limits, logger=logger)
        handler = ToLogger(logger)
        logging.getLogger("uvicorn").addHandler(handler)
        url = f"http://{_in_url(host)}:{listener.getsockname()[1]}"
        logger.info("listening", url=url, docs=f"{url}/docs")
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn passes on the Ctrl-C that it has already obeyed
            pass
        finally:
            logging.getLogger("uvicorn").removeHandler(handler)


def reserve(host: str, port: int) -> socket.socket:
    """Listen on an address, so that nobody else takes it while the bundles load.

    Whoever connects before the server runs waits for it.

    Raises:
        UsageError: there is no such address on this machine.
        RunError: the port is in use, or this user may not use it.
    """
    if not 0 <= port <= 65535:  # the system would take the remainder of a division
        raise UsageError(
            f"Port {port} does not exist; ports go from 1 to 65535, and 0 takes any free one."
        )
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere this would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _explain(host, port, error) from None
    return listener


def _explain(host: str, port: int, error: OSError) -> RunError | UsageError:
    if error.errno == errno.EADDRINUSE:
        return RunError(
            f"Port {port} on {host} is in use by another program. "
            f"Stop it, or choose another port: --port {_free_port(host)}."
        )
    if error.errno == errno.EACCES:
        return RunError(
            f"Port {port} on {host} may not be used by this user (ports below 1024 need rights). "
            "Choose another one: --port 8000."
        )
    return UsageError(
        f"Cannot listen on host {host!r}: {error.strerror or error}. "
        "Use 127.0.0.1 for this machine alone, or 0.0.0.0 for all its addresses."
    )


def _free_port(host: str) -> int:
    with reserve(host, 0) as listener:
        port: int = listener.getsockname()[1]
        return port


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
