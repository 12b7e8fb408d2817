"""The prepare scripts: on a data set of a few pictures, and on the real ones where they are."""

import csv
import os
import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from unet_seg.config import FolderConfig
from unet_seg.data.folder import open_splits
from unet_seg.image_files import read_image, read_mask, write_png

PROJECT = Path(__file__).parents[1]
MIRROR = os.environ.get("MAQUETTE_DATA_MIRROR")
PCB_CLASSES = ("background", "open", "short", "mousebite", "spur", "copper", "pin-hole")


class Done(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def prepare(monkeypatch, capsys):
    """A function that runs scripts/prepare_NAME.py in this process, which has torch loaded."""
    monkeypatch.syspath_prepend(str(PROJECT / "scripts"))

    def run(name, source, out):
        script = str(PROJECT / f"scripts/prepare_{name}.py")
        monkeypatch.setattr(sys, "argv", [script, str(source), str(out)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(script, run_name="__main__")
        return Done(int(str(stopped.value.code)), *capsys.readouterr())

    return run


def write_index(folder, rows):
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def zipped(folder):
    made = folder.with_suffix(".zip")
    with zipfile.ZipFile(made, "w") as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, path.relative_to(folder))
    return made


@pytest.fixture
def nuclei(tmp_path):
    source = tmp_path / "nuclei"
    rows = []
    for folder in ("images", "masks"):
        (source / folder).mkdir(parents=True)
    for i in range(4):
        image, mask = f"images/n{i}.png", f"masks/n{i}.png"
        write_png(source / image, np.full((8, 9), 40 * i, dtype=np.uint8))
        ids = np.zeros((8, 9), dtype=np.uint8)
        ids[2:4, 2:4], ids[5:7, 5:7] = 1, 200
        write_png(source / mask, ids)
        split = "test" if i == 3 else "train"
        rows.append({"image": image, "mask": mask, "split": split, "nuclei": 2, "kind": "x"})
    write_index(source, rows)
    return source


@pytest.fixture
def pcb(tmp_path):
    """A spur of a training scan, a pin-hole at the border of a test scan, a good patch."""
    source = tmp_path / "pcb"
    for folder in ("tested", "template"):
        (source / folder).mkdir(parents=True)
    rows = []
    for name, label, label_id, split, box in (
        ("spur_20085140_490_187.png", "spur", 4, "train", (2, 3, 6, 7)),
        ("pin-hole_20085141_0_0.png", "pin-hole", 6, "test", (8, 8, 12, 12)),
        ("good_20085142_0_0.png", "good", 0, "train", ("", "", "", "")),
    ):
        template = np.zeros((12, 12), dtype=bool)
        template[:, 6:] = True
        tested = template.copy()
        tested[5, 5] ^= True  # differs inside the first box
        tested[5, 6] ^= True  # just outside of it, for x2 = 6 is one beyond
        tested[11, 11] ^= True  # inside the second box, in the corner
        for folder, bits in (("tested", tested), ("template", template)):
            Image.fromarray(bits).save(source / folder / name)
        places = dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
        rows.append(
            {"image": f"tested/{name}", "template": f"template/{name}", "label": label}
            | {"label_id": label_id, "split": split, **places}
        )
    write_index(source, rows)
    return source


@pytest.mark.parametrize("pack", [lambda folder: folder, zipped], ids=["folder", "zip"])
def test_nuclei(prepare, nuclei, tmp_path, pack):
    out = tmp_path / "deep" / "out"
    done = prepare("nuclei", pack(nuclei), out)

    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{out}: 4 images (3 train, 1 test), 8 nuclei\n"
        'data.folder.class_map: {background: 0, nucleus: "1-255"}\n'
    )
    folder = FolderConfig(
        root=str(out), manifest="manifest.csv", class_map={"background": 0, "nucleus": "1-255"}
    )
    splits = open_splits(folder, channels=3)
    assert [len(splits[split]) for split in ("train", "valid", "test")] == [2, 1, 1]
    assert splits["test"][0].name == "n3"
    assert int(splits["test"][0].mask.sum()) == 8

    before = contents(out)
    assert prepare("nuclei", pack(nuclei), out).returncode == 0
    assert contents(out) == before


def test_the_command_as_a_user_types_it(nuclei, tmp_path):
    done = subprocess.run(
        [sys.executable, "scripts/prepare_nuclei.py", str(nuclei), str(tmp_path / "out")],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/manifest.csv").is_file()


def test_pcb(prepare, pcb, tmp_path):
    out = tmp_path / "out"
    done = prepare("pcb", zipped(pcb), out)

    assert done.returncode == 0, done.stderr
    assert "3 images (1 train, 1 valid, 1 test)" in done.stdout
    assert "spur         0.231 % of all pixels" in done.stdout  # 1 of 3 * 144
    with (out / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["valid", "test", "train"]

    spur = read_mask(out / rows[0]["mask"])
    assert spur[5, 5] == 4
    assert np.count_nonzero(spur) == 1  # (5, 6) and (11, 11) lie outside the box
    hole = read_mask(out / rows[1]["mask"])
    assert hole[11, 11] == 6
    assert np.count_nonzero(hole) == 1
    assert not read_mask(out / rows[2]["mask"]).any()

    tested, template, differ = read_image(out / rows[0]["image"], 3)
    assert tested[5, 5] == 255
    assert template[5, 5] == 0
    assert differ.nonzero().tolist() == [[5, 5], [5, 6], [11, 11]]
    assert set(differ.unique().tolist()) == {0, 255}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: None, "neither a folder nor a zip file."),
        (lambda path: path.write_text("x"), "neither a folder nor a zip file."),
        (lambda path: path.mkdir(), "has no index.csv at the top, so it is not this data set."),
    ],
)
@pytest.mark.parametrize("name", ["nuclei", "pcb"])
def test_sources_that_are_not_there(prepare, tmp_path, name, make, text):
    make(tmp_path / "source")
    done = prepare(name, tmp_path / "source", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path / 'source'}: {text}\n"


