"""Every command and every snippet of the documentation is run, in the order a reader meets it.

A document (README.md, docs/*.md) is read by one `Reader`: a fresh copy of the tracked files, one
shell whose variables live on from block to block, and one Python session whose names do. Blocks:

    ```sh       run by bash in the folder of the package
    ```python   run in the document's Python session
    ```text     shown: a diagram or, with an output mark, what the block run before printed
    ```yaml, ```csv     shown, or written to a file with a file mark

A comment on the line before a block says more about it, several things separated by "; ":

    <!-- long -->                      the commands take long; here they run with `reader.SHORT`
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

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm
import yaml
from reader import Block, Reader, blocks, shortened

import unet_seg

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MIRROR = os.environ.get("MAQUETTE_DATA_MIRROR", "")
SETUP_LINES = ("python -m venv ", ". .venv/bin/activate", "pip install ", "git clone ", "cd ")
NUMBER = re.compile(r"(?:(?<!\w)[-+])?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")


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


@pytest.fixture(scope="module")
def programs(tracked: Path) -> Iterator[Path | None]:
    """A folder with a `python` that is quick at this package's commands (`warm.py`)."""
    if sys.platform != "linux":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="unet_seg_") as folder:
        address = f"{folder}/socket"  # a short path: the address of a socket has 107 bytes
        warm.make_stand_in(Path(folder), address)
        settings = {"PYTHONPATH": str(tracked / "src"), "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen(
            [sys.executable, warm.__file__, address], cwd=folder, env=os.environ | settings
        )
        while not Path(address).exists() and server.poll() is None:
            time.sleep(0.05)
        yield Path(folder)
        server.kill()
        server.wait()


@pytest.fixture
def reader(tracked: Path, programs: Path | None, tmp_path: Path) -> Iterator[Reader]:
    shutil.copytree(tracked, tmp_path / "checkout")
    someone = Reader(tmp_path / "checkout", tmp_path, programs)
    yield someone
    someone.leaves()


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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    def prose(path: Path) -> str:
        return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)

    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        name, _, anchor = target.partition("#")
        if re.match(r"https?:|mailto:", target):
            continue
        path = document.parent / name if name else document
        assert path.exists(), f"{document.name} links to {target}, which does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose(path), re.M)
            slugs = [re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", h.lower())) for h in headings]
            assert anchor in slugs, f"{document.name} links to {target}: no such heading"


def test_the_learning_map_names_every_file() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    learning, files = re.split(r"^## ", page, flags=re.M)[-2:]
    package = ROOT / "src/unet_seg"
    for path in package.rglob("[!_]*.py"):
        name = path.relative_to(package).as_posix()
        assert f"`{name}`" in learning, f"the learning map does not name {name}"
        assert re.search(rf"\b{path.name}", files), f"the file map does not name {name}"


def test_imports_go_down_the_floors_of_the_architecture() -> None:
    page = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| [^|]+ \| (`[^|]+`) \|$", page, re.M)
    room_of = {
        module: (int(floor), number)
        for number, (floor, modules) in enumerate(rows)
        for module in re.findall(r"`([^`]+)`", modules)
    }
    package = ROOT / "src/unet_seg"
    files = {p.relative_to(package).with_suffix("").as_posix(): p for p in package.rglob("*.py")}
    assert room_of.keys() == files.keys()
    for module, file in files.items():
        for used in _imports(ast.parse(file.read_text(encoding="utf-8"))):
            target = used if used in room_of else f"{used}/__init__".lstrip("/")
            (floor, room), (its_floor, its_room) = room_of[module], room_of[target]
            assert its_floor < floor or its_room == room, f"{module} imports {used}"


def _imports(tree: ast.AST) -> Iterator[str]:
    """The modules of the package that code imports, but for those that only types need."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "unet_seg":
            path = "/".join(str(node.module).split(".")[1:])
            for alias in node.names:
                inside = "/".join(filter(None, (path, alias.name)))
                yield inside if (ROOT / f"src/unet_seg/{inside}.py").is_file() else path
        yield from _imports(node)


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


def test_commands_end_and_stop_as_ever(reader: Reader) -> None:
    def types(code: str) -> tuple[int, str]:
        return reader.types(Block("sh", code, {}, "here"))

    assert types("python -m unet_seg --version") == (0, f"unet_seg {unet_seg.__version__}\n")
    assert types("python -m unet_seg evaluat 2> /dev/null") == (2, "")
    assert types("cd docs; python -m unet_seg check --config x.yaml 2>&1 | cut -c 1-14") == (
        0,
        "error: x.yaml:\n",
    )
    steps = "train.steps=99999 train.checkpoint_every=99999 train.valid_every=99999"
    code, printed = types(
        f"python -m unet_seg train --quiet --config configs/tiny.yaml {steps} & train=$!\n"
        "until ls runs/*/checkpoints/last.pt > /dev/null 2>&1; do sleep 0.1; done\n"
        "kill -TERM $train; wait $train"
    )
    assert code == 143
    assert "go on with: python -m unet_seg train --resume runs/" in printed
