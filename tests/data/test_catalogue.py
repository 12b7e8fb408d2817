"""Data sets by name: checksums, caching, and what happens when something is missing or broken."""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maquette.data import catalogue as module
from maquette.data.catalogue import CATALOGUE, home_of, is_here, materialise, resolve, unpack
from maquette.data.catalogue_file import DataSet
from maquette.errors import DataError, RunError, UsageError
from maquette.files import cache_folder, held

DATA_MIRROR = os.environ.get("MAQUETTE_DATA_MIRROR")
needs_mirror = pytest.mark.skipif(not DATA_MIRROR, reason="MAQUETTE_DATA_MIRROR is not set")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty mirror folder and an empty cache."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("MAQUETTE_DATA_MIRROR", str(folder))
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def server(mirror: Path) -> Iterator[str]:
    """The mirror behind HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(mirror))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def data_set_of(content: bytes, file: str = "folder/table.csv", member: str = "") -> DataSet:
    return DataSet(
        about="a test table",
        file=file,
        member=member,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        licence="CC0",
        source="written by the test",
    )


def put(mirror: Path, content: bytes, file: str = "folder/table.csv") -> None:
    (mirror / file).parent.mkdir(parents=True, exist_ok=True)
    (mirror / file).write_bytes(content)


def everything_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_other_paths_are_left_alone():
    assert resolve("data/sample/iris.csv") == Path("data/sample/iris.csv")


def test_unknown_name_lists_the_catalogue():
    with pytest.raises(UsageError) as error:
        resolve("catalogue:penguin")
    assert str(error.value) == (
        "Unknown data set 'penguin'. Did you mean 'penguins'? Available: adult, "
        "california_housing, clip_vocab, coco_captions_mini, deeppcb_patches, digits, "
        "openstax_figures, penguins, pneumoniamnist, sign_digits, wine_quality."
    )


def test_a_file_is_fetched_once_and_then_needs_no_mirror(
    mirror: Path, monkeypatch: pytest.MonkeyPatch
):
    put(mirror, b"a,b\n1,2\n")
    data_set = data_set_of(b"a,b\n1,2\n")
    path = materialise("toy", data_set)
    assert path.name == "table.csv"
    assert path.read_bytes() == b"a,b\n1,2\n"

    monkeypatch.delenv("MAQUETTE_DATA_MIRROR")
    assert materialise("toy", data_set) == path


def test_a_cached_file_that_changed_is_fetched_again(mirror: Path):
    put(mirror, b"a,b\n1,2\n")
    path = materialise("toy", data_set_of(b"a,b\n1,2\n"))
    path.write_bytes(b"a,b\n1,")
    assert materialise("toy", data_set_of(b"a,b\n1,2\n")).read_bytes() == b"a,b\n1,2\n"


def test_no_mirror_names_the_variable_the_file_and_its_checksum(
    mirror: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MAQUETTE_DATA_MIRROR")
    with pytest.raises(DataError) as error:
        resolve("catalogue:penguins")
    assert str(error.value) == (
        "MAQUETTE_DATA_MIRROR is not set, and tabular/penguins_train.csv is not in the cache yet. "
        "Set MAQUETTE_DATA_MIRROR to a folder or an http(s) address that holds "
        "tabular/penguins_train.csv "
        "(sha256 ed87b5df3647fd28ab269b6558ce05f94216a08dbf8b4cb84ecdeb44870c21c1, 43670 bytes; "
        "GitHub allisonhorst/palmerpenguins, penguins_raw.csv (80 % of the rows); licence CC0). "
        "It is not on the open internet; it was made so: from inst/extdata/penguins_raw.csv of the "
        "repository; about 80 % of the rows were drawn by a hash of the row number."
    )


def test_missing_in_the_mirror_names_the_place(mirror: Path):
    data_set = data_set_of(b"x")
    with pytest.raises(DataError) as error:
        materialise("toy", data_set)
    assert str(error.value) == (
        f"Could not read {mirror}/folder/table.csv: No such file or directory. "
        "MAQUETTE_DATA_MIRROR must name a folder or an http(s) address that holds "
        f"folder/table.csv (sha256 {data_set.sha256})."
    )


@pytest.mark.parametrize("content", [b"a,b\n1,3\n", b"a,b\n", b"a,b\n1,2\n1,2\n"])
def test_wrong_bytes_are_refused_and_not_kept(mirror: Path, tmp_path: Path, content: bytes):
    put(mirror, content)
    with pytest.raises(DataError, match=r"is not the file the catalogue knows: sha256 .* expected"):
        materialise("toy", data_set_of(b"a,b\n1,2\n"))
    assert everything_in(tmp_path / "cache/data") == []


def test_http_mirror(mirror: Path, server: str, monkeypatch: pytest.MonkeyPatch):
    put(mirror, b"a,b\n1,2\n")
    monkeypatch.setenv("MAQUETTE_DATA_MIRROR", server + "/")
    assert materialise("toy", data_set_of(b"a,b\n1,2\n")).read_bytes() == b"a,b\n1,2\n"


def test_http_mirror_without_the_file(mirror: Path, server: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAQUETTE_DATA_MIRROR", server)
    with pytest.raises(DataError) as error:
        materialise("toy", data_set_of(b"a,b\n1,2\n"))
    assert str(error.value).startswith(
        f"Could not read {server}/folder/table.csv: the server answered 404 File not found. "
        "MAQUETTE_DATA_MIRROR must name"
    )


def test_http_mirror_that_is_down(mirror: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAQUETTE_DATA_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"Could not read http://127.0.0.1:9/folder/table.csv: .*"):
        materialise("toy", data_set_of(b"a,b\n1,2\n"))


def test_cache_that_cannot_be_made_names_the_variable(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "occupied").write_text("a file, not a folder")
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path / "occupied"))
    with pytest.raises(RunError, match="choose another cache folder with MAQUETTE_CACHE=FOLDER"):
        materialise("digits", CATALOGUE["digits"])


def test_without_a_mirror_a_file_comes_from_its_own_address(
    mirror: Path, server: str, monkeypatch: pytest.MonkeyPatch
):
    put(mirror, b"a,b\n1,2\n", "elsewhere.csv")
    monkeypatch.delenv("MAQUETTE_DATA_MIRROR")
    data_set = replace(data_set_of(b"a,b\n1,2\n"), url=f"{server}/elsewhere.csv")
    path = materialise("toy", data_set)
    assert (path.name, path.read_bytes()) == ("table.csv", b"a,b\n1,2\n")


def test_what_an_interrupted_attempt_received_is_continued(mirror: Path, tmp_path: Path):
    put(mirror, b"0123456789")
    data_set = data_set_of(b"0123456789")
    home = home_of("toy", data_set)
    home.parent.mkdir(parents=True)
    part = home.with_name(f".{home.name}.part")
    part.write_bytes(b"0123")
    assert materialise("toy", data_set).read_bytes() == b"0123456789"
    assert not part.exists()


def test_a_broken_connection_says_what_is_here(mirror: Path, monkeypatch: pytest.MonkeyPatch):
    data_set = data_set_of(b"0123456789")
    home = home_of("toy", data_set)
    home.parent.mkdir(parents=True)
    part = home.with_name(f".{home.name}.part")
    part.write_bytes(b"0123")
    with pytest.raises(DataError) as error:
        materialise("toy", data_set)
    assert str(error.value).endswith(
        f"(sha256 {data_set.sha256}). 4 of 10 bytes are here; run again for the rest."
    )
    assert part.read_bytes() == b"0123"


def test_another_process_may_have_brought_it(mirror: Path, monkeypatch: pytest.MonkeyPatch):
    """Two processes ask at once: the second waits at the lock and finds the file there."""
    put(mirror, b"a,b\n1,2\n")
    data_set = data_set_of(b"a,b\n1,2\n")
    path = materialise("toy", data_set)
    answers = iter([False, True])
    monkeypatch.setattr(module, "is_here", lambda *_: next(answers))
    monkeypatch.setenv("MAQUETTE_DATA_MIRROR", "/nowhere")
    assert materialise("toy", data_set) == path


def test_a_lock_that_stays_held_is_named(mirror: Path, monkeypatch: pytest.MonkeyPatch):
    put(mirror, b"x")
    data_set = data_set_of(b"x")
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    lock = cache_folder("locks") / f"{home_of('toy', data_set).name}.lock"
    lock.parent.mkdir(parents=True)
    with held(lock, patience=1), pytest.raises(RunError) as error:
        materialise("toy", data_set)
    assert str(error.value) == (
        f"Another process has been fetching toy-{data_set.sha256[:12]} for 0 minutes; wait for it "
        "to end and run again."
    )


def test_a_cache_without_room_for_locks(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(mirror, b"x")
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(RunError) as error:
        materialise("toy", data_set_of(b"x"))
    assert re.fullmatch(
        r"Could not write .*/locks/toy-.*\.lock: Not a directory\. Choose another cache folder "
        r"with MAQUETTE_CACHE=FOLDER\.",
        str(error.value),
    )


def test_a_goal_that_cannot_be_written(mirror: Path, tmp_path: Path):
    put(mirror, b"x")
    data_set = data_set_of(b"x")
    home_of("toy", data_set).parent.mkdir(parents=True)
    home_of("toy", data_set).write_text("a file where the folder belongs")
    with pytest.raises(RunError) as error:
        materialise("toy", data_set)
    assert re.fullmatch(
        r"Could not write .*/table\.csv: .*\. Choose another cache folder with "
        r"MAQUETTE_CACHE=FOLDER\.",
        str(error.value),
    )
    assert everything_in(tmp_path / "cache/data") == [home_of("toy", data_set).name]


def zip_of(path: Path, members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path.read_bytes()


def test_zip_opens_at_its_member_and_keeps_no_archive(mirror: Path, tmp_path: Path):
    content = zip_of(
        tmp_path / "z.zip", {"index.csv": b"image\nimages/1.png\n", "images/1.png": b"1"}
    )
    put(mirror, content, "toy/toy.zip")
    manifest = materialise("toy", data_set_of(content, "toy/toy.zip", "index.csv"))
    assert (manifest.parent / "images/1.png").read_bytes() == b"1"
    assert everything_in(manifest.parent) == ["images/1.png", "index.csv"]


def test_wrong_zip_leaves_nothing(mirror: Path, tmp_path: Path):
    put(mirror, b"not the zip", "toy/toy.zip")
    with pytest.raises(DataError, match="is not the file the catalogue knows"):
        materialise("toy", data_set_of(b"the zip", "toy/toy.zip", "index.csv"))
    assert [p.name for p in (tmp_path / "cache/data").iterdir()] == []


@pytest.mark.parametrize(
    "name", ["../escape.txt", "/escape.txt", "a/../../escape.txt", "..\\e.txt"]
)
def test_zip_member_that_escapes_is_refused(tmp_path: Path, name: str):
    zip_of(tmp_path / "z.zip", {"fine.txt": b"", name: b""})
    with pytest.raises(DataError, match="points outside the folder it is unpacked into"):
        unpack(tmp_path / "z.zip", tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_zip_with_a_link_is_refused(tmp_path: Path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr(link, "/etc")
    with pytest.raises(DataError, match="the member 'link', which points outside"):
        unpack(tmp_path / "z.zip", tmp_path / "into")


def test_damaged_zip_is_named(tmp_path: Path):
    (tmp_path / "z.zip").write_bytes(b"PK not really")
    with pytest.raises(
        DataError, match=r"z\.zip is not a whole zip file: File is not a zip file\."
    ):
        unpack(tmp_path / "z.zip", tmp_path / "into")


def test_digits_are_the_scans_of_scikit_learn(mirror: Path):
    from sklearn.datasets import load_digits

    folder = resolve("catalogue:digits")
    assert sorted(p.name for p in folder.iterdir()) == list("0123456789")
    files = sorted(folder.rglob("*.png"), key=lambda p: p.name)
    digits = load_digits()
    assert [int(p.parent.name) for p in files] == digits.target.tolist()
    pixels = np.stack([np.asarray(Image.open(p)) for p in files])
    np.testing.assert_array_equal(np.round(pixels * (16 / 255)), digits.images)


def test_digits_of_another_scikit_learn_are_refused(mirror: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"expected 0{64}; reinstall scikit-learn\."):
        materialise("digits", replace(CATALOGUE["digits"], sha256="0" * 64))
    assert everything_in(tmp_path / "cache") == []


SLOW_FILL = """
import sys, time
from pathlib import Path
from maquette.files import write_folder_once

