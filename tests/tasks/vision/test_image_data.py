"""Reading labelled images: every kind of bad file by its message, every warning, splits by seed.

What manifests add is in test_image_manifests.py.
"""

import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from pets import data_of, refusal, write_image
from PIL import Image

from maquette.errors import DataError
from maquette.tasks import image_folders
from maquette.tasks.vision import checking
from maquette.tasks.vision.data import check_images, load_images, load_labelled

# Class folders


def test_class_folders_are_read(folder):
    report = check_images(data_of(folder))
    assert report.num_samples == 10
    assert report.quarantined == []
    assert report.warnings == []
    assert report.summary == {
        "classes": {"cats": 5, "dogs": 5},
        "formats": {"PNG": 10},
        "height": {"smallest": 10, "largest": 10},
        "width": {"smallest": 12, "largest": 12},
        "splits": {"train": 7, "valid": 2, "test": 1},
    }


def test_checking_does_not_import_torch():
    code = "import sys, maquette.tasks.vision.data; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_what_systems_leave_behind_is_passed_over(folder):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png"):
        (folder / name).write_bytes(b"clutter")
        (folder / "cats" / name).write_bytes(b"clutter")
    (folder / ".git").mkdir()
    report = check_images(data_of(folder))
    assert (report.num_samples, report.warnings) == (10, [])


def test_files_that_are_no_images_are_noted(folder):
    for index in range(7):
        (folder / "cats" / f"note{index}.txt").write_text("hello")
    (folder / "README.md").write_text("about")
    (folder / "dogs" / "old").mkdir()
    assert check_images(data_of(folder)).warnings == [
        "7 files are no image by name or content and are not read: cats/note0.txt, cats/note1.txt, "
        "cats/note2.txt, cats/note3.txt, cats/note4.txt and 2 more",
        "dogs/old is a folder inside a class folder; what is in it is not read",
        "1 file beside the class folders is not read: README.md",
    ]


def test_a_wrong_extension_is_noted_and_the_content_decides(folder):
    write_image(folder / "cats" / "a.jpg", seed=1000, format="PNG")
    write_image(folder / "cats" / "b.dat", seed=1001, format="BMP")
    report = check_images(data_of(folder))
    assert report.num_samples == 12
    assert report.warnings == [
        "2 of 12 images: the name does not say the format, so the content decided: "
        "cats/a.jpg (PNG), cats/b.dat (BMP)"
    ]


def test_mixed_sizes_are_noted_with_their_range(folder):
    write_image(folder / "cats" / "small.png", seed=1000, size=(5, 7))
    write_image(folder / "dogs" / "large.png", seed=1001, size=(40, 30))
    report = check_images(data_of(folder))
    assert report.warnings == [
        "3 image sizes (height × width), from 7 × 5 to 30 × 40; all become 8 × 8 (fit: crop)"
    ]
    assert report.summary["height"] == {"smallest": 7, "largest": 30}


def test_copies_are_noted_whatever_their_format(folder):
    Image.open(folder / "cats" / "0.png").save(folder / "cats" / "0.bmp")
    Image.open(folder / "cats" / "1.png").save(folder / "dogs" / "1b.png")
    assert check_images(data_of(folder)).warnings == [
        "2 pictures found more than once: cats/0.bmp = cats/0.png, cats/1.png = dogs/1b.png",
        "1 picture found under several labels: cats/1.png is cats, dogs/1b.png is dogs",
    ]


def test_copies_in_several_splits_are_warned_of(folder):
    picture = Image.open(folder / "cats" / "0.png")
    for index in range(8):
        picture.save(folder / "cats" / f"copy{index}.png")
    splits = load_images(data_of(folder), seed=0)
    text = splits.report.warnings[-1]
    assert text.startswith(
        "1 picture found in several splits, so the results look better than they are: cats/"
    )
    assert "(train)" in text


# Bad files


def bomb(path):
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT"]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
        )
    )


def truncated(path):
    write_image(path, size=(60, 60))
    path.write_bytes(path.read_bytes()[:4000])


def corrupt(path):
    content = bytearray(write_image(path, size=(60, 60)).read_bytes())
    content[100:4000] = b"\xab" * 3900
    path.write_bytes(content)


def animated(path):
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "green", "blue")]
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])


def single_pixel(path):
    Image.new("RGB", (1, 1)).save(path)


