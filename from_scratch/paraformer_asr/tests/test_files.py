"""A file is written whole or not at all."""

import os
import stat

import pytest

from paraformer_asr.files import write_atomic


def test_text_is_utf8_and_bytes_are_as_they_are(tmp_path):
    write_atomic(tmp_path / "a.txt", "schön 语音\n")
    assert (tmp_path / "a.txt").read_bytes() == "schön 语音\n".encode()
    write_atomic(tmp_path / "a.txt", b"\x00\xff")
    assert (tmp_path / "a.txt").read_bytes() == b"\x00\xff"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_others_may_read_it(tmp_path):
    write_atomic(tmp_path / "a.txt", "x")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, failing):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text("utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "none" / "a.txt", "x")
    assert list(tmp_path.iterdir()) == []
