"""Runs a program under watch, inside the project's own interpreter. Standard library only.

    python guard.py --report FILE --allowed DIR --data DIR -- run.py --epochs 2
    python guard.py --report FILE --allowed DIR -- -m pytest tests

- What Python code opens for writing, makes, removes, renames or links outside the allowed folders
  ends in a PermissionError that names the path, and is reported.
- Where the system has Landlock (Linux from 6.2), it refuses the same to code in C and to children
  in any language; these refusals are not listed, as nobody tells the guard.
- Data files opened for reading below the data folders are listed. Files that C code opens by
  itself, as pyarrow does, are not seen.
- When the program imports torch, guard_torch.py looks at its gradients and losses.

Children that are Python get a guard too: forks keep it, and others find it through PYTHONPATH,
unless their environment is replaced. It stops mistakes. It does not stop somebody who means harm.

The report is JSON lines, each written at once, so that a killed program leaves what was seen.
"""

# Paths stay text here, as audit events give them: thousands pass while a library is imported.
# ruff: noqa: PTH100, PTH110, PTH112, PTH109, PTH115, PTH117, PTH118, PTH120, PTH123

from __future__ import annotations

import argparse
import atexit
import contextlib
import ctypes
import errno
import faulthandler
import importlib.abc
import importlib.util
import json
import os
import runpy
import signal
import struct
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

SETTINGS = "MAQUETTE_GUARD"
"""Environment variable that tells children the settings, in JSON."""

FIRST = 8
"""How many refusals are listed; a thousand say no more."""

SYSTEM = ("/dev", "/proc")
"""Folders without files in the usual sense: devices, shared memory, facts about processes."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_CHANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.link": ((0, 2), (1, 3)),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, -1),),
    "os.utime": ((0, 3),),
}
"""Audit event -> where among its arguments a path and the folder it is relative to stand."""

_FOLLOWING = ("open", "os.chmod", "os.chown", "os.truncate", "os.utime", "torch.save")
"""Events that mean what a link points at, not the link."""

_CHILD = "guarded_child"
"""The name under which sitecustomize runs this file."""

_OURS = (__file__, runpy.__file__, "<frozen runpy>", "<frozen importlib._bootstrap>")

# Landlock: numbers of the kernel's interface, equal on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_LEAST_VERSION = 3  # Linux 6.2: knows about truncating, and about renaming between folders
_WRITES = 1 << 1 | 0x1FF << 4 | 1 << 13 | 1 << 14
"""Write, remove and make things of every kind; rename between folders; truncate."""
_OF_FILES = 1 << 1 | 1 << 14
_NO_NEW_PRIVILEGES, _PARENT_DEATH_SIGNAL = 38, 1


class Guard:
    """What a program does with files: refuses, and remembers."""

    def __init__(self, report: str, allowed: Iterable[str], data: Iterable[str]) -> None:
        self.allowed = tuple({os.path.realpath(path) for path in allowed}) + SYSTEM
        self.data = tuple({os.path.realpath(path) for path in data})
        self.seen: set[str] = set()
        self.refused: set[str] = set()
        self.report = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def tell(self, **facts: Any) -> None:
        """Add a line to the report. Short lines in append mode do not mix between processes."""
        line = json.dumps({"pid": os.getpid(), **facts}) + "\n"
        os.write(self.report, line.encode("utf-8", "surrogateescape"))

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Judge an audit event.

        Raises:
            PermissionError: it would change something outside the allowed folders.
        """
        if event == "open":
            path, _, flags = args
            if isinstance(path, int):
                return  # opened before, and judged then
            if flags & _WRITING:
                self.check(event, path)
            else:
                self.remember(path)
        elif event in _CHANGES:
            for path_at, folder_at in _CHANGES[event]:
                self.check(event, args[path_at], args[folder_at] if folder_at >= 0 else -1)
        elif event == "sqlite3.connect":
            name = os.fsdecode(args[0])
            if name not in ("", ":memory:") and "mode=ro" not in name:
                self.check(event, name.removeprefix("file:").partition("?")[0])

    def check(self, event: str, path: Any, folder: int = -1) -> None:
        """Refuse a change outside the allowed folders.

        Args:
            path: as the program gave it; a number is an open file, judged when it was opened.
            folder: the open folder that a relative `path` starts from; -1: the working directory.
        """
        if isinstance(path, int):
            return
        place = _resolve(path, folder, follow=event in _FOLLOWING)
        if _below(place, self.allowed) or f"{os.sep}__pycache__" in place:
            return  # imports leave compiled files beside a library, or carry on without
        there = os.path.lexists(place)
        if (event == "os.mkdir" and there) or (event in ("os.remove", "os.rmdir") and not there):
            return  # changes nothing; the system says so in its own words
        refused = f"{place} ({event.removeprefix('os.')})"
        if refused not in self.refused and len(self.refused) < FIRST:
            self.refused.add(refused)
            self.tell(wrote_outside=refused)
        raise PermissionError(
            errno.EACCES, "This run may not write outside the project and its data folder", place
        )

    def remember(self, path: Any) -> None:
        """List a data file that is read."""
        place = os.path.realpath(os.fsdecode(path))
        if place not in self.seen and _below(place, self.data):
            self.seen.add(place)
            self.tell(read=place)


