"""The documentation does what it shows, and names what exists. `pages.py` says how it is marked.

Each page is played from top to bottom in a copy of the package (`stage.py`). What the pages name in
backticks (files, modules, functions, configuration keys), link to, and copy from docs/results is
looked up.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import UnionType

import pages
import pytest
import yaml
from pages import PAGES, ROOT, Block
from stage import REDUCED

from paraformer_asr import cli
from paraformer_asr.config import Config, load_config
from paraformer_asr.settings import Reader

MIRROR = os.environ.get("MAQUETTE_DATA_MIRROR", "")
PACKAGE = ROOT / "src" / "paraformer_asr"
COPIED = ("configs", "docs", "scripts", "src", "tests", "README.md", "pyproject.toml")
LANGUAGES = ("bash", "python", "text", "yaml", "csv")
FLAGS = {
    "bash": {"reduced", "slow"},
    "python": {"fresh", "slow"},
    "text": {"output", "~", "slow"},
    "yaml": set(),
    "csv": set(),
}
VALUES = {"exit", "needs", "file"}
SECONDS, SECONDS_OF_SLOW = 120, 3600
EVERY = [pytest.param(page, id=page.name) for page in PAGES]
BLOCKS = {page: pages.read_blocks(page) for page in PAGES}
PLAYED = [
    pytest.param(page, id=page.name)
    for page, blocks in BLOCKS.items()
    if any(block.language in ("bash", "python") and not block.reason for block in blocks)
]
linux = pytest.mark.skipif(sys.platform != "linux", reason="pages are played by forking")


class Stage:
    """The process that plays pages, and the copy of the package that it plays them in."""

    def __init__(self, copy: Path) -> None:
        self.copy = copy
        for name in (*COPIED, *(path.name for path in ROOT.glob("requirements*.txt"))):
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
                shutil.copytree(source, copy / name, ignore=ignored)
            else:
                shutil.copy2(source, copy / name)
        more = {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "stage.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | more,
            cwd=copy,
            text=True,
        )

    def play(self, blocks: list[Block], folder: Path, *, whole: bool) -> list[tuple[int, str]]:
        """What became of each block, up to the first that did not end as it should."""
        shutil.copytree(self.copy, folder / "package")
        port = str(free_port())
        work = {
            "folder": str(folder / "package"),
            "results": str(folder / "results.json"),
            "blocks": [
                {
                    "language": block.language,
                    "code": re.sub(r"\b8000\b", port, block.code),
                    "page": block.page.name,
                    "line": block.line,
                    "fresh": block.has("fresh"),
                    "exit": int(block.value("exit") or 0),
                    "settings": [] if whole or not block.has("reduced") else small(block),
                    "variables": {} if whole else block.variables,
                    "seconds": SECONDS_OF_SLOW if whole else SECONDS,
                }
                for block in blocks
            ],
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(work), file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "played\n"
        return [(code, text) for code, text in json.loads((folder / "results.json").read_text())]


def small(block: Block) -> list[str]:
    return [*REDUCED, *block.settings]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("copy"))
    yield made
    made.process.kill()
    made.process.communicate()


def is_played(block: Block, *, whole: bool) -> bool:
    needed = block.value("needs")
    is_here = needed is None or (MIRROR != "" and (Path(MIRROR) / needed).is_dir())
    runs = block.language in ("bash", "python") and not block.value("file")
    return runs and block.reason is None and is_here and (whole or not block.has("slow"))


def writes(block: Block) -> Block:
    """A block that is the content of a file, as a command that writes it."""
    path = block.value("file")
    end = "end of the file"
    code = f"mkdir -p \"$(dirname {path})\"\ncat > {path} <<'{end}'\n{block.code}{end}\n"
    return dataclasses.replace(block, language="bash", marks=(), code=code)


def play(page: Path, stage: Stage, folder: Path, *, whole: bool) -> None:
    """Play a page, and compare what it shows with what was printed."""
    if "curl " in page.read_text(encoding="utf-8") and shutil.which("curl") is None:
        pytest.skip("this page calls curl, which is not installed")
    blocks = [writes(block) if block.value("file") else block for block in BLOCKS[page]]
    played = [block for block in blocks if is_played(block, whole=whole)]
    results = stage.play(played, folder, whole=whole)
    outcome = dict(zip(map(str, played), results, strict=False))
    for block in played:
        code, text = outcome[str(block)]
        expected = int(block.value("exit") or 0)
        assert code == expected, f"{block} ended with {code}:\n{block.code}\nand printed:\n{text}"
    shown_by = None
    for block in blocks:
        if block.language in ("bash", "python"):
            shown_by = outcome.get(str(block))
        elif block.has("output") and shown_by and (whole or not block.has("slow")):
            line = first_missing(block.code, shown_by[1], any_number=block.has("~"))
            assert line is None, f"{block} shows {line!r}; printed was:\n{shown_by[1]}"


def first_missing(shown: str, printed: str, *, any_number: bool) -> str | None:
    """The first line shown that does not follow in the lines printed."""
    rest = iter([plain(line, any_number) for line in re.split(r"[\r\n]+", printed)])
    for line in shown.splitlines():
        pieces = map(re.escape, plain(line, any_number).split("…"))
        pattern = re.compile(".*".join(pieces))
        if line.strip() and not any(pattern.fullmatch(candidate) for candidate in rest):
            return line
    return None


def plain(line: str, any_number: bool) -> str:
    """Without differences in spaces and, if asked, in numbers."""
    words = " ".join(line.split())
    return re.sub(r"(?<![\w.])[-+]?\d[\d.,]*(?:e[-+]?\d+)?", "0", words) if any_number else words


@linux
@pytest.mark.parametrize("page", PLAYED)
def test_a_page_does_what_it_shows(page: Path, stage: Stage, tmp_path: Path) -> None:
    play(page, stage, tmp_path, whole=False)


@linux
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("page", PLAYED)
def test_a_page_does_what_it_shows_with_all_its_steps(
    page: Path, stage: Stage, tmp_path: Path
) -> None:
    play(page, stage, tmp_path, whole=True)


# What the marks say


@pytest.mark.parametrize("page", EVERY)
def test_every_block_is_marked_as_pages_says(page: Path) -> None:
    for block in BLOCKS[page]:
        assert block.language in LANGUAGES, f"{block}: {block.language!r} is no language of ours"
        assert block.reason != "", f"{block}: not-run: needs a reason"
        rest = [m for m in block.marks if m not in (*block.settings, *block.variables)]
        for mark in rest:
            name, sign, _ = mark.partition("=")
            assert name in VALUES if sign else mark in FLAGS[block.language] or "=" in mark, (
                f"{block}: {mark!r} is no mark of {block.language}"
            )
        if block.language == "text":
            typed = re.findall(r"^(?:\$|>>>) ", block.code, re.M)
            assert not typed, f"{block}: shows commands without running them"
        if block.language == "yaml":
            yaml.safe_load(block.code)


COMMAND = re.compile(r"python -m paraformer_asr ((?:[^|;&)>\n\\]|\\\n)+)")


@pytest.mark.parametrize("page", EVERY)
def test_commands_that_are_not_run_can_be_parsed(page: Path) -> None:
    for block in BLOCKS[page]:
        if block.language != "bash" or is_played(block, whole=False):
            continue
        for words in COMMAND.findall(block.code):
            given = words.replace("\\\n", " ").replace('"', "").split()
            given = given[: next((i for i, w in enumerate(given) if w.startswith("#")), None)]
            options = cli.read_arguments([re.sub(r"^\$", "VALUE", word) for word in given])
            if getattr(options, "config", None) is not None and options.config.is_file():
                load_config(ROOT / options.config, options.overrides)


# What the pages name


@pytest.mark.parametrize("page", EVERY)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", pages.prose(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in pages.anchors(path), f"{page.name}: no heading makes #{anchor}"


FILE = re.compile(r"[\w./*-]+\.(?:py|md|yaml|toml|sh|csv|json|txt|png|pt|npy|wav|mvn)")
KEY = re.compile(r"(?:data|features|model|loss|optim|train)(?:\.(?!py\b)\w+)+|seed|out|name")
SEARCHED = (ROOT, PACKAGE, PACKAGE / "data", *(ROOT / name for name in COPIED[:5]))


@pytest.fixture(scope="module")
def code() -> str:
    """All code and configuration of the package, with its tests and scripts."""
    kinds = ("src/**/*.py", "scripts/*", "configs/*.yaml", "pyproject.toml", "tests/*.py")
    listed = sorted(path for kind in kinds for path in ROOT.glob(kind) if path.is_file())
    return "\n".join(path.read_text(encoding="utf-8") for path in listed)


@pytest.mark.parametrize("page", EVERY)
def test_files_that_are_named_exist_or_are_made(page: Path, code: str) -> None:
    made = code + "".join(block.code for block in BLOCKS[page])
    written = {Path(name).name for name in FILE.findall(made)}
    for name in filter(FILE.fullmatch, pages.quoted(page)):
        exists = any(next(folder.glob(name.removeprefix("/")), None) for folder in SEARCHED)
        assert exists or Path(name).name in written, (
            f"{page.name} names `{name}`, which nothing holds or writes"
        )


@pytest.mark.parametrize("page", EVERY)
def test_configuration_keys_that_are_named_exist(page: Path) -> None:
    for words in pages.quoted(page):
        for word in words.split():
            key, sign, value = word.rstrip(",").partition("=")
            if not KEY.fullmatch(key) or (key.count(".") == 0 and not sign):
                continue
            if not sign and is_code(key):
                continue  # `train.resume` is a function, `data.toy` a module
            hint = hint_of(key)
            assert hint is not None, f"{page.name} names `{key}`, which is no setting"
            if sign and value and not re.search(r"[A-Z{…]", value):
                Reader().value(hint, yaml.safe_load(value), (key,))


def is_code(name: str) -> bool:
    """Whether `a.b.c` is a module of the package, or something in one."""
    parts = name.split(".")
    for number in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[:number])
        if path.with_suffix(".py").is_file():
            module = importlib.import_module("paraformer_asr." + ".".join(parts[:number]))
            return has(module, parts[number:])
    return False


def hint_of(key: str) -> object | None:
    """The type of a setting, or None where there is no such key."""
    kind: object = Config
    for name in key.split("."):
        if typing.get_origin(kind) in (typing.Union, UnionType):
            (kind,) = [each for each in typing.get_args(kind) if each is not type(None)]
        if not dataclasses.is_dataclass(kind):
            return None
        hints = typing.get_type_hints(kind)
        if name not in hints:
            return None
        kind = hints[name]
    return kind


def has(value: object, names: list[str]) -> bool:
    """Whether `value.a.b` exists, methods and fields of dataclasses included."""
    for name in names:
        fields = {f.name for f in dataclasses.fields(value)} if is_dataclass(value) else set()
        if name in fields:
            return True
        if not hasattr(value, name):
            return False
        value = getattr(value, name)
    return True


def is_dataclass(value: object) -> bool:
    return isinstance(value, type) and dataclasses.is_dataclass(value)


MODULES = sorted(path.stem for path in PACKAGE.rglob("[!_]*.py"))


@pytest.mark.parametrize("page", EVERY)
def test_functions_that_are_named_exist(page: Path, code: str) -> None:
    """`module.name`, `Class.name` and `name(...)` of the package, and every name with a _ in it."""
    known = set(re.findall(r"\w+", code + "".join(block.code for block in BLOCKS[page])))
    for words in pages.quoted(page):
        name = words.partition("(")[0].removeprefix("paraformer_asr.")
        if FILE.fullmatch(words) or not re.fullmatch(r"[A-Za-z_][\w.]*", name):
            continue
        first, *rest = name.removeprefix("data.").split(".")
        if rest and first in MODULES and not KEY.fullmatch(name):
            inside = "data." if (PACKAGE / "data" / f"{first}.py").is_file() else ""
            module = importlib.import_module(f"paraformer_asr.{inside}{first}")
            assert has(module, rest), f"{page.name} names `{words}`, which does not exist"
        elif "_" in name or re.fullmatch(r"[A-Z][a-z]+[A-Z]\w*", name) or "(" in words:
            assert name.split(".")[-1] in known, f"{page.name} names `{words}`; no code does"


# What the pages say about the whole


def modules() -> list[str]:
    """`cif`, `data/toy`, ...: every module but those that only name a package."""
    found = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return sorted(path.as_posix() for path in found if path.name != "__init__")


def section(page: Path, heading: str) -> str:
    parts = re.split(r"^## (.+)\n", page.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]


@pytest.mark.parametrize("heading", ["Learning map", "Where things are"])
def test_the_readme_names_every_module(heading: str) -> None:
    text = section(ROOT / "README.md", heading)
    names = [Path(module).name for module in modules() if module != "__main__"]
    missing = [name for name in names if not re.search(rf"(?<!\w){name}\.py", text)]
    assert not missing, f"{heading} does not name {missing}"


def test_the_rooms_import_what_the_architecture_says_and_nothing_else() -> None:
    rows = re.findall(
        r"^\| \*\*([^|*]+)\*\* \| ([^|]+) \| ([^|]+) \|$",
        section(ROOT / "docs" / "ARCHITECTURE.md", "Rooms"),
        re.M,
    )
    room_of = {m: room for room, names, _ in rows for m in re.findall(r"`([^`]+)`", names)}
    assert sorted(room_of) == modules()
    told = {room: set(filter(None, re.split(r",\s*|\s*–\s*", used))) for room, _, used in rows}
    found: dict[str, set[str]] = {room: set() for room in told}
    for module, room in room_of.items():
        for target in imports(PACKAGE / f"{module}.py"):
            if room_of[target] != room:
                found[room].add(room_of[target])
    assert found == {room: {name.strip() for name in used} for room, used in told.items()}
    order = list(told)
    backwards = [(a, b) for a in order for b in found[a] if order.index(b) >= order.index(a)]
    assert not backwards, "a room may use only those above it in the table"


def imports(path: Path) -> Iterator[str]:
    """Modules of the package that a file imports, but for those that only its types need."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("paraformer_asr"):
            parts = str(node.module).split(".")[1:]
            for name in node.names:
                for found in ("/".join([*parts, name.name]), "/".join(parts)):
                    if (PACKAGE / f"{found}.py").is_file():
                        yield found
                        break