def test_an_index_of_another_data_set(prepare, nuclei, tmp_path):
    done = prepare("pcb", nuclei, tmp_path / "out")
    assert done.returncode == 1
    assert (
        "index.csv has no column template, label, label_id, x1, y1, x2, y2; it has " in done.stderr
    )


def test_labels_in_another_order(prepare, pcb, tmp_path):
    index = pcb / "index.csv"
    index.write_text(index.read_text().replace(",spur,4,", ",spur,3,"))
    done = prepare("pcb", pcb, tmp_path / "out")
    assert done.returncode == 1
    assert "label 'spur' has label_id 3" in done.stderr


needs_data = pytest.mark.skipif(
    not MIRROR, reason="the real data sets are not here: set MAQUETTE_DATA_MIRROR to their folder"
)


@pytest.mark.data
@needs_data
def test_real_nuclei(prepare, tmp_path):
    done = prepare("nuclei", Path(str(MIRROR)) / "dsb2018_nuclei/dsb2018_nuclei.zip", tmp_path)

    assert "352 images (280 train, 72 test), 11427 nuclei" in done.stdout, done.stderr
    folder = FolderConfig(
        root=str(tmp_path),
        manifest="manifest.csv",
        class_map={"background": 0, "nucleus": "1-255"},
    )
    splits = open_splits(folder, channels=3)
    assert [len(splits[split]) for split in ("train", "valid", "test")] == [238, 42, 72]
    share = np.mean([sample.mask.float().mean().item() for sample in splits["test"]])
    assert 0.1 < share < 0.3


@pytest.mark.data
@needs_data
def test_real_pcb(prepare, tmp_path):
    done = prepare("pcb", Path(str(MIRROR)) / "deeppcb_patches/deeppcb_patches.zip", tmp_path)

    assert "3010 images (2103 train, 347 valid, 560 test)" in done.stdout, done.stderr
    folder = FolderConfig(
        root=str(tmp_path),
        manifest="manifest.csv",
        class_map={name: i for i, name in enumerate(PCB_CLASSES)},
        cache=False,
    )
    splits = open_splits(folder, channels=3)
    scans = {
        split: {re.split("_", pair.name)[1] for pair in splits[split].pairs} for split in splits
    }
    assert not scans["train"] & scans["valid"]
    assert not (scans["train"] | scans["valid"]) & scans["test"]
    for i in range(0, len(splits["test"]), 10):
        image, mask, name = splits["test"][i]
        label = PCB_CLASSES.index(name.split("_")[0].replace("good", "background"))
        assert set(mask.unique().tolist()) == {0, label}
        assert (image[2][mask > 0] == 255).all()
        assert ((image[0] != image[1]) == (image[2] == 255)).all()