def _resolve(path: Any, folder: int, *, follow: bool) -> str:
    """Return the real absolute path, that of the link itself unless `follow`."""
    text = os.fsdecode(path)
    if folder >= 0 and not os.path.isabs(text):
        with contextlib.suppress(OSError):  # not Linux: relative to the working directory
            text = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), text)
    if follow:
        return os.path.realpath(text)
    parent, name = os.path.split(os.path.abspath(text))
    return os.path.join(os.path.realpath(parent), name)


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


class _AfterTorch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets torch be imported as ever, and then loads guard_torch.py."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.loader: Any = None

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Answer for torch, once: the spec that the other finders give, with this loader."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to torch's own loader."""
        return self.loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        """Import torch with its own loader, which it keeps, then observe it."""
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        beside = Path(__file__).with_name("guard_torch.py")
        runpy.run_path(str(beside))["observe"](module, self.guard)


def install(settings: dict[str, Any]) -> None:
    """Guard this process from now on, and the Python processes that it starts."""
    guard = Guard(settings["report"], settings["allowed"], settings["data"])
    guard.tell(confined=settings["confined"])
    atexit.register(lambda: guard.tell(peak_bytes=_own_peak()))
    sys.meta_path.insert(0, _AfterTorch(guard))
    sys.addaudithook(guard)


def _own_peak(facts: str = "/proc/self/status") -> int:
    """Return the most memory that this process ever held, 0 where only Linux would say."""
    try:
        with open(facts, encoding="ascii", errors="replace") as status:
            lines = dict(line.split(":", 1) for line in status)
        return int(lines["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0


def confine(allowed: Iterable[str]) -> bool:
    """Ask the Linux kernel to refuse writes elsewhere to this process and all its children.

    Only rights to write are restricted; reading and starting programs stay as they are. Setuid
    programs such as sudo lose their powers, as the kernel asks.

    Returns:
        Whether it does; False before Linux 6.2, on other systems, and where it is switched off.
    """
    if sys.platform != "linux":
        return False
    if os.path.exists("/proc/driver/nvidia") and not os.path.exists("/dev/nvidia-uvm"):
        return False  # CUDA's first use after a boot makes it with a setuid program
    system = ctypes.CDLL(None, use_errno=True)
    version = system.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < _LEAST_VERSION:
        return False
    handled = struct.pack("=Q", _WRITES)
    ruleset = system.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(8), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        for path in allowed:
            _permit(system, ruleset, path)
        system.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        return bool(system.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0)
    finally:
        os.close(ruleset)


def _permit(system: Any, ruleset: int, path: str) -> None:
    """Let a ruleset allow changes below a folder, or to one file."""
    if not os.path.exists(path):
        return
    rights = _WRITES if os.path.isdir(path) else _WRITES & _OF_FILES
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, opened)
        system.syscall(_ADD_RULE, ruleset, 1, rule, ctypes.c_uint32(0))
    finally:
        os.close(opened)


def _die_with_parent() -> None:
    """On Linux, let the kernel end this process when the one that watches it is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def _tell_children(settings: dict[str, Any]) -> None:
    """Let Python processes started from here find a guard: `sitecustomize` on their path."""
    folder = Path(settings["report"] + ".path")
    folder.mkdir(exist_ok=True)
    code = f"import runpy\nrunpy.run_path({__file__!r}, run_name={_CHILD!r})\n"
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    os.environ[SETTINGS] = json.dumps(settings)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{before}" if before else str(folder)


def _show(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    """Show an error as Python does, without the frames of the guard above the program's own."""
    while frames and frames.tb_frame.f_code.co_filename in _OURS:
        frames = frames.tb_next
    sys.__excepthook__(kind, error.with_traceback(frames), frames)


def main(arguments: Sequence[str]) -> None:
    """Guard this process and run a program in it, as `python PROGRAM …` would."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--report", required=True, help="file that gets what was seen")
    parser.add_argument("--allowed", action="append", default=[], help="folder to write in")
    parser.add_argument("--data", action="append", default=[], help="folder or file of data")
    split = list(arguments).index("--")
    chosen = vars(parser.parse_args(arguments[:split]))
    program = list(arguments[split + 1 :])

    if hasattr(faulthandler, "register"):  # shows where it was when a time limit ends it
        faulthandler.register(signal.SIGTERM, chain=True)
    faulthandler.enable()
    _die_with_parent()
    confined = confine((*chosen["allowed"], *SYSTEM))
    settings = {**chosen, "confined": confined}
    _tell_children(settings)
    install(settings)
    sys.excepthook = _show
    if program[0] == "-m":
        sys.path[0] = os.getcwd()
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.realpath(program[0]))
        sys.argv = program
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
elif __name__ == _CHILD:
    install(json.loads(os.environ[SETTINGS]))