@pytest.mark.parametrize("page", EVERY)
def test_copied_tables_are_copies(page: Path) -> None:
    for _, name, table in pages.COPY.findall(page.read_text(encoding="utf-8")):
        (rows,) = pages.tables(table)
        source = pages.source_of(rows, pages.RESULTS / name)
        assert source is not None, f"{page.name}: {name} has no table with the heads {rows[0]}"
        missing = [row for row in rows[2:] if row not in source]
        assert not missing, f"{page.name}: not in {name}: {missing}; run python tests/pages.py"
        assert len(rows) > 2 or len(source) == 2, f"{page.name}: run python tests/pages.py"


# The harness itself


def test_lines_are_compared_in_their_order() -> None:
    printed = "saved  in runs/x-3\nerror rate 1.50 %\n"
    assert first_missing("saved in …\nerror rate 1.50 %\n", printed, any_number=False) is None
    assert first_missing("error rate 2.5 %", printed, any_number=True) is None
    assert first_missing("error rate 2.5 %", printed, any_number=False) == "error rate 2.5 %"
    swapped = "error rate 1.50 %\nsaved in runs/x-3\n"
    assert first_missing(swapped, printed, any_number=False) == "saved in runs/x-3"
    assert first_missing("rate 1.50 %", printed, any_number=False) == "rate 1.50 %"


