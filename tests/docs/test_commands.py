"""Every command of the documentation is run, in the order a reader meets it.

A document is read by one `Reader`: a fresh copy of the checkout (tracked files only) and one shell
whose variables live on from block to block.

    ```sh       run by bash; it must end well. `make …` is run as `make -n …`: make would install.
    ```python   run by the same interpreter, in the same folder
    ```console  what the block run before printed: it bears an output mark and holds no command

A comment on the line before a block says more about it:

    <!-- exit 1 -->                        the block ends with this exit code
    <!-- output -->                        these lines were printed by the block run before;
                                           … stands for anything
    <!-- output, numbers may differ -->    the same, whatever the numbers and the spaces

Port 8000 of the documents becomes a free one. Of the shipped recipes the first line, which is their
command, is run for one epoch, in this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from maquette.cli import main
from maquette.data.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RECIPES = sorted((ROOT / "configs").glob("*.yaml"))
BLOCK_SECONDS = 300
"""Long enough for a machine that is busy with other tests."""
SHORT = (
    "training.epochs=1",
    "training.warmup_epochs=0",
    "evaluation.baselines=false",
    "evaluation.bootstrap=0",
    "tracking.enabled=false",
)
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    language: str
    code: str
    mark: str
    line: int


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["code"], m["mark"] or "", text.count("\n", 0, m.start()) + 1)
        for m in FENCE.finditer(text)
    ]


class Reader:
    """Someone who types what a document says into one shell, in a fresh checkout."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self._output = folder / "output.txt"
        self._variables = folder / "variables.sh"
        self._groups: list[int] = []
        self._port = str(_free_port())
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
        }
        self._variables.write_text("")
        copy_checkout(self.checkout)

    def types(self, code: str, *, language: str = "sh") -> tuple[int, str]:
        """Run a block; return its exit code and what it printed, on stdout and stderr together."""
        code = re.sub(r"\b8000\b", self._port, code)
        if language == "python":
            code = f"python - <<'PYTHON'\n{code}PYTHON\n"
        else:
            code = re.sub(r"^make ", "make -n ", code, flags=re.M)
        keep = f"export -p > '{self._variables}'"
        script = f"set -a; . '{self._variables}'; trap \"{keep}\" EXIT\n{code}"
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-eu", "-c", script],
                cwd=self.checkout,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._groups.append(process.pid)
            code_of_exit = process.wait(timeout=BLOCK_SECONDS)
        return code_of_exit, self._output.read_text(encoding="utf-8")

    def leaves(self) -> None:
        """Stop whatever the blocks left running, such as a server."""
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


@pytest.fixture
def reader(tmp_path) -> Iterator[Reader]:
    someone = Reader(tmp_path)
    yield someone
    someone.leaves()