BAD = {
    "bomb.png": (
        bomb,
        "has 30000 × 30000 = 900000000 pixels, more than max_pixels=50000000; "
        "it was refused before decoding",
    ),
    "cut.png": (truncated, "is a truncated or corrupt PNG (image file is truncated)"),
    "empty.png": (lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    "film.gif": (
        animated,
        "is animated or has several pages: 3 frames, expected 1; "
        "save the wanted frame as a file of its own",
    ),
    "link.png": (
        lambda path: path.symlink_to("nowhere.png"),
        "is a link to a file that is not there",
    ),
    "scrambled.png": (corrupt, "is a truncated or corrupt PNG (unrecognized data stream contents"),
    "single.png": (single_pixel, "is 1 × 1 pixel: there is no picture to learn from"),
    "text.jpg": (
        lambda path: path.write_text("<!DOCTYPE html>"),
        "is not an image Maquette reads: it begins with b'<!DOCTYP', which is none of "
        "JPEG, PNG, WebP, BMP, TIFF, GIF",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_reason(folder, name):
    make, reason = BAD[name]
    make(folder / "cats" / name)
    text = refusal(folder)
    assert text.startswith(f"{folder} cannot be used as it is:\n  cats/{name} {reason}")
    assert text.endswith(
        "\n1 of 11 images cannot be used (9.09%, data.image.tolerance is 0.00%). Repair or remove "
        "them, or set them aside with data.image.tolerance=0.091."
    )


def test_every_bad_file_is_listed(folder):
    for name, (make, _) in BAD.items():
        make(folder / "dogs" / name)
    text = refusal(folder, tolerance=0.1)
    listed = {line.split()[0] for line in text.splitlines() if line.startswith("  ")}
    assert listed == {f"dogs/{name}" for name in BAD}
    assert "8 of 18 images cannot be used (44.44%, data.image.tolerance is 10.00%)" in text


def test_bad_files_within_the_tolerance_are_set_aside(folder):
    for name, (make, _) in BAD.items():
        make(folder / "dogs" / name)
    splits = load_images(data_of(folder, tolerance=0.445), seed=0)
    assert splits.report.num_samples == 10
    reasons = {one["place"]: one["reason"] for one in splits.report.quarantined}
    assert set(reasons) == {f"dogs/{name}" for name in BAD}
    for name, (_, reason) in BAD.items():
        assert reasons[f"dogs/{name}"].startswith(reason)
    pixels = np.concatenate([s.pixels for s in (splits.train, splits.valid, splits.test)])
    assert pixels.shape == (10, 8, 8, 3)


def test_the_advised_tolerance_is_enough(folder):
    BAD["empty.png"][0](folder / "cats" / "empty.png")
    advised = float(refusal(folder).rsplit("=", 1)[1].rstrip("."))
    assert check_images(data_of(folder, tolerance=advised)).num_samples == 10


def test_max_pixels_of_the_recipe_counts(folder):
    assert "cats/0.png has 12 × 10 = 120 pixels, more than max_pixels=100" in refusal(
        folder, max_pixels=100
    )


def test_no_permission():
    """Run as root too: the effective user becomes nobody while the images are read."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        for index in range(4):
            write_image(root / "pets" / ("cats", "dogs")[index % 2] / f"{index}.png", seed=index)
        (root / "pets" / "cats" / "0.png").chmod(0)
        with _not_root():
            text = refusal(root / "pets")
        assert "\n  cats/0.png cannot be opened: Permission denied\n" in text
        (root / "pets" / "cats").chmod(0)
        with _not_root():
            text = refusal(root / "pets")
        (root / "pets" / "cats").chmod(0o755)
    cats = root / "pets" / "cats"
    assert text == (
        f"The folder {cats} cannot be read: Permission denied. "
        f"Give yourself access (chmod u+rx {cats}), or move it elsewhere."
    )


class _not_root:
    def __enter__(self):
        self.user = os.geteuid()
        if self.user == 0:
            os.seteuid(65534)

    def __exit__(self, *_):
        if self.user == 0:
            os.seteuid(0)


# Folders that are not what they should be


def test_nothing_there(folder):
    text = refusal(folder.with_name("pet"))
    assert text == (
        f"There is no folder or manifest {folder.with_name('pet')}. Did you mean 'pets'? "
        "data.image.path takes a folder with one folder per class, or a CSV of image paths and "
        "labels."
    )


def test_an_empty_folder(tmp_path):
    assert refusal(tmp_path) == (
        f"{tmp_path} is an empty folder. Expected {tmp_path}/<class>/<image>, in any of JPEG, PNG, "
        "WebP, BMP, TIFF, GIF."
    )


def test_images_without_class_folders(tmp_path):
    write_image(tmp_path / "1.png")
    write_image(tmp_path / "2.png")
    assert refusal(tmp_path).startswith(
        f"{tmp_path} has 2 files (1.png, 2.png) but no class folders. Expected {tmp_path}/<class>/"
    )


def test_folders_without_images(tmp_path):
    (tmp_path / "cats").mkdir()
    (tmp_path / "dogs").mkdir()
    assert refusal(tmp_path).startswith(f"{tmp_path} has 2 folders (cats, dogs), none with images.")


def test_classes_one_folder_deeper(folder):
    text = refusal(folder.parent)
    assert text.endswith(f"The classes may lie one folder deeper: try data.image.path={folder}.")


def test_an_empty_class_folder(folder):
    (folder / "birds").mkdir()
    assert refusal(folder, tolerance=0.5) == (
        f"{folder} cannot be used as it is:\n"
        "  birds/ is a class folder without images; put some in, or remove it"
    )


def test_a_class_left_without_usable_images(folder):
    (folder / "birds").mkdir()
    (folder / "birds" / "a.png").write_bytes(b"")
    assert refusal(folder, tolerance=0.5) == (
        f"{folder} cannot be used as it is:\n  the class 'birds' has no usable image left"
    )


def test_no_usable_image_at_all(tmp_path):
    for label in ("cats", "dogs"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.png").write_bytes(b"")
    assert refusal(tmp_path, tolerance=1).endswith(
        "2 of 2 images cannot be used (100.00%, data.image.tolerance is 100.00%). "
        "Repair or remove them."
    )


def test_one_class_only(folder):
    for path in (folder / "dogs").iterdir():
        path.unlink()
    (folder / "dogs").rmdir()
    assert refusal(folder) == (
        f"{folder} has one class only, 'cats'; a classifier needs at least two."
    )


def test_a_column_split_needs_a_manifest(folder):
    text = refusal(folder, split={"method": "grouped", "column": "person"})
    assert text == (
        f"data.image.split.column is 'person', but {folder} is a folder, which has no columns. "
        "Give data.image.path a CSV with the columns image, label and person, or choose another "
        "split."
    )


# Splits


def test_splits_are_stratified_disjoint_and_complete(folder):
    splits = load_images(data_of(folder, train_split=0.6, validation_split=0.2, test_split=0.2), seed=1)  # fmt: skip  # noqa: E501
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    assert {name: list(part.ids) for name, part in parts.items()} == {
        name: list(ids) for name, ids in splits.assignment.items()
    }
    ids = [name for part in parts.values() for name in part.ids]
    assert sorted(ids) == sorted({f"{c}/{i}.png" for c in ("cats", "dogs") for i in range(5)})
    assert [sorted(part.labels) for part in parts.values()] == [
        ["cats"] * 3 + ["dogs"] * 3, ["cats", "dogs"], ["cats", "dogs"],
    ]  # fmt: skip


def test_the_seed_alone_decides_the_split(folder):
    data = data_of(folder)
    first, again, other = (load_images(data, seed=seed).assignment for seed in (0, 0, 1))
    assert first == again
    assert first != other


# Samples


def test_pixels_are_the_same_from_memory_and_from_disk(folder, monkeypatch):
    in_memory = load_images(data_of(folder), seed=0).train
    monkeypatch.setattr(checking, "MOST_MEMORY", 1)
    on_disk = load_images(data_of(folder), seed=0).train
    assert in_memory.pixels is not None
    assert on_disk.pixels is None
    rows = [4, 0, 2, 2]
    for ahead in (1, 3, 64):
        found = np.stack(list(on_disk.read(rows, ahead=ahead)))
        np.testing.assert_array_equal(found, in_memory.pixels[rows])


def test_a_file_that_vanishes_after_the_check(folder, monkeypatch):
    monkeypatch.setattr(checking, "MOST_MEMORY", 1)
    samples = load_images(data_of(folder), seed=0).train
    samples.paths[1].unlink()
    with pytest.raises(DataError) as caught:
        list(samples.read([0, 1, 2]))
    assert str(caught.value) == (
        f"{samples.ids[1]} cannot be opened: No such file or directory. It was whole when the data "
        "was checked; restore it and continue with `maquette train --resume`."
    )


def test_other_labelled_images(folder, tmp_path):
    samples = load_labelled(data_of(folder), ["birds", "cats", "dogs"])
    assert len(samples) == 10
    with pytest.raises(DataError) as caught:
        load_labelled(data_of(folder), ["birds", "cats"])
    assert str(caught.value) == (
        f"{folder} has images of dogs, which the model was not trained on; "
        "its classes are birds, cats."
    )


def test_many_names_are_cut_short():
    assert image_folders.some(["a", "b"]) == "a, b"
    assert image_folders.some(list("abcdefgh")) == "a, b, c, d, e and 3 more"