def test_marks_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "a `name`\n```bash reduced train.steps=9 SEEDS=0 exit=1\nls `x`\n```\n"
        "```bash not-run: it installs\nb\n```\n## Two words: here\n"
    )
    first, second = pages.read_blocks(page)
    assert (first.line, first.code, first.reason) == (3, "ls `x`\n", None)
    assert (first.settings, first.variables) == (["train.steps=9"], {"SEEDS": "0"})
    assert (first.value("exit"), second.reason) == ("1", "it installs")
    assert pages.quoted(page) == ["name"]
    assert pages.anchors(page) == {"two-words-here"}
    page.write_text("```bash\n")
    with pytest.raises(ValueError, match=r"page\.md:1: the block is not closed"):
        pages.read_blocks(page)


@linux
def test_the_stage_keeps_variables_names_and_exit_codes(stage: Stage, tmp_path: Path) -> None:
    def block(language: str, code: str, *marks: str) -> Block:
        numbers.append(len(numbers))
        return Block(Path("page.md"), len(numbers), language, marks, None, code)

    numbers: list[int] = []
    shown = stage.play(
        [
            block("bash", "mkdir a; cd a; word='two words'; sleep 60 & late=$!\n"),
            block("bash", 'echo "$word in ${PWD##*/}"; kill -0 $late\n'),
            block("bash", "python -m paraformer_asr --version | tr a-z A-Z\n"),
            block("python", "x = 2\nimport paraformer_asr\nprint(x, paraformer_asr.__file__)\n"),
            block("python", "print(x + 1)\n"),
            block("bash", "python -m paraformer_asr evaluat 2> /dev/null\n", "exit=2"),
            block("bash", "cd ..; python -m paraformer_asr check --config none.yaml\n", "exit=1"),
            block("bash", "false; true\n", "exit=1"),
            block("python", "raise SystemExit(3)\n", "exit=3"),
            block("python", "print(x)\n", "fresh"),
            block("bash", "echo never\n"),
        ],
        tmp_path,
        whole=False,
    )
    codes, texts = zip(*shown, strict=True)
    assert codes == (0, 0, 0, 0, 0, 2, 1, 1, 3, 1), texts
    assert texts[1] == "two words in a\n"
    assert texts[2].startswith("PARAFORMER_ASR 0.")
    assert texts[3] == f"2 {stage.copy}/src/paraformer_asr/__init__.py\n"
    assert texts[4] == "3\n"
    assert texts[6].startswith("error: none.yaml: there is no such file.")
    assert 'File "page.md", line 10' in texts[9]
    assert "NameError" in texts[9]


@linux
def test_a_training_in_the_background_can_be_stopped(stage: Stage, tmp_path: Path) -> None:
    code = (
        "python -m paraformer_asr train --quiet --config configs/tiny.yaml & it=$!\n"
        "until ls runs/*/checkpoints/last.pt > /dev/null 2>&1; do sleep 0.1; done\n"
        "kill -TERM $it; wait $it\n"
    )
    marks = ("reduced", "train.steps=9999", "exit=143")
    block = Block(Path("page.md"), 1, "bash", marks, None, code)
    ((status, text),) = stage.play([block], tmp_path, whole=False)
    assert status == 143, text
    assert "python -m paraformer_asr train --resume runs/" in text
