"""A fresh Python environment with what a project's requirements.txt asks for, and nothing else.

It is made once per requirements and interpreter and kept in the cache (MAQUETTE_CACHE), so that a
second validation installs nothing. A run cannot change it: the guard refuses. uv makes it where uv
is found, otherwise venv and pip; both read their own settings, such as PIP_INDEX_URL or UV_INDEX.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from maquette.errors import RunError, UsageError
from maquette.files import CACHE, cache_folder, held, write_json
from maquette.research.running.evidence import Evidence
from maquette.research.running.sandbox import Limits, run_watched

INSTALL = Limits(seconds=3600)
"""What an installation may take; the first one of torch downloads gigabytes."""

SHOWN = 6
"""Lines of an installer's output in a message; the whole lies beside."""

_PACKAGES = (
    "import importlib.metadata as m, json; "
    "print(json.dumps({d.name: d.version for d in m.distributions()}))"
)


class InstallError(RunError):
    """The environment could not be made; `evidence` is what was seen of the step that failed."""

    def __init__(self, message: str, evidence: Evidence) -> None:
        super().__init__(message)
        self.evidence = evidence


def prepare_environment(
    project: Path, folder: Path, *, python: Path | None = None, limits: Limits = INSTALL
) -> Path:
    """Return the interpreter of an environment that holds a project's requirements.

    Args:
        project: the folder with requirements.txt.
        folder: gets what the installer printed, where something is installed.
        python: the interpreter to build on; None: this one.
        limits: of each of the two steps, making the environment and installing.
    Raises:
        UsageError: there is no requirements.txt.
        InstallError: a step failed or came to a limit; the text names the line to correct.
        RunError: the cache cannot be written, or another process holds it for too long.
    """
    base = python or Path(sys.executable)
    requirements = project / "requirements.txt"
    if not requirements.is_file():
        raise UsageError(
            f"{project} has no requirements.txt. List every package that the project imports, "
            "one line each, such as torch==2.6.0."
        )
    home = cache_folder("environments") / _key(requirements, base)
    interpreter = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with held(home.with_suffix(".lock"), patience=limits.seconds):
            if not (_facts_file(home).is_file() and interpreter.exists()):
                shutil.rmtree(home, ignore_errors=True)  # of an installation that was ended
                _make(home, interpreter, base, project, folder, limits)
    except TimeoutError as error:
        raise RunError(
            f"Another process has been making the environment {home} for {limits.seconds:g} s. "
            "Wait for it, or end it, and run again."
        ) from error
    except OSError as error:
        raise RunError(
            f"Could not write {home}: {error.strerror or error}. "
            f"Free some space, or choose another cache folder with {CACHE}=FOLDER."
        ) from error
    return interpreter


def packages(python: Path) -> dict[str, str]:
    """Return name -> version of what an environment made here holds.

    Args:
        python: what `prepare_environment` returned.
    """
    found = json.loads(_facts_file(python.parent.parent).read_text("utf-8"))["packages"]
    return {str(name): str(version) for name, version in found.items()}


def commands(home: Path, interpreter: Path, base: Path) -> tuple[str, Sequence[Sequence[str]]]:
    """Return the installer's name, and the commands that make an environment and fill it.

    uv does not read pip's settings. So pip is taken where somebody told pip, and not uv, where
    packages come from.
    """
    uv = shutil.which("uv")
    if uv and (_is_set(r"UV_.*(INDEX|LINKS|CONFIG).*") or not _pip_is_told()):
        fill = [uv, "pip", "install", "--compile-bytecode", "--python", str(interpreter)]
        made = [uv, "venv", "--python", str(base), str(home)]
        return "uv", (made, [*fill, "-r", "requirements.txt"])
    rest = ["install", "--no-input", "-r", "requirements.txt"]
    made = [str(base), "-m", "venv", str(home)]
    if find_spec("pip") is None:
        return "pip", (made, [str(interpreter), "-m", "pip", *rest])
    # Our own pip fills it from outside: an environment without pip is made in a tenth of the time.
    fill = [sys.executable, "-m", "pip", "--python", str(interpreter), *rest]
    return "pip", ([*made, "--without-pip"], fill)


def _is_set(pattern: str) -> bool:
    return any(re.fullmatch(pattern, name) and value for name, value in os.environ.items())


def _pip_is_told() -> bool:
    """Return whether pip was given a source of packages, in its variables or its files."""
    files = (".config/pip/pip.conf", ".pip/pip.conf", "pip/pip.ini")
    told = [Path.home() / name for name in files] + [Path("/etc/pip.conf")]
    return _is_set(r"PIP_.*(INDEX|LINKS|CONFIG).*") or any(file.is_file() for file in told)


def _make(
    home: Path, interpreter: Path, base: Path, project: Path, folder: Path, limits: Limits
) -> None:
    """Make an environment; the file of facts comes last, so that only a whole one has it."""
    installer, steps = commands(home, interpreter, base)
    seconds = 0.0
    for step, command in zip(("environment", "install"), steps, strict=True):
        log = folder / step
        evidence = run_watched(
            command, cwd=project, environment={}, limits=limits, allowed=None, folder=log
        )
        seconds += evidence.seconds
        if evidence.exit_code != 0:
            shutil.rmtree(home, ignore_errors=True)
            raise InstallError(_message(step, evidence, project, log), evidence)
    listed = subprocess.run(
        [interpreter, "-I", "-c", _PACKAGES], check=True, capture_output=True, text=True
    )
    facts = {
        "installer": installer,
        "seconds": round(seconds, 1),
        "packages": json.loads(listed.stdout),
    }
    write_json(_facts_file(home), facts)


def _message(step: str, evidence: Evidence, project: Path, log: Path) -> str:
    """Say what failed, in the installer's own words, and what to change."""
    what = {
        "environment": "make a fresh Python environment",
        "install": f"install {project / 'requirements.txt'}",
    }[step]
    how = {
        "exit": f"the installer ended with code {evidence.exit_code}",
        "time_limit": f"the installer was stopped at its limit after {evidence.seconds:.0f} s",
        "memory_limit": "the installer was stopped, as it took too much memory",
        "output_limit": "the installer was stopped, as it printed without end",
    }[evidence.ended]
    lines = [line.strip() for line in evidence.stderr_tail.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"error|fatal|cause|hint", line, re.IGNORECASE)]
    said = "".join(f"\n  {line}" for line in (telling or lines)[-SHOWN:])
    remedy = {
        "environment": "Install venv for this Python (Debian: python3-venv) or uv, and run again.",
        "install": "Correct the line it names, or see that the package index can be reached.",
    }[step]
    return f"Could not {what}: {how}.{said}\n{remedy} The whole output is in {log}."


def _facts_file(home: Path) -> Path:
    return home / "maquette.json"


def _key(requirements: Path, base: Path) -> str:
    """Return a name for what these requirements install on this interpreter."""
    parts = [os.path.realpath(base)]
    parts += [hashlib.sha256(file.read_bytes()).hexdigest() for file in _files(requirements, set())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _files(requirements: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield a file of requirements and the local files that its lines name."""
    seen.add(requirements)
    yield requirements
    for line in requirements.read_text("utf-8", "replace").splitlines():
        words = line.partition("#")[0].replace("=", " ").replace("file://", " ").split()
        for word in words[-1:]:
            named = requirements.parent / word
            if named.is_file() and named not in seen:
                seen.add(named)
                yield from _files(named, seen) if named.suffix == ".txt" else [named]
