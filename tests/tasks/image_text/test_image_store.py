"""Decoded images: equal wherever they are kept, decoded once, whole on the disk or not there."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from made_pairs import png

from maquette.data import images as decoder
from maquette.errors import DataError, RunError
from maquette.tasks.image_text import image_cache, image_store
from maquette.tasks.image_text.image_cache import fill_store, look_at_all
from maquette.tasks.image_text.image_store import ImageFile
from maquette.tasks.image_text.squares import fit_square

SETTINGS = {"size": 8, "other_sizes": (12,), "fit": "crop", "max_pixels": 10_000}


@pytest.fixture
def files(tmp_path):
    """Five pictures, the second of which is broken, and one that is not there."""
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(png(number, size=(10 + number, 9)))
    (tmp_path / "1.png").write_bytes(png(1)[:60])
    names = [*(f"{number}.png" for number in range(5)), "absent.png"]
    return [ImageFile(name, tmp_path / name) for name in names]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("images")
    monkeypatch.setenv("MAQUETTE_CACHE", str(folder))
    return folder


@pytest.fixture
def decodes(monkeypatch):
    """Counts what is decoded from here on."""
    counted = []

    def count(content, *, max_pixels):
        counted.append(content)
        return decoder.decode_image(content, max_pixels=max_pixels)

    monkeypatch.setattr(image_store, "decode_image", count)
    return counted


def test_every_mode_gives_the_same_pixels_and_verdicts(files):
    good = [0, 2, 3, 4]
    expected = {
        size: [
            fit_square(decoder.decode_image(files[n].path, max_pixels=10_000), size, "crop")
            for n in good
        ]
        for size in (8, 12, 20)
    }
    verdicts = []
    for mode in ("memory", "disk", "off", "auto"):
        store, found = fill_store(files, **SETTINGS, cache=mode)
        verdicts.append(found)
        assert store.size == 8
        for size, pixels in expected.items():
            assert store.holds(size) == (mode != "off" and size != 20)
            assert np.array_equal(store.read(good, size=size), pixels)
    assert all(found == verdicts[0] for found in verdicts)
    reasons = [verdict.reason for verdict in verdicts[0]]
    assert reasons[0] is None
    assert reasons[1].startswith("is a truncated or corrupt PNG")
    assert reasons[5] == "cannot be opened: No such file or directory"
    assert verdicts[0][3].size == (9, 13)
    assert verdicts[0][3].format == "PNG"
    assert look_at_all(files, max_pixels=10_000) == verdicts[0]


@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_what_is_kept_is_decoded_once(files, decodes, mode):
    store, _ = fill_store(files, **SETTINGS, cache=mode)
    assert len(decodes) == 5
    for _ in range(3):
        store.read([0, 2, 3, 4, 0], size=8)
        store.read([4], size=12)
        list(store.stream([(0, 8), (2, 12)]))
    assert len(decodes) == 5
    store.without_tables().read([0, 2], size=8)
    assert len(decodes) == 7


def test_the_next_run_finds_the_disk_filled(files, decodes, cache):
    first, found = fill_store(files, **SETTINGS, cache="disk")
    decodes.clear()
    again, verdicts = fill_store(files, **SETTINGS, cache="disk")
    assert (decodes, verdicts) == ([], found)
    assert again.place == first.place
    assert str(cache) in again.place
    assert np.array_equal(again.read([0, 4], size=12), first.read([0, 4], size=12))
    files[0].path.write_bytes(png(77))
    changed, _ = fill_store(files, **SETTINGS, cache="disk")
    assert changed.place != first.place
    assert len(decodes) == 5


def test_another_fit_or_limit_is_kept_apart_on_the_disk(files):
    places = {}
    for fit, most in (("crop", 10_000), ("stretch", 10_000), ("crop", 115)):
        options = SETTINGS | {"fit": fit, "max_pixels": most}
        store, verdicts = fill_store(files, **options, cache="disk")
        plain, expected = fill_store(files, **options, cache="off")
        assert verdicts == expected
        assert np.array_equal(store.read([0, 2], size=12), plain.read([0, 2], size=12))
        places[store.place] = verdicts
    assert len(places) == 3


def test_what_does_not_fit_into_memory_goes_to_the_disk(files, monkeypatch):
    monkeypatch.setattr(image_cache, "MOST_MEMORY", 100)
    store, _ = fill_store(files, **SETTINGS, cache="auto")
    assert isinstance(store.tables[8], np.memmap)
    monkeypatch.setattr(image_cache, "available_memory", lambda: 50)
    with pytest.raises(DataError) as caught:
        fill_store(files, **SETTINGS, cache="memory")
    assert str(caught.value) == (
        "6 decoded images of 8 × 8 and 12 × 12 need 0.0 GiB, and 0.0 GiB of memory are available; "
        "set data.image_text.cache: disk, or a smaller image_size."
    )


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(files, cache, monkeypatch):
    usage = shutil.disk_usage(cache)._replace(free=10)
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(RunError) as caught:
        fill_store(files, **SETTINGS, cache="disk")
    text = str(caught.value)
    assert text.startswith(f"The decoded images need 0.0 GiB in {cache}/images, whose disk has 0.0")
    assert text.endswith("MAQUETTE_CACHE=FOLDER, or set data.image_text.cache: off.")
    assert list(cache.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(files, cache, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(RunError, match=r"No space left on device\. Free some space"):
        fill_store(files, **SETTINGS, cache="disk")
    assert list((cache / "images").iterdir()) == []


def test_another_process_may_be_first(files, monkeypatch):
    first, _ = fill_store(files, **SETTINGS, cache="disk")
    ours = Path(first.place)

    def meanwhile(folder, needed):
        """The other process finishes between our look and our write."""
        ours.with_name("theirs").rename(ours)

    ours.rename(ours.with_name("theirs"))
    monkeypatch.setattr(image_cache, "_refuse_small_disk", meanwhile)
    store, _ = fill_store(files, **SETTINGS, cache="disk")
    assert store.place == first.place
    assert np.array_equal(store.read([0], size=8), first.read([0], size=8))


def test_an_image_that_changes_later_is_told(files):
    store, _ = fill_store(files, **SETTINGS, cache="off")
    files[2].path.write_bytes(b"something else")
    with pytest.raises(DataError) as caught:
        store.read([0, 2], size=8)
    assert str(caught.value).startswith("2.png is not an image Maquette reads")
    assert str(caught.value).endswith(
        "It was whole when the data was checked; restore it and continue with "
        "`maquette train --resume`."
    )


def test_a_part_of_a_file_is_an_image_too(tmp_path):
    content = png(5)
    (tmp_path / "all").write_bytes(b"before" + content + b"behind")
    part = ImageFile("x", tmp_path / "all", 6, len(content))
    assert part.read() == content
    store, verdicts = fill_store([part], **SETTINGS)
    assert verdicts[0].reason is None
    assert store.read([0], size=8).shape == (1, 8, 8, 3)


def test_no_images_are_an_empty_store():
    store, verdicts = fill_store([], **SETTINGS)
    assert verdicts == []
    assert store.read([], size=8).shape == (0, 8, 8, 3)
