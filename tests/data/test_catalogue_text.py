"""`maquette data list|get`: what a person sees, and what a script can use."""

from __future__ import annotations

from pathlib import Path

import pytest

from maquette.cli import data_app, main


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no mirror."""
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path))
    monkeypatch.delenv("MAQUETTE_DATA_MIRROR", raising=False)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    """Return exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as ended:
        main(["data", *arguments])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_list_is_a_table(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, "list")
    assert code == 0
    header, *rows = out.splitlines()
    assert header.split() == ["name", "MB", "here", "task", "what", "it", "is"]
    assert [row.split()[0] for row in rows[:2]] == ["adult", "california_housing"]
    (openstax,) = (row for row in rows if row.startswith("openstax_figures"))
    assert openstax.split()[1:5] == ["18.13", "-", "image-text", "pairs"]
    assert openstax[header.index("what") :].startswith("2333 figures")


def test_get_prints_the_path_and_list_then_knows(capsys: pytest.CaptureFixture[str], cache: Path):
    code, out, err = run(capsys, "get", "digits")
    assert (code, err) == (0, "")
    folder = Path(out.removesuffix("\n"))
    assert folder.is_relative_to(cache)
    assert (folder / "0").is_dir()

    _, out, _ = run(capsys, "list")
    (digits,) = (row for row in out.splitlines() if row.startswith("digits"))
    assert digits.split()[2] == "yes"
    _, out, _ = run(capsys, "list", "digits")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["here"] == str(folder)
    assert lines["file"] == "made on this machine"


def test_one_entry_with_all_it_says(capsys: pytest.CaptureFixture[str]):
    _, out, _ = run(capsys, "list", "penguins")
    assert out.splitlines() == [
        "name      penguins",
        "about     283 penguins with missing cells, dates and free text; target Species, 3 classes",
        "task      table classification",
        "homepage  https://allisonhorst.github.io/palmerpenguins/",
        "cite      Horst, Hill and Gorman 2020, palmerpenguins, doi:10.5281/zenodo.3960218",
        "licence   CC0",
        "source    GitHub allisonhorst/palmerpenguins, penguins_raw.csv (80 % of the rows)",
        "          https://github.com/allisonhorst/palmerpenguins "
        "8957207b78d6ccd1b4654a9dd9c9041b657478ab",
        "file      tabular/penguins_train.csv of the mirror",
        "internet  not in this form",
        "prepared  from inst/extdata/penguins_raw.csv of the repository; about 80 % of the rows "
        "were drawn by a hash of the row number.",
        "sha256    ed87b5df3647fd28ab269b6558ce05f94216a08dbf8b4cb84ecdeb44870c21c1",
        "bytes     43670",
        "recipe    path: catalogue:penguins",
        "here      maquette data get penguins",
    ]


def test_a_tokenizer_is_no_path(capsys: pytest.CaptureFixture[str]):
    _, out, _ = run(capsys, "list", "clip_vocab")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    assert lines["recipe"] == "tokenizer: catalogue:clip_vocab"
    assert lines["prepared"] == "unchanged"
    assert lines["internet"].startswith("https://")


@pytest.mark.parametrize("command", ["list", "get"])
def test_an_unknown_name(capsys: pytest.CaptureFixture[str], command: str):
    code, out, err = run(capsys, command, "pengins")
    assert (code, out) == (2, "")
    assert err.startswith("usage: Unknown data set 'pengins'. Did you mean 'penguins'? Available:")


def test_get_without_a_mirror(capsys: pytest.CaptureFixture[str]):
    code, out, err = run(capsys, "get", "openstax_figures")
    assert (code, out) == (1, "")
    assert err.startswith("error: MAQUETTE_DATA_MIRROR is not set, and openstax_figures/")
    assert "it was made so: figure elements of the CNXML files" in err


@pytest.mark.parametrize("command", ["list", "get"])
def test_help_ends_with_an_example(capsys: pytest.CaptureFixture[str], command: str):
    assert command in [registered.name for registered in data_app.registered_commands]
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"Example: maquette data {command}" in " ".join(out.split())
