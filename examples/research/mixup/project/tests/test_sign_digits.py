"""The photos: fetched whole or not at all, decoded, divided so that parts share no person."""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from data import dataset
from data.dataset import fetch, load_sign_digits, person_of_each
from data.loader import batches_of, divide_persons, split_by_person

HERE = Path(dataset.__file__).parent / "cache"
PLACES = [os.environ.get(name) for name in ("RESEARCH_DATA", "RESEARCH_MIRROR")]
PLACES += [os.environ.get("MAQUETTE_DATA_MIRROR"), HERE]
needs_photos = pytest.mark.skipif(
    not any(place and Path(place, dataset.FILE).is_file() for place in PLACES),
    reason=f"needs {dataset.FILE} below RESEARCH_MIRROR",
)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with one file of six bytes, and an empty cache."""
    monkeypatch.setenv("RESEARCH_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("RESEARCH_MIRROR", str(tmp_path / "mirror"))
    file = tmp_path / "mirror" / "six" / "bytes.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"abcdef")
    return file


def test_a_file_comes_from_the_mirror_once(mirror: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"abcdef").hexdigest()
    cached = fetch("six/bytes.bin", digest)
    assert cached == tmp_path / "cache/six/bytes.bin"
    assert cached.read_bytes() == b"abcdef"
    mirror.unlink()
    assert fetch("six/bytes.bin", digest) == cached
    assert [path.name for path in cached.parent.iterdir()] == ["bytes.bin"]


def test_the_platforms_mirror_serves_too(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESEARCH_MIRROR")
    monkeypatch.setenv("MAQUETTE_DATA_MIRROR", str(mirror.parent.parent))
    assert fetch("six/bytes.bin", hashlib.sha256(b"abcdef").hexdigest()).is_file()


@pytest.mark.usefixtures("mirror")
def test_other_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"bytes.bin has sha256 bef57ec7.*; remove it"):
        fetch("six/bytes.bin", "0" * 64)


@pytest.mark.usefixtures("mirror")
def test_without_a_mirror_the_error_says_how_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESEARCH_MIRROR")
    monkeypatch.delenv("MAQUETTE_DATA_MIRROR", raising=False)
    with pytest.raises(FileNotFoundError, match=r"mirror: None.*JPEG of quality 90"):
        load_sign_digits()


@pytest.mark.usefixtures("mirror")
def test_photos_come_in_the_cameras_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in another order than the numbers; each photo is grey of the level of its number."""
    archive = tmp_path / "mirror" / dataset.FILE
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        numbers = {12: 0, 10: 0, 11: 7}
        rows = [f"images/{digit}_IMG_{number}.jpg" for number, digit in numbers.items()]
        lines = [f"{row},{digit},train" for row, digit in zip(rows, numbers.values(), strict=True)]
        file.writestr("index.csv", "\n".join(["image,label,split", *lines]))
        for row, number in zip(rows, numbers, strict=True):
            photo = io.BytesIO()
            Image.new("RGB", (100, 100), (number, number, number)).save(photo, "PNG")
            file.writestr(row, photo.getvalue())
    monkeypatch.setattr(dataset, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    data = load_sign_digits(side=16)
    assert data.pixels.shape == (3, 3, 16, 16)
    assert data.pixels[:, 0, 5, 5].tolist() == [10, 11, 12]
    assert data.labels.tolist() == [0, 7, 0]
    assert data.persons.tolist() == [0, 0, 1]


def test_a_digit_that_does_not_rise_is_another_person() -> None:
    labels = torch.tensor([0, 1, 2, 9, 0, 5, 5, 6])
    assert person_of_each(labels).tolist() == [0, 0, 0, 0, 1, 1, 2, 2]


def test_parts_share_no_person_and_lose_none() -> None:
    persons = torch.arange(50).repeat_interleave(3)
    parts = divide_persons(persons, seed=1)
    assert [len(part) for part in parts] == [90, 30, 30]
    assert sorted(torch.cat(parts).tolist()) == list(range(150))
    train, validation, test = (set(persons[part].tolist()) for part in parts)
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert not torch.equal(parts[2], divide_persons(persons, seed=2)[2])


@needs_photos
def test_the_real_photos() -> None:
    data = load_sign_digits(side=16)
    assert data.pixels.shape == (1650, 3, 16, 16)
    assert data.labels.bincount().tolist() == [164, 165, 165, 165, 166, 166, 166, 164, 166, 163]
    assert int(data.persons[-1]) + 1 == 178
    train, validation, test = split_by_person(data, seed=0)
    assert len(train) + len(validation) + len(test) == 1650
    images = train.tensors[0]
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    first, again = (next(iter(batches_of(train, 32, seed=5)))[1] for _ in range(2))
    assert len(first) == 32
    assert first.tolist() == again.tolist()
