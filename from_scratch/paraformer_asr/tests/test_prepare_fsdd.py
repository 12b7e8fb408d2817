"""Unpacking the spoken digits: texts, splits, what is refused, and nothing half-written."""

from __future__ import annotations

import csv
import hashlib
import zipfile

import pytest
from make_recordings import load_script

from paraformer_asr.errors import AsrError

script = load_script("prepare_fsdd")
main, prepare, SHA256 = script.main, script.prepare, script.SHA256
WORDS = ("zero", "one")


def archive(path, *, header="file,digit,transcript,speaker,take,split", takes=12, lose=None):
    """A small archive of the same layout, and its sha256."""
    rows = [header]
    with zipfile.ZipFile(path, "w") as made:
        for speaker in ("ann", "bob"):
            for digit, word in enumerate(WORDS):
                for take in range(takes):
                    name = f"recordings/{digit}_{speaker}_{take}.wav"
                    split = "test" if take < 5 else "train"
                    rows.append(f"{name},{digit},{word},{speaker},{take},{split}")
                    if name != lose:
                        made.writestr(name, f"{digit}{speaker}{take}")
        if header:
            made.writestr("index.csv", "\n".join(rows) + "\n")
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def rows_of(folder):
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_recordings_are_unpacked_with_a_manifest(tmp_path):
    source, sha256 = archive(tmp_path / "f.zip")
    summary = prepare(source, tmp_path / "data" / "fsdd", sha256=sha256)
    rows = rows_of(tmp_path / "data" / "fsdd")

    assert rows[0] == {"path": "0_ann_0.wav", "text": "0", "speaker": "ann", "split": "test"}
    assert len(rows) == 48
    assert (tmp_path / "data/fsdd/1_bob_11.wav").read_text() == "1bob11"
    assert summary == (
        f"{tmp_path}/data/fsdd/manifest.csv: 48 recordings (8 train, 20 valid, 20 test) of ann, bob"
    )
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["fsdd"]


def test_takes_0_to_4_are_test_and_5_to_9_valid(tmp_path):
    source, sha256 = archive(tmp_path / "f.zip")
    prepare(source, tmp_path / "fsdd", sha256=sha256)

    for row in rows_of(tmp_path / "fsdd"):
        take = int(row["path"].removesuffix(".wav").split("_")[2])
        assert row["split"] == ("test" if take < 5 else "valid" if take < 10 else "train")


def test_texts_can_be_words(tmp_path):
    source, sha256 = archive(tmp_path / "f.zip")
    prepare(source, tmp_path / "fsdd", sha256=sha256)
    prepare(source, tmp_path / "fsdd", words=True, sha256=sha256)

    assert {row["text"] for row in rows_of(tmp_path / "fsdd")} == set(WORDS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.zip", "fsdd"]


def test_another_archive_is_refused_and_nothing_is_written(tmp_path, capsys):
    source, sha256 = archive(tmp_path / "f.zip")

    assert main(["--source", str(source), "--out", str(tmp_path / "fsdd")]) == 1
    assert capsys.readouterr().err == (
        f"error: {source}: its sha256 is {sha256}, expected {SHA256}; it is cut off or another "
        "version. Get it again.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["f.zip"]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"lose": "recordings/1_bob_7.wav"}, r"index.csv:45: recordings/1_bob_7.wav is not in the"),
        ({"header": "file,digit,word,speaker,take,split"}, r"index.csv has no column transcript"),
        ({"header": ""}, r"f.zip: holds no index.csv; get fsdd.zip"),
    ],
)
def test_a_damaged_archive_leaves_what_was_there(tmp_path, made, message):
    source, sha256 = archive(tmp_path / "good.zip")
    prepare(source, tmp_path / "fsdd", sha256=sha256)
    before = sorted((p.name, p.read_bytes()) for p in (tmp_path / "fsdd").iterdir())
    source, sha256 = archive(tmp_path / "f.zip", **made)

    with pytest.raises(AsrError, match=message):
        prepare(source, tmp_path / "fsdd", sha256=sha256)
    assert sorted((p.name, p.read_bytes()) for p in (tmp_path / "fsdd").iterdir()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.zip", "fsdd", "good.zip"]


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "f.zip").write_text("hello")
    sha256 = hashlib.sha256(b"hello").hexdigest()

    with pytest.raises(AsrError, match=r"f.zip: is no zip archive; get it again"):
        prepare(tmp_path / "f.zip", tmp_path / "fsdd", sha256=sha256)
    with pytest.raises(AsrError, match=r"none.zip: there is no such file; give fsdd.zip with --so"):
        prepare(tmp_path / "none.zip", tmp_path / "fsdd")
    assert not (tmp_path / "fsdd").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    source, sha256 = archive(tmp_path / "f.zip")
    (tmp_path / "fsdd").mkdir()
    (tmp_path / "fsdd" / "thesis.txt").write_text("mine")

    with pytest.raises(AsrError, match=r"fsdd: holds thesis.txt, which is not from here; name a"):
        prepare(source, tmp_path / "fsdd", sha256=sha256)
    assert (tmp_path / "fsdd" / "thesis.txt").read_text() == "mine"
    with pytest.raises(AsrError, match=r"f.zip: is a file; name a folder with --out"):
        prepare(source, source, sha256=sha256)


def test_without_a_source_the_mirror_is_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MAQUETTE_DATA_MIRROR", raising=False)
    assert main(["--out", str(tmp_path / "fsdd")]) == 1
    error = capsys.readouterr().err
    assert (
        error == "error: give the archive with --source fsdd.zip, or set $MAQUETTE_DATA_MIRROR.\n"
    )

    monkeypatch.setenv("MAQUETTE_DATA_MIRROR", str(tmp_path))
    assert main(["--out", str(tmp_path / "fsdd")]) == 1
    assert f"{tmp_path}/fsdd/fsdd.zip: there is no such file" in capsys.readouterr().err


@pytest.mark.data
def test_the_real_archive_is_unpacked(fsdd_zip, tmp_path, capsys):
    assert main(["--source", str(fsdd_zip), "--out", str(tmp_path / "fsdd"), "--words"]) == 0
    rows = rows_of(tmp_path / "fsdd")

    assert "2500 recordings (2000 train, 250 valid, 250 test)" in capsys.readouterr().out
    assert (
        len(list((tmp_path / "fsdd").glob("*.wav"))) == len({row["path"] for row in rows}) == 2500
    )
    assert len({row["speaker"] for row in rows}) == 5
