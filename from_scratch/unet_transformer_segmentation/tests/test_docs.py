"""Every command and every snippet of the documentation is run, in the order a reader meets it.

A document (README.md, docs/*.md) is read by one `Reader`: a fresh copy of the tracked files, one
shell whose variables live on from block to block, and one Python session whose names do. Blocks:

    ```sh       run by bash in the folder of the package
    ```python   run in the document's Python session
    ```text     shown: a diagram or, with an output mark, what the block run before printed
    ```yaml, ```csv     shown, or written to a file with a file mark

A comment on the line before a block says more about it, several things separated by "; ":

    <!-- long -->                      the commands take long; here they run with SHORT appended
    <!-- long: a.b=1 SEEDS=0 -->       and these: overrides, and variables of the environment
    <!-- exit 1 -->                    the block ends with this exit code
    <!-- fresh -->                     the Python session starts anew, with no names
    <!-- file: configs/my.yaml -->     the block is the content of this file
    <!-- needs: dsb2018_nuclei -->     needs this folder of MAQUETTE_DATA_MIRROR; else not run
    <!-- setup: not run -->            installs: only lines that start as SETUP_LINES
    <!-- output -->                    these lines were printed by the block run before; … stands
                                       for anything, and spaces count as one
    <!-- output, numbers may differ --> the same, whatever the numbers

Port 8000 of the documents becomes a free one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MIRROR = os.environ.get("MAQUETTE_DATA_MIRROR", "")
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
SETUP_LINES = ("python -m venv ", ". .venv/bin/activate", "pip install ", "git clone ", "cd ")
FENCE = re.compile(
    r"^(?:<!-- (?P<marks>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)
NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")

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

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.checkout = checkout
        self._output = folder / "output.txt"
        self._variables = folder / "variables.sh"
        self._variables.write_text("")
        self._started: list[subprocess.Popen[bytes]] = []
        self._session: subprocess.Popen[bytes] | None = None
        self._answers = -1
        self._port = str(_free_port())
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
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


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files git knows; what only lies around must not make a command work."""
    git = ["git", "ls-files", "-z", "--", "."]
    if shutil.which("git") is None or subprocess.run(git, cwd=ROOT, capture_output=True).returncode:
        pytest.skip("needs a git checkout: the documentation speaks of its files")
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folder = tmp_path_factory.mktemp("tracked")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture
def reader(tracked: Path, tmp_path: Path) -> Iterator[Reader]:
    shutil.copytree(tracked, tmp_path / "checkout")
    someone = Reader(tmp_path / "checkout", tmp_path)
    yield someone
    someone.leaves()


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


def lines_not_in(shown: str, output: str, *, any_number: bool) -> list[str]:
    """The shown lines that were not printed; spaces count as one, … stands for anything."""

    def plain(line: str) -> str:
        line = " ".join(line.split())
        return NUMBER.sub("0", line) if any_number else line

    printed = [plain(line) for line in re.split(r"[\n\r]", output)]
    return [
        line
        for line in filter(str.strip, shown.splitlines())
        if not any(
            re.fullmatch(re.escape(plain(line)).replace("…", ".*"), candidate)
            for candidate in printed
        )
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if blocks(d)], ids=lambda path: path.name
)
def test_a_document_does_what_it_says(document: Path, reader: Reader) -> None:
    text = document.read_text(encoding="utf-8")
    if "curl" in text and shutil.which("curl") is None:
        pytest.skip("this document uses curl, which is not installed")
    printed: str | None = ""
    for block in blocks(document):
        if "file" in block.marks:
            path = reader.checkout / block.marks["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
        elif block.language in ("sh", "python"):
            if "setup" in block.marks or not _is_here(block.marks.get("needs")):
                printed = None
                continue
            code, printed = reader.types(block)
            expected = int(block.marks.get("exit", 0))
            assert code == expected, f"{block.place} ended with {code}:\n{block.code}\n{printed}"
        elif "output" in block.marks and printed is not None:
            any_number = block.marks["output"] == "numbers may differ"
            missing = lines_not_in(block.code, printed, any_number=any_number)
            assert not missing, f"{block.place} shows {missing}; printed was:\n{printed}"


def _is_here(folder: str | None) -> bool:
    return folder is None or (MIRROR != "" and (Path(MIRROR) / folder).is_dir())


MARKS = {
    "sh": r"long|exit|needs|setup",
    "python": r"exit|needs|fresh",
    "text": r"output",
    "yaml": r"file",
    "csv": r"file",
}
"""Languages a block may have, and the marks of each."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_says_what_it_is(document: Path) -> None:
    found = blocks(document)
    fences = re.findall(r"^\s*(?:```|~~~)", document.read_text(encoding="utf-8"), re.M)
    assert len(fences) == 2 * len(found), f"{document.name}: a fence is indented or not closed"
    for block in found:
        assert block.language in MARKS, f"{block.place}: ```{block.language} is no known language"
        for name, text in block.marks.items():
            assert re.fullmatch(MARKS[block.language], name), f"{block.place}: mark {name!r}"
            if name == "output":
                assert text in ("", "numbers may differ"), f"{block.place}: output, {text}"
        if "setup" in block.marks:
            others = [ln for ln in block.code.splitlines() if not ln.startswith(SETUP_LINES)]
            assert not others, f"{block.place}: {others} install nothing, so they must be run"
        if block.language == "yaml":
            yaml.safe_load(block.code)
        if block.language == "text":
            commands = re.findall(r"^(?:\$|>>>) .*", block.code, re.M)
            assert not commands, f"{block.place} shows {commands} without running them"


def test_shown_lines_are_compared() -> None:
    output = "accuracy  0.95   0.9\ndone in runs/x\n"
    assert lines_not_in("accuracy 0.95 0.9\ndone …\n", output, any_number=False) == []
    assert lines_not_in("accuracy 0.91 0.8\n", output, any_number=True) == []
    assert lines_not_in("accuracy 0.91 0.8\n", output, any_number=False) == ["accuracy 0.91 0.8"]
    assert lines_not_in("accuracy 0.91\n", output, any_number=True) == ["accuracy 0.91"]


def test_long_commands_get_overrides() -> None:
    code = "RUN=$(python -m unet_seg train --config a.yaml)\npython -m unet_seg infer x\n"
    short = "RUN=$(python -m unet_seg train --config a.yaml b=1)\npython -m unet_seg infer x\n"
    assert shortened(code, ["b=1"]) == short
    assert (
        shortened("unet-seg train \\\n  seed=1\n", ["b=1"]) == "unet-seg train \\\n  seed=1 b=1\n"
    )
    assert shortened("unet_seg train --resume r\n", ["b=1"]) == "unet_seg train --resume r\n"


def test_a_reader_keeps_what_was_typed_and_notices_failures(reader: Reader) -> None:
    def types(language: str, code: str, **marks: str) -> tuple[int, str]:
        return reader.types(Block(language, code, marks, "here"))

    assert types("sh", "run=here; false || true") == (0, "")
    assert types("sh", 'echo "$run"') == (0, "here\n")
    assert types("sh", "false; true")[0] == 1
    assert types("sh", 'echo "$never"')[0] == 1
    assert types("python", "x = 2\nprint(x)") == (0, "2\n")
    assert types("python", "import unet_seg\nprint(x, unet_seg.__file__)") == (
        0,
        f"2 {reader.checkout}/src/unet_seg/__init__.py\n",
    )
    assert types("python", "raise SystemExit(3)")[0] == 3
    code, printed = types("python", "print(x)", fresh="")
    assert code == 1
    assert "NameError" in printed
