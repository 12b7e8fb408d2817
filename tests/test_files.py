"""Files are whole or absent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from maquette.errors import MaquetteError, RunError, nearest, one_of
from maquette.files import held, sha256, write_atomic, write_json, write_text


def test_writes_and_replaces(tmp_path: Path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "één")
    write_text(path, "two")
    assert path.read_text(encoding="utf-8") == "two"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    assert sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"No space left on device\. Nothing was left"):
        write_atomic(path, fail)
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_in_the_way_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match="Could not write"):
        write_text(tmp_path / "file" / "inner.txt", "x")


def test_json_refuses_nan(tmp_path: Path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_names_and_their_nearest():
    assert nearest("iriss", ["iris", "digits"]) == " Did you mean 'iris'?"
    assert nearest("zzz", ["iris"]) == ""
    assert one_of("model", "mpl", ["mlp", "cnn"]) == (
        "Unknown model 'mpl'. Did you mean 'mlp'? Available: cnn, mlp."
    )


def test_exit_codes():
    assert MaquetteError.exit_code == 1


def test_a_lock_lets_one_in_at_a_time(tmp_path):
    lock = tmp_path / ".lock"
    refused = pytest.raises(TimeoutError, match="locked")
    with held(lock, patience=1), refused, held(lock, patience=0.05):
        pass
    with held(lock, patience=0.05):
        pass
