"""A `python` that runs `python -m unet_seg ...` without importing PyTorch anew each time.

For test_docs.py, which types many commands: most of a short command's time is that import. A server
imports it once. The stand-in for `python`, first on the PATH, sends arguments, folder, environment
and its three open files to the server, which forks: the child runs the command exactly as the
interpreter would and sends back its exit code. Everything else goes to the real interpreter.

Linux only: elsewhere forking a process with PyTorch in it is not safe.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from types import FrameType

HEAVY = (
    "torch._inductor.config",  # imported by torch.use_deterministic_algorithms
    *("matplotlib.backends.backend_agg", "matplotlib.figure", "tqdm", "yaml", "PIL.PngImagePlugin"),
    *("unet_seg.train", "unet_seg.evaluate", "unet_seg.profiling", "unet_seg.reproduce"),
)

STAND_IN = """\
#!{python} -SE
import os, sys
if sys.argv[1:3] != ["-m", "unet_seg"]:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
sys.path.insert(0, "{tests}")
from warm import ask
sys.exit(ask("{address}", sys.argv[3:]))
"""


def make_stand_in(folder: Path, address: str) -> None:
    """Write the stand-in for `python` into a folder."""
    path = folder / "python"
    tests = Path(__file__).resolve().parent
    path.write_text(STAND_IN.format(python=sys.executable, tests=tests, address=address))
    path.chmod(0o755)


def ask(address: str, arguments: list[str]) -> int:
    """Have the server run a command with this process's files; returns its exit code."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        work = json.dumps([arguments, str(Path.cwd()), dict(os.environ)]).encode()
        socket.send_fds(server, [len(work).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(work)
        answers = server.makefile()
        pid = int(answers.readline())

        def forward(number: int, _frame: FrameType | None) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, forward)
        code = answers.readline()
        return int(code) if code else 137  # killed before it could say


def serve(address: str) -> None:
    """Answer `ask` until killed, or until the process that started this one is gone."""
    parent = os.getppid()
    for name in HEAVY:
        import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    listener.settimeout(5)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children need not be waited for
    while os.getppid() == parent:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        connection.setblocking(True)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _run(connection)
        connection.close()


def _run(connection: socket.socket) -> None:
    """In the child: become the command, say how it ended, end."""
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    work = b""
    while len(work) < int.from_bytes(size, "big"):
        work += connection.recv(2**16)
    arguments, folder, environment = json.loads(work)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["unet_seg", *arguments]
    connection.sendall(f"{os.getpid()}\n".encode())
    code = 1
    try:
        runpy.run_module("unet_seg", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    connection.sendall(f"{code}\n".encode())
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
