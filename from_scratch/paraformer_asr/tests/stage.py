"""Plays a page of the documentation: its shell commands and its Python, from top to bottom.

Importing PyTorch takes most of a short command's time, so it is imported once, by the stage; all
that runs is forked from it:

    stage ── fork ──> player, one for each page: its Python session, and the parent of each bash
                        └─ fork ──> desk: becomes `python -m paraformer_asr ...` and
                                    `python scripts/x.py` whenever a shell of the page calls them

The shells find a `python` first on their PATH that only passes arguments, folder, variables and
open files to the desk (`call`) and waits for the exit code. A page is played in a folder of its
own; bash blocks pass their variables and folder on to the next one. When the page ends, everything
it started is killed.

In: a line of JSON on stdin for each page, {"folder", "results", "blocks": [...]}. Out: a line on
stdout when it is done, and in the file `results` a list of [exit code, what was printed]. Linux
only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

REDUCED = [
    *("train.steps=4", "train.valid_every=2", "train.checkpoint_every=2", "train.log_every=1"),
    *("data.toy.num_train=16", "data.toy.num_valid=4", "data.toy.num_test=4"),
]
TAKES_SETTINGS = ("train", "check", "preview", "export-toy", "profile", "reproduce")
IMPORTED = (
    *("torch._inductor.config", "matplotlib.backends.backend_agg", "matplotlib.figure"),
    *("paraformer_asr.train", "paraformer_asr.evaluate", "paraformer_asr.convert"),
    *("paraformer_asr.profiling", "paraformer_asr.reproduce", "paraformer_asr.summarize"),
    *("paraformer_asr.service", "paraformer_asr.stream_files", "paraformer_asr.preview"),
)
DOOR = """\
#!{python} -SE
import os, sys
sys.path.insert(0, {tests!r})
words = sys.argv[1:]
if sys.argv[0].endswith("paraformer-asr"):
    words = ["-m", "paraformer_asr", *words]
if words[:2] == ["-m", "paraformer_asr"] or words[:1] and words[0].endswith(".py"):
    import stage
    sys.exit(stage.call(words))
os.execv({python!r}, [{python!r}, *words])
"""
SHELL = """\
set -euo pipefail -o allexport
trap 'ended=$?; env -0 > "$PAGE_STATE"; exit $ended' EXIT
"""


def main() -> None:
    import importlib

    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        player = os.fork()
        if not player:
            Player(json.loads(line)).play()
        os.waitpid(player, 0)
        print("played", flush=True)


class Player:
    """One page; ends with its process."""

    def __init__(self, page: dict[str, Any]) -> None:
        os.setsid()
        self.page = page
        self.folder = Path(page["folder"])
        self.private = self.folder.parent / "private"
        self.private.mkdir()
        self.state = self.private / "state"
        self.printed = self.private / "printed"
        desk = str(self.private / "desk")
        log = os.open(self.printed, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, file in enumerate((nothing, log, log)):
            os.dup2(file, number)
        for name in ("python", "paraformer-asr"):
            door = self.private / name
            door.write_text(DOOR.format(python=sys.executable, tests=str(Path(__file__).parent)))
            door.chmod(0o755)
        more = {
            "PWD": str(self.folder),
            "PATH": f"{self.private}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "src"),
            "PAGE_STATE": str(self.state),
            "PAGE_DESK": desk,
            "PAGE_SETTINGS": "[]",
        }
        os.environ.update(more)
        self.environment = dict(os.environ)
        os.chdir(self.folder)
        self.names: dict[str, Any] = {}
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(desk)
        listener.listen()
        if not os.fork():
            serve(listener)
        listener.close()

    def play(self) -> None:
        """All blocks, or up to the first that does not end as it should."""
        results: list[tuple[int, str]] = []
        for block in self.page["blocks"]:
            before = self.printed.stat().st_size
            play = self.bash if block["language"] == "bash" else self.python
            try:
                code = play(block)
            except (TimeoutError, subprocess.TimeoutExpired):
                code = 124
            with self.printed.open("rb") as file:
                file.seek(before)
                results.append((code, file.read().decode("utf-8", errors="replace")))
            if code != block["exit"]:
                break
        Path(self.page["results"]).write_text(json.dumps(results), encoding="utf-8")
        os.killpg(0, signal.SIGKILL)  # with the desk and with what still runs in the background

    def bash(self, block: dict[str, Any]) -> int:
        self.environment["PAGE_SETTINGS"] = json.dumps(block["settings"])
        shell = subprocess.Popen(
            ["bash", "-c", SHELL + block["code"]],
            cwd=self.environment.get("PWD", self.folder),
            env=self.environment | block["variables"],
        )
        code = shell.wait(timeout=block["seconds"])
        pairs = self.state.read_bytes().decode().split("\0")[:-1]
        self.environment = dict(pair.split("=", 1) for pair in pairs)
        return code

    def python(self, block: dict[str, Any]) -> int:
        import traceback
        import warnings

        def too_long(*_: object) -> None:
            raise TimeoutError

        if block["fresh"] or not self.names:
            self.names = {"__name__": "__main__"}
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(block["seconds"])
        code = 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                lines = "\n" * (block["line"] - 1) + block["code"]  # so that tracebacks fit
                exec(compile(lines, block["page"], "exec"), self.names)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except TimeoutError:
            raise
        except BaseException:
            traceback.print_exc()
            code = 1
        finally:
            signal.alarm(0)
            sys.stdout.flush()
            sys.stderr.flush()
        return code


def serve(listener: socket.socket) -> None:
    """The desk: a fork for each call. Ends when it is killed with its page."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        caller, _ = listener.accept()
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            become(caller)
        caller.close()


def become(caller: socket.socket) -> None:
    """Be the program that was called, with the caller's files, folder and variables."""
    import runpy
    import traceback

    request, files, _, _ = socket.recv_fds(caller, 16, 3)
    with caller.makefile("rb") as rest:
        work = json.loads(rest.read(int(request)))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(work["folder"])
    os.environ.clear()
    os.environ.update(work["variables"])
    words: list[str] = work["words"]
    settings = json.loads(os.environ["PAGE_SETTINGS"])
    caller.sendall(b"%d\n" % os.getpid())
    code: object = 0
    try:
        if words[0] == "-m":
            if words[2:3] and words[2] in TAKES_SETTINGS and "--resume" not in words:
                words = [*words, *settings]
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            sys.path.insert(0, str(Path(words[0]).parent))
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        pass
    caller.sendall(b"%d\n" % code)
    os._exit(0)


def call(words: list[str]) -> int:
    """Have the desk run a program in the place of this process; its exit code."""
    with socket.socket(socket.AF_UNIX) as desk:
        desk.connect(os.environ["PAGE_DESK"])
        everything = {"words": words, "folder": os.getcwd(), "variables": dict(os.environ)}  # noqa: PTH109
        work = json.dumps(everything).encode()
        socket.send_fds(desk, [b"%16d" % len(work)], [0, 1, 2])
        desk.sendall(work)
        with desk.makefile("r") as answers:
            program = int(answers.readline())
            last = signal.SIGKILL

            def forward(number: int, _: object) -> None:
                nonlocal last
                last = signal.Signals(number)
                os.kill(program, number)

            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, forward)
            return int(answers.readline() or 128 + last)  # no answer: a signal ended it


if __name__ == "__main__":
    main()
