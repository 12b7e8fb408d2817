"""Tar shards: their index, the order of an epoch, random access, and every kind of damage."""

import gzip
import io
import json
import os
import random
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_pairs import (
    PROMPTS,
    caption,
    data_of,
    loaded,
    made_rows,
    made_shards,
    png,
    refusal,
    write_manifest,
    write_shard,
)

from maquette.data.images import decode_image
from maquette.tasks.image_text import shards as shards_module
from maquette.tasks.image_text.data import check_pairs, load_labelled_pairs
from maquette.tasks.image_text.shards import find_shards, is_shards, read_index, stream_order


def all_of(path, **options):
    return load_labelled_pairs(data_of(path, **options), prompts=PROMPTS)


# Reading


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b.tar", True),
        ("a/*.tar", True),
        ("a/*.tar.gz", True),
        ("a.tgz", True),
        ("tar/a.csv", False),
        ("folder", False),
    ],
)
def test_what_means_shards(path, expected):
    assert is_shards(path) is expected


def test_samples_of_all_shards_are_read_in_order(tmp_path):
    samples = all_of(made_shards(tmp_path))
    assert samples.ids[:2] == ("part-0.tar/000000.png", "part-0.tar/000001.png")
    assert samples.places[4] == "part-1.tar/000000"
    assert samples.texts == tuple((caption(number),) for number in range(12))
    assert samples.shards.tolist() == [0] * 4 + [1] * 3 + [2] * 5
    pixels = samples.store.without_tables().read(samples.images[[11, 0]], size=10)
    expected = [decode_image(png(number), max_pixels=1000)[:, 1:11] for number in (11, 0)]
    assert np.array_equal(pixels, expected)


def test_numbered_shards_are_found_as_webdataset_names_them(tmp_path):
    for number in (7, 8, 9, 10, 11):
        write_shard(tmp_path / f"a-{number:03d}.tar", [{"png": png(0), "txt": b"x"}])
    names = [path.name for path in find_shards(f"{tmp_path}/a-{{008..010}}.tar")]
    assert names == ["a-008.tar", "a-009.tar", "a-010.tar"]
    assert len(find_shards(f"{tmp_path}/a-0*.tar")) == 5
    assert refusal(f"{tmp_path}/a-{{009..013}}.tar") == (
        f"2 of the 5 shards {tmp_path}/a-{{009..013}}.tar are not there: a-012.tar, a-013.tar."
    )


def test_json_members_are_columns_and_cls_is_the_label(tmp_path):
    samples = [
        {"jpg": png(n), "json": json.dumps({"alt": caption(n), "fold": "train"}).encode(),
         "cls": b"7\n", "npy": b"ignored", "seg.png": b"ignored"}
        for n in range(3)
    ]  # fmt: skip
    path = write_shard(tmp_path / "a.tar", samples)
    found = all_of(path, text_columns=("alt",), label_column="cls")
    assert found.texts[2] == (caption(2),)
    assert found.labels.tolist() == ["7", "7", "7"]
    prompted = all_of(path, text_columns=(), label_column="cls")
    assert prompted.texts[0] == ("a photo of a 7", "a 7.")
    assert refusal(path, text_columns=("text",)) == (
        f"{path} has no column 'text' (data.image_text.text_columns). Its columns: cls, alt, fold."
    )


def test_shards_and_a_manifest_of_the_same_pairs_learn_the_same(tmp_path):
    manifest = loaded(write_manifest(tmp_path / "flat", made_rows(12)))
    sharded = loaded(made_shards(tmp_path / "shards"))
    assert manifest.train.shards is None
    for name in ("train", "valid", "test"):
        one, other = getattr(manifest, name), getattr(sharded, name)
        assert one.texts == other.texts
        assert np.array_equal(
            one.store.read(one.images, size=8), other.store.read(other.images, size=8)
        )


def test_the_index_is_read_once_and_again_when_the_tar_changes(tmp_path, monkeypatch):
    opened = []
    read = shards_module._index
    monkeypatch.setattr(shards_module, "_index", lambda path: opened.append(path) or read(path))
    path = write_shard(tmp_path / "a.tar", [{"png": png(0), "txt": b"one"}])
    first = read_index(path)
    assert read_index(path) == first
    assert len(opened) == 1
    write_shard(path, [{"png": png(0), "txt": b"two"}])
    os.utime(path, (1, 1))
    assert read_index(path)[0].cells == {"text": "two"}
    assert len(opened) == 2


def test_folders_and_hidden_members_are_passed_over(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        folder = tarfile.TarInfo("x")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in (("x/._0.png", b"?"), ("x/0.png", png(0)), ("x/0.txt", b"words")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert [(one.key, one.image) for one in read_index(path)] == [("x/0", "x/0.png")]


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path / "file"))
    path = write_shard(tmp_path / "a.tar", [{"png": png(0), "txt": b"one"}])
    assert len(read_index(path)) == 1


# Damage


def test_a_cut_off_tar_is_refused(tmp_path):
    path = write_shard(tmp_path / "a.tar", [{"png": png(n), "txt": b"x"} for n in range(8)])
    whole = path.read_bytes()
    for length in (5000, 700, 100):
        path.write_bytes(whole[:length])
        text = refusal(path)
        assert text.startswith(f"{path} is a damaged or cut-off tar (")
        assert text.endswith(" keys could be read. Copy or make it again.")


