"""`maquette research new`: a plan becomes a workspace; `--update` adds what the plan has new.

`create` lays a workspace out whole or not at all. `update` writes files that are not there yet and
touches none that is: what belongs into an existing file is printed, for a person to paste.
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from maquette.errors import DataError, RunError, UsageError
from maquette.files import write_text
from maquette.research.checking.sources import definition
from maquette.research.notes import read_notes
from maquette.research.planning.plan import Item, Plan
from maquette.research.planning.plan_reading import read_plan
from maquette.research.scaffolding.plan_facts import local_path, relative_to
from maquette.research.scaffolding.scaffold_files import Scaffold, notes_text
from maquette.research.scaffolding.skeletons import module_of
from maquette.research.workspace import Workspace


def create(workspace: Path, plan_file: Path) -> list[str]:
    """Lay out a new workspace, and return lines that say what there is to write.

    Args:
        workspace: a folder that is not there yet, or is empty.
    Raises:
        UsageError: the folder holds something; no plan is there; an item cannot have its name.
        DataError: the plan has mistakes, or a local data file is not what the plan says.
        RunError: the folder cannot be written.
    """
    plan = read_plan(plan_file)
    space = Workspace(workspace)
    _refuse_full(workspace)
    scaffold = Scaffold(plan, space.project)
    texts = {f"{space.project.name}/{name}": text for name, text in scaffold.files.items()}
    texts[space.notes_file.name] = notes_text(plan)
    texts[space.plan_file.name], moved = _moved_plan(plan, workspace)

    def fill(folder: Path) -> None:
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())

    _lay_out(workspace, fill)
    return [
        *(f"note: {warning}" for warning in plan.warnings),
        *moved,
        f"{workspace}: {len(plan.items)} items to write, each with its test:",
        *(_item_line(item, scaffold.files[item.file]) for item in plan.items),
        *_settings_lines(scaffold),
        f"Write them, then: maquette research check {workspace}",
    ]


def update(workspace: Path) -> list[str]:
    """Add the skeletons of items that are new in the workspace's plan; return what was done.

    Existing files are never touched: lines of the answer say what to paste into them.

    Raises:
        UsageError: there is no workspace; an item cannot have its name.
        DataError: the plan has mistakes, or a file that should hold an item cannot be parsed.
        RunError: a file cannot be written.
    """
    space = Workspace.open(workspace)
    plan = read_plan(space.plan_file)
    scaffold = Scaffold(plan, space.project)
    notes = read_notes(space.notes_file)
    new = [
        item
        for item in plan.items
        if not _is_there(item, space.project) and notes.deviation(item.name) is None
    ]
    by_hand = [line for item in new for line in _by_hand(item, scaffold, space.project)]
    wanted = [name for item in new for name in (item.file, item.test_file)]
    wanted += [f"{folder}/__init__.py" for item in new for folder in Path(item.file).parents[:-1]]
    written = []
    for name in dict.fromkeys(wanted):
        if not (space.project / name).exists():
            write_text(space.project / name, scaffold.files[name])
            written.append(f"written: {space.project / name}")
    lines = [f"note: {warning}" for warning in plan.warnings] + written
    if by_hand:
        lines += ["By hand, as no file that was there is touched:", *by_hand]
    return lines if new or written else [*lines, f"{workspace}: every item of the plan is there."]


def _refuse_full(workspace: Path) -> None:
    try:
        inside = sorted(path.name for path in workspace.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(
            f"{workspace} cannot be a workspace: {error.strerror or error}. Name a folder that is "
            "not there yet, or an empty one."
        ) from error
    if inside:
        shown = ", ".join(inside[:3]) + (" …" if len(inside) > 3 else "")
        raise UsageError(
            f"{workspace} is not empty (it holds {shown}), and nothing is ever overwritten. Name a "
            "folder that is not there yet. For new items of a changed plan_res.md: maquette "
            f"research new {workspace} --update"
        )


def _moved_plan(plan: Plan, workspace: Path) -> tuple[str, list[str]]:
    """Return the plan as it stands in the workspace, and what was changed in it.

    A local path is relative to the plan, which moves; nothing else is touched.
    """
    lines = Path(plan.path).read_bytes().decode().split("\n")
    changed = []
    for item in plan.of_kind("dataset"):
        source, path = item.fields["source"], local_path(item, plan)
        if path is None or Path(source).expanduser().is_absolute():
            continue
        new = relative_to(path, workspace)
        for index in range(item.line, len(lines)):
            if re.match(r"\s*[-*+]\s+source\s*:", lines[index], re.IGNORECASE):
                lines[index] = lines[index].replace(source, new)
                changed.append(
                    f"note: {workspace / 'plan_res.md'}:{index + 1}: the path is now seen from "
                    f"there: {new}"
                )
                break
    return "\n".join(lines), changed


def _lay_out(workspace: Path, fill: Callable[[Path], None]) -> None:
    """Make the workspace, whole or not at all."""
    # An empty folder may be the current one, or a mount: it stays, and what is whole moves in.
    exists = workspace.is_dir()
    home = workspace if exists else workspace.parent
    moved: list[Path] = []
    staged: Path | None = None
    try:
        home.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=home, prefix=".new."))
        fill(staged)
        staged.chmod(0o755)
        if exists:
            moved.extend(path.rename(home / path.name) for path in sorted(staged.iterdir()))
        else:
            staged.rename(workspace)
    except OSError as error:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise RunError(
            f"Could not write {workspace}: {error.strerror or error}. Nothing was left there; free "
            "some space, or choose another folder."
        ) from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)


def _is_there(item: Item, project: Path) -> bool:
    """Return whether a file of the project defines an item.

    Raises:
        DataError: the file cannot be read or parsed.
    """
    path = project / item.file
    try:
        tree = ast.parse(path.read_bytes())
    except FileNotFoundError:
        return False
    except (OSError, SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = getattr(error, "msg", None) or getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}{line} cannot be parsed ({reason}), so nobody can tell what it holds. Correct "
            "it and run again; nothing was written."
        ) from error
    return definition(tree, item.symbol) is not None


def _by_hand(item: Item, scaffold: Scaffold, project: Path) -> list[str]:
    """Say what a person adds to existing files for one new item."""
    imported = f"from {module_of(item.file)} import {item.symbol}"
    entry = f'{imported}\n    "{item.slug}": {item.symbol},'
    pieces: list[tuple[str, str, str]] = []
    if (project / item.file).exists():
        pieces.append((item.file, "the skeleton", scaffold.code_with_imports(item)))
    if item.kind == "dataset":
        pieces.append(("data/dataset.py", "in SOURCES", scaffold.source_code(item.slug)))
        pieces.append(("run.py", "in DATASETS", entry))
    elif item.kind == "model":
        pieces.append(("model/__init__.py", "and its name in __all__", imported))
        pieces.append(("run.py", "in MODELS, unless it is a part of another model", entry))
    elif item.kind == "metric":
        pieces.append(("testing/evaluator.py", "in METRICS", entry))
    else:
        pieces.append(("run.py", "and give it to train", imported))
    lines = []
    for file, where, text in pieces:
        lines += ["", f"{project / file} ({item.name}, {where}):", ""]
        lines += [f"    {line}".rstrip() for line in text.split("\n")]
    return lines


def _item_line(item: Item, text: str) -> str:
    """Return place, symbol and test of an item."""
    node = definition(ast.parse(text), item.symbol)
    line = node.lineno if node else 1
    return f"  {item.kind:<8}{item.name}: {item.symbol} in {item.file}:{line}, {item.test_file}"


def _settings_lines(scaffold: Scaffold) -> list[str]:
    """Name what the Training Plan says and no default of the project stands for."""
    return [
        f"  by hand {field}: write it in project/training/trainer.py"
        for field in scaffold.settings.by_hand
    ]
