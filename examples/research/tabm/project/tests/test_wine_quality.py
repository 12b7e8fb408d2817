import hashlib

import numpy as np
import pytest

from data import dataset
from data.dataset import load_wine_quality
from data.preprocess import prepare, split_rows


def test_wine_quality_is_read_whole(wine):
    assert wine.numbers.shape == (5217, 11)
    assert np.bincount(wine.y).tolist() == [195, 1710, 2304, 850, 158]
    assert set(wine.categories[:, 0]) == {"red", "white"}
    assert len(set(wine.groups)) == 4278


def test_equal_rows_stay_on_one_side_and_every_row_is_dealt(wine):
    splits = split_rows(wine.groups, seed=3)
    assert np.array_equal(np.sort(np.concatenate(splits)), np.arange(5217))
    groups = [set(wine.groups[rows]) for rows in splits]
    assert [len(chosen) for chosen in groups] == [2567, 855, 856]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_a_seed_is_a_split(wine):
    first, again, other = (prepare(wine, seed) for seed in (0, 0, 1))
    assert first.train.x.equal(again.train.x)
    assert first.test.x.shape[0] != other.test.x.shape[0] or not first.test.y.equal(other.test.y)


def test_without_a_mirror_the_error_says_how_the_file_was_made(tmp_path, monkeypatch):
    monkeypatch.setenv("RESEARCH_DATA", str(tmp_path))
    monkeypatch.delenv("RESEARCH_MIRROR", raising=False)
    monkeypatch.delenv("MAQUETTE_DATA_MIRROR", raising=False)
    with pytest.raises(SystemExit, match=r"RESEARCH_MIRROR .* 80 % of the rows"):
        load_wine_quality()


def test_a_file_comes_from_the_mirror_once(tmp_path, monkeypatch):
    cache, mirror = tmp_path / "cache", tmp_path / "a mirror"
    mirror.mkdir()
    (mirror / "table.csv").write_text("a,b\n1,2\n")
    digest = hashlib.sha256(b"a,b\n1,2\n").hexdigest()
    monkeypatch.setenv("RESEARCH_DATA", str(cache))
    monkeypatch.setenv("RESEARCH_MIRROR", str(mirror))
    file = dataset.fetch("table.csv", digest, made="by hand")
    (mirror / "table.csv").unlink()
    assert dataset.fetch("table.csv", digest, made="by hand") == file
    assert file.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("content", ["other bytes", None])
def test_other_bytes_and_no_file_are_errors_and_leave_nothing(tmp_path, monkeypatch, content):
    monkeypatch.setenv("RESEARCH_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("RESEARCH_MIRROR", str(tmp_path))
    if content:
        (tmp_path / "table.csv").write_text(content)
    with pytest.raises(SystemExit, match="another file" if content else "Could not read"):
        dataset.fetch("table.csv", "0" * 64, made="by hand")
    assert not (tmp_path / "cache").exists()