def test_what_is_no_tar_is_refused(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"hello" * 500)
    assert refusal(path).startswith(f"{path} is a damaged or cut-off tar (")
    (tmp_path / "a.tar").unlink()
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(b"x"))
    assert refusal(tmp_path / "*.tar.gz") == (
        "b.tar.gz are compressed, and single samples are read from tars that are not. The images "
        "in them are compressed already: gunzip the shards."
    )


def test_no_shard_names_what_is_there(tmp_path):
    made_shards(tmp_path)
    assert refusal(tmp_path / "part-9.tar") == (
        f"There is no tar shard {tmp_path}/part-9.tar. Did you mean 'part-2.tar'? {tmp_path} holds "
        "part-0.tar, part-1.tar, part-2.tar."
    )
    assert refusal(tmp_path / "no" / "*.tar") == f"There is no tar shard {tmp_path}/no/*.tar."


def test_an_empty_tar_is_refused(tmp_path):
    path = write_shard(tmp_path / "a.tar", [])
    assert refusal(path) == (
        f"{path} holds no sample; expected members such as 000001.jpg and 000001.txt."
    )


def test_members_without_their_partner_are_listed(tmp_path):
    samples = [{"png": png(n), "txt": caption(n).encode()} for n in range(8)]
    samples[1] = {"txt": b"alone"}
    samples[2] = {"png": png(2)}
    samples[3]["txt"] = b"\xff\xfe"
    samples[4] = {"png": png(4), "json": b"[1]"}
    samples[5] = {"png": png(5), "json": b"{"}
    samples[6] = {"png": b"no image at all", "txt": b"x"}
    lines = refusal(write_shard(tmp_path / "a.tar", samples)).splitlines()
    assert lines[1:] == [
        "  a.tar/000001 has no image beside 000001.txt",
        "  a.tar/000003 has a text that cannot be read: 'utf-8' codec can't decode byte 0xff in "
        "position 0: invalid start byte",
        "  a.tar/000004 has a text that cannot be read: 000004.json is no JSON object",
        "  a.tar/000005 has a text that cannot be read: Expecting property name enclosed in double "
        "quotes: line 1 column 2 (char 1)",
        "  a.tar/000002 has no text in 'text'",
        "  a.tar/000006 a.tar/000006.png is not an image Maquette reads: it begins with "
        "b'no image', which is none of JPEG, PNG, WebP, BMP, TIFF, GIF",
        "6 of 8 pairs cannot be used (75.00%, data.image_text.tolerance is 0.00%). Repair or "
        "remove them, or set them aside with data.image_text.tolerance=0.75.",
    ]


def test_a_member_twice_is_refused(tmp_path):
    path = write_shard(tmp_path / "a.tar", [{"png": png(0), "PNG": png(1), "txt": b"x"}])
    assert refusal(path) == f"{path} has the member 000000.PNG twice; write each key once."


def test_only_bad_samples_are_refused(tmp_path):
    path = write_shard(tmp_path / "a.tar", [{"txt": b"x"}])
    assert "1 of 1 pairs cannot be used" in refusal(path, tolerance=1.0)


def test_checking_shards_deals_them(tmp_path):
    report = check_pairs(data_of(made_shards(tmp_path)))
    assert report.summary["splits"] == {"train": 8, "valid": 2, "test": 2}


# The order of an epoch

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def shard_numbers(sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


@given(SIZES, st.integers(1, 12), st.integers(1, 4), st.integers(0, 3))
def test_every_sample_is_read_once_over_all_ranks(sizes, buffer, world, epoch):
    shards = shard_numbers(sizes)
    parts = [
        stream_order(shards, seed=1, epoch=epoch, buffer=buffer, rank=rank, world=world)
        for rank in range(world)
    ]
    assert {len(part) for part in parts} == {len(shards) // world}
    found = np.concatenate(parts)
    assert len(np.unique(found)) == len(found)
    assert len(shards) - len(found) < world


def test_a_buffer_of_one_reads_each_shard_in_sequence():
    shards = shard_numbers([4, 3, 5])
    order = stream_order(shards, seed=0, epoch=1, buffer=1)
    runs = {shards[order[0]]: order[:1].tolist()}
    for position in order[1:]:
        runs.setdefault(shards[position], []).append(int(position))
    assert runs == {0: [0, 1, 2, 3], 1: [4, 5, 6], 2: [7, 8, 9, 10, 11]}
    assert (np.diff(shards[order]) != 0).sum() == 2


def test_the_order_changes_with_epoch_and_seed_and_with_nothing_else():
    shards = shard_numbers([40, 30, 50])
    order = stream_order(shards, seed=0, epoch=1, buffer=20)
    random.seed(5)
    np.random.seed(5)
    assert np.array_equal(order, stream_order(shards, seed=0, epoch=1, buffer=20))
    assert not np.array_equal(order, stream_order(shards, seed=0, epoch=2, buffer=20))
    assert not np.array_equal(order, stream_order(shards, seed=1, epoch=1, buffer=20))


def test_the_buffer_bounds_how_early_a_sample_comes_and_mixes_what_it_holds():
    shards = np.zeros(2000, dtype=np.int64)
    order = stream_order(shards, seed=0, epoch=1, buffer=100)
    place = np.empty(2000, dtype=np.int64)
    place[order] = np.arange(2000)
    assert (np.arange(2000) - place).max() < 100
    # A sample waits a geometric time in the buffer: 100 places on average.
    assert 80 < (place - np.arange(2000))[:1500].mean() + 100 < 120
    assert not np.array_equal(order[:100], np.sort(order[:100]))