def copy_checkout(to: Path) -> None:
    """Copy the files git knows; what only lies around must not make a command work."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout: the documentation speaks of its files")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def lines_not_in(shown: str, output: str, *, any_number: bool) -> list[str]:
    """Return the shown lines that were not printed; spaces count as one."""

    def plain(line: str) -> str:
        line = " ".join(line.split())
        return NUMBER.sub("0", line) if any_number else line

    printed = [plain(line) for line in output.splitlines()]
    return [
        line
        for line in filter(str.strip, shown.splitlines())
        if not any(re.fullmatch(_pattern(plain(line)), candidate) for candidate in printed)
    ]


def _pattern(line: str) -> str:
    return re.escape(line).replace("…", ".*")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if blocks(d)], ids=lambda path: path.name
)
def test_a_document_does_what_it_says(document, reader):
    text = document.read_text(encoding="utf-8")
    if "curl" in text and shutil.which("curl") is None:
        pytest.skip("this document uses curl, which is not installed")
    printed = ""
    for block in blocks(document):
        place = f"{document.name}:{block.line}"
        if block.language in ("sh", "python"):
            expected = int(block.mark.removeprefix("exit")) if block.mark else 0
            code, printed = reader.types(block.code, language=block.language)
            assert code == expected, f"{place} ended with {code}:\n{block.code}\n{printed}"
        elif block.mark.startswith("output"):
            numbers = block.mark == "output, numbers may differ"
            missing = lines_not_in(block.code, printed, any_number=numbers)
            assert not missing, f"{place} shows {missing}; printed was:\n{printed}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_says_what_it_is(document):
    known = {"sh", "python", "console", "yaml", "json", "promql", ""}
    for block in blocks(document):
        place = f"{document.name}:{block.line}"
        assert block.language in known, f"{place}: ```{block.language} is neither run nor shown"
        is_run = block.language in ("sh", "python")
        marks = r"|exit \d+" if is_run else r"|output|output, numbers may differ"
        assert re.fullmatch(marks, block.mark), f"{place}: unknown mark {block.mark!r}"
        if block.language == "console":
            assert block.mark, f"{place} does not say that it is the output of a command"
            commands = re.findall(r"^\$ .*", block.code, re.M)
            assert not commands, f"{place} shows {commands} without running them: use ```sh"


def _recipe_case(recipe: Path):
    name = re.search(r"path: catalogue:(\w+)", recipe.read_text(encoding="utf-8"))
    needs_mirror = name is not None and CATALOGUE[name[1]].file is not None
    return pytest.param(recipe, id=recipe.name, marks=[pytest.mark.data] if needs_mirror else [])


@pytest.mark.parametrize("recipe", [_recipe_case(recipe) for recipe in RECIPES])
def test_a_shipped_recipe_opens_with_its_command(recipe, tmp_path, monkeypatch, capsys):
    first, second = recipe.read_text(encoding="utf-8").splitlines()[:2]
    command = first.removeprefix("# ")
    assert command == f"maquette train configs/{recipe.name}"
    assert re.search(r"second|minute| s ", second), f"{recipe.name} does not say how long it takes"
    copy_checkout(tmp_path / "checkout")
    monkeypatch.chdir(tmp_path / "checkout")
    narrow = ["model.architecture.base_width=8"] if "name: resnet" in recipe.read_text() else []
    with pytest.raises(SystemExit) as ended:
        main([*shlex.split(command)[1:], *SHORT, *narrow])
    assert ended.value.code == 0
    run = Path(capsys.readouterr().out.splitlines()[-1])
    assert (run / "summary.json").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_keeps_what_it_promises(reader):
    """Under five minutes in all, over 100 training samples/s, under 200 ms for a prediction."""
    start = time.monotonic()
    code, printed = reader.types("python examples/demo.py")
    assert code == 0, printed
    assert time.monotonic() - start < 300
    for name in ("iris", "digits", "colours"):
        (summary,) = reader.checkout.glob(f"runs/*-{name}-*/summary.json")
        assert json.loads(summary.read_text(encoding="utf-8"))["samples_per_second"] > 100
    latencies = re.findall(r"([\d.]+) ms", printed)
    assert len(latencies) == 3
    assert max(map(float, latencies)) < 200


def test_shown_lines_are_compared():
    output = "accuracy  0.95   0.9 – 1\ndone in runs/x\n"
    assert lines_not_in("accuracy 0.95 0.9 – 1\ndone …\n", output, any_number=False) == []
    assert lines_not_in("accuracy 0.91 0.8 – 1\n", output, any_number=True) == []
    assert lines_not_in("accuracy 0.91 0.8 – 1\n", output, any_number=False)
    assert lines_not_in("accuracy 0.91\n", output, any_number=True)


def test_a_reader_keeps_variables_and_notices_failures(reader):
    assert reader.types("run=here; false || true")[0] == 0
    assert reader.types('echo "$run"') == (0, "here\n")
    assert reader.types("exit 3")[0] == 3
    assert reader.types("false; true")[0] == 1
    assert reader.types('echo "$never"')[0] == 1
    assert reader.types("import os\nprint(os.environ['run'])\n", language="python") == (0, "here\n")