def fill(folder):
    for index in range(20):
        (folder / str(index)).write_text("whole")
        time.sleep(float(sys.argv[2]))

print(write_folder_once(Path(sys.argv[1]), fill))
"""


def start_filling(final: Path, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW_FILL, str(final), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_write_leaves_nothing_under_the_final_name(tmp_path: Path):
    process = start_filling(tmp_path / "folder", pause=10)
    while not list(tmp_path.glob(".folder.*.part/0")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "folder").exists()


def test_two_processes_may_write_the_same_folder_at_once(tmp_path: Path):
    processes = [start_filling(tmp_path / "folder", pause=0.02) for _ in range(2)]
    answers = [process.communicate()[0].strip() for process in processes]
    assert answers == [str(tmp_path / "folder")] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert len(list((tmp_path / "folder").iterdir())) == 20


def test_reading_the_catalogue_imports_nothing_heavy():
    heavy = ["torch", "sklearn", "PIL", "numpy", "urllib.request"]
    command = (
        "import sys; from maquette.data.catalogue import resolve; resolve('x.csv'); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert answer.stdout == "[]\n", answer.stderr


@pytest.mark.data
@needs_mirror
@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.file])
def test_every_entry_is_in_the_mirror(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path))
    path = resolve(f"catalogue:{name}")
    assert is_here(name, CATALOGUE[name])
    assert path.stat().st_size > 1000
    count = int(CATALOGUE[name].about.split()[0])
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            assert len(arrays["train_images"]) + len(arrays["val_images"]) == count
    elif path.suffix == ".gz":
        with gzip.open(path) as packed:
            assert sum(1 for _ in packed) == count
    else:
        with path.open(encoding="utf-8") as file:
            assert sum(1 for _ in csv.reader(file)) == count + 1


@pytest.mark.data
@needs_mirror
def test_image_paths_of_a_manifest_are_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path))
    manifest = resolve("catalogue:sign_digits")
    header, *rows = manifest.read_text().splitlines()
    assert header == "image,label,split"
    assert all((manifest.parent / row.split(",")[0]).is_file() for row in rows)
