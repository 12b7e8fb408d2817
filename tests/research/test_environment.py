"""Fresh environments: real ones, filled from a wheel made here; no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from maquette.errors import RunError, UsageError
from maquette.files import cache_folder, held
from maquette.research.running import environment as environment_module
from maquette.research.running.environment import (
    InstallError,
    commands,
    packages,
    prepare_environment,
)
from maquette.research.running.sandbox import Limits


@pytest.fixture(autouse=True)
def _own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip finds packages in one folder, and nowhere else."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()


def a_wheel(folder: Path, name: str = "tiny", version: str = "1.0") -> Path:
    """Write a wheel with one module that says its version."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def a_project(folder: Path, requirements: str) -> Path:
    """Write a project that has nothing but requirements."""
    project = folder / "project"
    project.mkdir(exist_ok=True)
    (project / "requirements.txt").write_text(requirements)
    return project


def run(python: Path, code: str) -> str:
    """Run a line in an environment."""
    return subprocess.run(
        [python, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_requirements_are_installed_once_and_alone(tmp_path):
    a_wheel(tmp_path / "wheels")
    project = a_project(tmp_path, "tiny==1.0  # the smallest\n")
    python = prepare_environment(project, tmp_path / "first")
    assert run(python, "import tiny; print(tiny.VERSION)") == "1.0"
    assert run(python, "import importlib.util as u; print(u.find_spec('numpy'))") == "None"
    assert packages(python)["tiny"] == "1.0"
    facts = json.loads((python.parent.parent / "maquette.json").read_text())
    assert facts["installer"] == "pip"
    assert facts["seconds"] > 0
    assert (
        "Successfully installed tiny-1.0"
        in (tmp_path / "first" / "install" / "stdout.txt").read_text()
    )

    (tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl").unlink()
    assert prepare_environment(project, tmp_path / "second") == python
    assert not (tmp_path / "second").exists()

    (python.parent.parent / "maquette.json").unlink()  # as after a kill in the midst of it
    with pytest.raises(InstallError, match=r"No matching distribution found for tiny==1\.0"):
        prepare_environment(project, tmp_path / "third")
    assert not python.exists()


def test_no_requirements_are_an_environment_too(tmp_path):
    python = prepare_environment(a_project(tmp_path, ""), tmp_path / "seen")
    assert packages(python) == {}


def test_a_requirement_that_does_not_exist(tmp_path):
    project = a_project(tmp_path, "no-such-package==1.0\n")
    with pytest.raises(InstallError) as error:
        prepare_environment(project, tmp_path / "seen")
    log = tmp_path / "seen" / "install"
    assert str(error.value) == (
        f"Could not install {project}/requirements.txt: the installer ended with code 1.\n"
        "  ERROR: Could not find a version that satisfies the requirement no-such-package==1.0 "
        "(from versions: none)\n"
        "  ERROR: No matching distribution found for no-such-package==1.0\n"
        "Correct the line it names, or see that the package index can be reached. "
        f"The whole output is in {log}."
    )
    evidence = error.value.evidence
    assert (evidence.exit_code, evidence.ended) == (1, "exit")
    assert "no-such-package" in evidence.stderr_tail
    assert list((tmp_path / "cache" / "environments").glob("*/")) == []


def test_an_interpreter_that_makes_no_environment(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named venv' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(InstallError) as error:
        prepare_environment(a_project(tmp_path, ""), tmp_path / "seen", python=python)
    assert str(error.value) == (
        "Could not make a fresh Python environment: the installer ended with code 1.\n"
        "  No module named venv\n"
        "Install venv for this Python (Debian: python3-venv) or uv, and run again. "
        f"The whole output is in {tmp_path / 'seen' / 'environment'}."
    )


@pytest.mark.parametrize(
    ("script", "limits", "told"),
    [
        ("sleep 60", Limits(seconds=1), "the installer was stopped at its limit after 1 s"),
        (
            "while true; do echo again; done",
            Limits(seconds=60, output_bytes=1000),
            "the installer was stopped, as it printed without end",
        ),
        (
            f"exec {sys.executable} -c \"x = b'x' * 300_000_000; import time; time.sleep(60)\"",
            Limits(seconds=60, memory_bytes=100_000_000),
            "the installer was stopped, as it took too much memory",
        ),
    ],
)
def test_an_installer_that_comes_to_a_limit(tmp_path, script, limits, told):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    with pytest.raises(InstallError) as error:
        prepare_environment(
            a_project(tmp_path, ""), tmp_path / "seen", python=python, limits=limits
        )
    assert f"Could not make a fresh Python environment: {told}." in str(error.value)


def test_a_project_without_requirements(tmp_path):
    with pytest.raises(UsageError) as error:
        prepare_environment(tmp_path, tmp_path / "seen")
    assert str(error.value) == (
        f"{tmp_path} has no requirements.txt. List every package that the project imports, "
        "one line each, such as torch==2.6.0."
    )


def test_another_process_that_makes_the_same(tmp_path):
    project = a_project(tmp_path, "")
    home = cache_folder("environments") / environment_module._key(
        project / "requirements.txt", Path(sys.executable)
    )
    home.parent.mkdir(parents=True)
    with held(home.with_suffix(".lock"), patience=1), pytest.raises(RunError) as error:
        prepare_environment(project, tmp_path / "seen", limits=Limits(seconds=0.1))
    assert str(error.value) == (
        f"Another process has been making the environment {home} for 0.1 s. "
        "Wait for it, or end it, and run again."
    )


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RunError) as error:
        prepare_environment(a_project(tmp_path, ""), tmp_path / "seen")
    assert str(error.value).startswith(f"Could not write {tmp_path / 'cache' / 'environments'}/")
    assert str(error.value).endswith(
        ": Not a directory. "
        "Free some space, or choose another cache folder with MAQUETTE_CACHE=FOLDER."
    )


def test_an_environment_is_that_of_all_local_files_its_requirements_name(tmp_path):
    wheel = a_wheel(tmp_path / "wheels")
    project = a_project(tmp_path, f"-r more.txt\ntiny @ file://{wheel}\n")
    (project / "more.txt").write_text("-c more.txt\n--constraint=limits.txt\nother\n")
    (project / "limits.txt").write_text("other==1\n")
    requirements, base = project / "requirements.txt", Path(sys.executable)

    def key() -> str:
        return environment_module._key(requirements, base)

    keys = [key()]
    (project / "limits.txt").write_text("other==2\n")
    keys.append(key())
    wheel.write_bytes(b"other bytes")
    keys.append(key())
    requirements.write_text(requirements.read_text() + "third\n")
    keys.append(key())
    keys.append(environment_module._key(requirements, tmp_path / "another-python"))
    assert len(set(keys)) == 5
    assert key() == keys[3]


HERE = (Path("home"), Path("home/bin/python"), Path("/usr/bin/python3"))


@pytest.fixture
def uv_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """uv on the path; nobody told pip anything."""
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(uv.parent))
    monkeypatch.setattr(environment_module, "_pip_is_told", lambda: False)
    return str(uv)


def test_uv_makes_it_where_it_is_found(uv_is_there):
    installer, (made, filled) = commands(*HERE)
    assert installer == "uv"
    assert made == [uv_is_there, "venv", "--python", "/usr/bin/python3", "home"]
    assert filled[:3] == [uv_is_there, "pip", "install"]
    assert filled[-4:] == ["--python", "home/bin/python", "-r", "requirements.txt"]


def test_pip_makes_it_where_only_pip_knows_the_index(uv_is_there, monkeypatch):
    monkeypatch.setattr(environment_module, "_pip_is_told", lambda: True)
    installer, (made, filled) = commands(*HERE)
    assert installer == "pip"
    assert made == ["/usr/bin/python3", "-m", "venv", "home", "--without-pip"]
    assert filled[:5] == [sys.executable, "-m", "pip", "--python", "home/bin/python"]
    assert filled[-2:] == ["-r", "requirements.txt"]
    monkeypatch.setenv("UV_INDEX_URL", "https://packages.example.org/simple")
    assert commands(*HERE)[0] == "uv"


def test_without_a_pip_of_our_own_the_environment_brings_one(monkeypatch):
    monkeypatch.setattr(environment_module, "find_spec", lambda name: None)
    _, (made, filled) = commands(*HERE)
    assert made == ["/usr/bin/python3", "-m", "venv", "home"]
    assert filled[:4] == ["home/bin/python", "-m", "pip", "install"]


def test_pip_is_told_by_its_variables_and_its_files(tmp_path, monkeypatch):
    assert environment_module._pip_is_told()
    for name in ("PIP_CONFIG_FILE", "PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    if not Path("/etc/pip.conf").exists():
        assert not environment_module._pip_is_told()
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip" / "pip.conf").write_text("[global]\n")
    assert environment_module._pip_is_told()
