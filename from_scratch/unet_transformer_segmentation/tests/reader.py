"""Someone who reads a document and types what it says: fenced blocks, a shell, a Python session.

For test_docs.py, whose docstring says what blocks and the marks before them mean. Start reading at
`Reader.types`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK_SECONDS = 200
"""Long enough for a machine that is busy with other tests."""
SHORT = (
    *("train.steps=2", "train.valid_every=2", "optim.warmup_steps=0"),
    *("data.toy.num_train=8", "data.toy.num_valid=4", "data.toy.num_test=4"),
)
LONG_COMMANDS = re.compile(
    r"(?:unet[_-]seg (?:train|reproduce|export-toy|preview|check|profile)|ablations\.sh)\b"
    r"(?:\\\n|[^\n)|>&;])*"
)
FENCE = re.compile(
    r"^(?:<!-- (?P<marks>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)

SESSION = """\
import json, os, sys, traceback
answers, names = os.fdopen(int(sys.argv[1]), "w"), {"__name__": "__main__"}
for line in sys.stdin:
    block, code = json.loads(line), 0
    if block["fresh"]:
        names = {"__name__": "__main__"}
    try:
        exec(compile(block["code"], block["place"], "exec"), names)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        code = 1
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    print(code, file=answers, flush=True)
"""
"""A Python session: a block a line comes in, its exit code goes out."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    language: str
    code: str
    marks: dict[str, str]
    """What the comment before it says: name -> text after the colon or the blank."""
    place: str


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        marks = {}
        for mark in filter(None, (match["marks"] or "").split("; ")):
            name, *rest = re.split(r"[:,]? ", mark, maxsplit=1)
            marks[name.rstrip(":")] = rest[0] if rest else ""
        line = text.count("\n", 0, match.start("code"))
        found.append(Block(match["language"], match["code"], marks, f"{document.name}:{line}"))
    return found


class Reader:
    """Someone who types what a document says, in a fresh copy of the package."""

    def __init__(self, checkout: Path, folder: Path, programs: Path | None = None) -> None:
        self.checkout = checkout
        self._output = folder / "output.txt"
        self._variables = folder / "variables.sh"
        self._variables.write_text("")
        self._started: list[subprocess.Popen[bytes]] = []
        self._session: subprocess.Popen[bytes] | None = None
        self._answers = -1
        self._port = str(_free_port())
        places = [*filter(None, (programs,)), Path(sys.executable).parent, os.environ["PATH"]]
        self._environment = os.environ | {
            "PATH": os.pathsep.join(map(str, places)),
            "PYTHONPATH": str(checkout / "src"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
        }

    def types(self, block: Block) -> tuple[int, str]:
        """Run a block; return its exit code and what it printed, on stdout and stderr together."""
        code = re.sub(r"\b8000\b", self._port, block.code)
        self._output.write_text("")
        if block.language == "python":
            exit_code = self._python(code, block)
        else:
            exit_code = self._shell(code, block.marks.get("long"))
        return exit_code, self._output.read_text(encoding="utf-8")

    def _shell(self, code: str, long: str | None) -> int:
        variables: dict[str, str] = {}
        if long is not None:
            words = long.split()
            overrides = [word for word in words if not word.split("=")[0].isupper()]
            variables = dict(word.split("=", 1) for word in words if word not in overrides)
            code = shortened(code, [*SHORT, *overrides])
        keep = f"export -p > '{self._variables}'"
        script = f"set -a; . '{self._variables}'; trap \"{keep}\" EXIT\n{code}"
        process = self._start(["bash", "-eu", "-c", script], env=self._environment | variables)
        return process.wait(timeout=BLOCK_SECONDS)

    def _python(self, code: str, block: Block) -> int:
        if self._session is None:
            self._answers, theirs = os.pipe()
            command = [sys.executable, "-c", SESSION, str(theirs)]
            self._session = self._start(
                command, env=self._environment, stdin=subprocess.PIPE, pass_fds=(theirs,)
            )
            os.close(theirs)
        fields = {"code": code, "place": block.place, "fresh": "fresh" in block.marks}
        assert self._session.stdin is not None
        self._session.stdin.write(json.dumps(fields).encode() + b"\n")
        self._session.stdin.flush()
        answer = os.read(self._answers, 100)  # empty if the session died
        return int(answer) if answer else 1

    def _start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        options = {"stdin": subprocess.DEVNULL} | options
        with self._output.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=self.checkout,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        self._started.append(process)
        return process

    def leaves(self) -> None:
        """Stop whatever the blocks left running, such as a server."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._session is not None and self._session.stdin is not None:
            self._session.stdin.close()
            os.close(self._answers)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def shortened(code: str, overrides: list[str]) -> str:
    """The same commands with overrides, but for those that resume, which take none."""

    def append(match: re.Match[str]) -> str:
        command, space = match[0].rstrip(), match[0][len(match[0].rstrip()) :]
        return match[0] if "--resume" in command else f"{command} {' '.join(overrides)}{space}"

    return LONG_COMMANDS.sub(append, code)
