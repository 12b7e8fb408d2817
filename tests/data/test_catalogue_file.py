"""The catalogue's YAML: the shipped one is complete, and mistakes in one are named by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from maquette.data.catalogue_file import Repository, read_catalogue
from maquette.errors import DataError

GOOD = """\
flowers:
  about: 150 flowers
  task: table classification
  homepage: https://example.org/flowers
  citation: Fisher 1936
  licence: CC0
  source: a garden
  repositories:
    - address: https://example.org/garden
      commit: 0123456789012345678901234567890123456789
    - address: https://example.org/meadow
  file: tables/flowers.csv
  sha256: 1111111111111111111111111111111111111111111111111111111111111111
  size: 12
  prepared: by hand
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "catalogue.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def error_of(folder: Path, text: str) -> str:
    path = write(folder, text)
    with pytest.raises(DataError) as caught:
        read_catalogue(path)
    return str(caught.value).replace(str(path), "FILE")


def test_the_shipped_catalogue_says_where_everything_is_from():
    entries = read_catalogue()
    assert list(entries) == sorted(entries)
    for name, entry in entries.items():
        assert entry.about[0].isdigit(), f"{name} does not begin with a count"
        assert entry.repositories or entry.file is None, name
        assert entry.url or entry.prepared, name


def test_a_good_entry(tmp_path: Path):
    entry = read_catalogue(write(tmp_path, GOOD))["flowers"]
    assert entry.repositories == (
        Repository(address="https://example.org/garden", commit="0123456789" * 4),
        Repository(address="https://example.org/meadow"),
    )
    assert (entry.file, entry.member, entry.size, entry.url) == ("tables/flowers.csv", "", 12, "")


ONES = "1" * 64
EXPECTED = {
    "no mapping": (("flowers:", "- flowers:"), "FILE:1: the catalogue must be a mapping of names"),
    "name": (
        ("flowers:", "Flowers!:"),
        "FILE:1: the name 'Flowers!' must be lower-case letters, digits and underscores, a letter "
        "first.",
    ),
    "unknown key": (
        ("  licence: CC0", "  license: CC0"),
        "FILE:6: flowers has the unknown key 'license'. Did you mean 'licence'? Known: about, "
        "task, homepage, citation, licence, source, repositories, file, member, sha256, size, url, "
        "prepared.",
    ),
    "missing": (("  task: table classification\n", ""), "FILE:2: flowers lacks task."),
    "twice": (("  task:", "  about: again\n  task:"), "FILE:3: flowers has 'about' twice."),
    "empty": (("about: 150 flowers", "about:"), "FILE:2: flowers.about must be a text, not empty."),
    "list": (("licence: CC0", "licence: [CC0]"), "FILE:6: flowers.licence must be a text, not"),
    "size": (("size: 12", "size: 1 MB"), "FILE:14: flowers.size is '1 MB', expected a number of"),
    "sha256": (
        (f"sha256: {ONES}", "sha256: 1a2b"),
        "FILE:13: flowers.sha256 is '1a2b', expected 64 hexadecimal digits in lower case.",
    ),
    "commit": (
        (f"commit: {'0123456789' * 4}", "commit: main"),
        "FILE:10: flowers.repositories[0].commit is 'main', expected 40 hexadecimal digits in "
        "lower case.",
    ),
    "address": (
        ("    - address: https://example.org/meadow", "    - {}"),
        "FILE:11: flowers.repositories[1] lacks address.",
    ),
    "repositories": (
        ("  repositories:\n", "  repositories:\n    here:\n"),
        "FILE:9: flowers.repositories must be a list.",
    ),
    "homepage": (
        ("homepage: https://example.org/flowers", "homepage: example.org"),
        "FILE:4: flowers.homepage is 'example.org', expected an http(s) address.",
    ),
    "file": (
        ("file: tables/flowers.csv", "file: ../flowers.csv"),
        "FILE:12: flowers.file is '../flowers.csv', expected a relative path below the mirror.",
    ),
    "member": (
        ("file: tables/flowers.csv", "file: tables/flowers.zip"),
        "FILE:2: flowers.member must say what a recipe opens when `file` is a zip, and only then.",
    ),
    "prepared": (
        ("  prepared: by hand\n", ""),
        "FILE:2: flowers needs either `url`, where the file lies on the open internet, or "
        "`prepared`, how it was made from its source.",
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_mistakes_are_named_by_line(tmp_path: Path, name: str):
    (old, new), message = EXPECTED[name]
    assert old in GOOD
    assert error_of(tmp_path, GOOD.replace(old, new)).startswith(message)


def test_no_yaml_and_no_file(tmp_path: Path):
    assert error_of(tmp_path, "a: [").startswith("The catalogue FILE cannot be read: while parsing")
    assert error_of(tmp_path, "").startswith("FILE:1: the catalogue must be a mapping")
    with pytest.raises(DataError, match=r"cannot be read: .*No such file"):
        read_catalogue(tmp_path / "none.yaml")
