"""Numbers in the documentation have one source, docs/results/, and each says how it was made.

That copies equal their source is looked at with the rest of a page, in test_docs.py.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pages
import pytest
from pages import PAGES, RESULTS, ROOT

from paraformer_asr import cli

TABLES = sorted(path for path in RESULTS.rglob("*.md") if path != RESULTS / "README.md")
SHOWN = {
    "toy.md": {"SPEC.md"},
    "digits.md": {"SPEC.md", "REAL_DATA.md"},
    "speed.md": {"SPEC.md"},
    "ablations/summary.md": {"ABLATIONS.md"},
}
"""Results and the pages that must show them; others may."""


def origin(path: Path) -> str:
    """The text that says how a file's numbers were made: its own, or the README beside it."""
    beside = path.parent / "README.md"
    there = beside if path.parent != RESULTS and beside.is_file() else path
    return there.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name)
def test_a_result_names_command_machine_and_seeds(path):
    text = origin(path)
    commands = re.findall(r"^    (\S.+)$", text, re.M)
    assert commands, f"{path.name} shows no command"
    assert re.search(r"^Machine: .*(core|GPU)", text, re.M)
    assert re.search(r"^Seeds?: ", text, re.M)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name)
def test_a_command_of_a_result_exists(path):
    for command in re.findall(r"^    (\S.+)$", origin(path), re.M):
        words = [word for word in command.split() if not re.fullmatch(r"[A-Z]+=\S+", word)]
        if words[:3] == ["python", "-m", "paraformer_asr"]:
            options = cli.read_arguments(words[3:])
            named = getattr(options, "config", None)
            assert named is None or "NAME" in named.name or (ROOT / named).is_file(), command
            continue
        script = words[0] if words[0].endswith(".sh") else words[1]
        folders = (ROOT, ROOT.parents[1])
        assert any((folder / script).is_file() for folder in folders), command


def test_the_list_of_results_is_whole():
    listed = set(re.findall(r"\]\(([^)]+)\)", (RESULTS / "README.md").read_text(encoding="utf-8")))
    found = {path.name for path in RESULTS.glob("*.md") if path.name != "README.md"}
    found |= {f"{path.name}/README.md" for path in RESULTS.iterdir() if path.is_dir()}
    assert listed == found


def test_pages_show_the_results():
    for name, wanted in SHOWN.items():
        showing = {
            page.name
            for page in PAGES
            for _, file, _ in pages.COPY.findall(page.read_text(encoding="utf-8"))
            if file == name
        }
        assert wanted <= showing, f"{wanted - showing} should copy {name}"


def test_every_copied_file_is_there():
    for page in PAGES:
        for _, name, _ in pages.COPY.findall(page.read_text(encoding="utf-8")):
            assert (RESULTS / name).is_file(), f"{page.name} copies {name}"


def test_error_rates_stand_in_copied_tables_only():
    """A number such as 1.23 % in a table is a measurement, or an example that says so."""
    for page in PAGES:
        rest = pages.COPY.sub("", pages.prose(page))
        for line in rest.splitlines():
            typed = re.search(r"\d+\.\d+ ± |\bCER\b[^|≤<]*\b\d+\.\d+ %", line)
            assert not typed, f"{page.name} has a measurement of its own: {line}"


def test_results_hold_no_paths_of_the_machine_that_made_them():
    for path in RESULTS.rglob("*"):
        if path.suffix in (".md", ".csv", ".json"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w.-])/(?:tmp|home|root|work|Users)/", text), path


def test_ablations_on_record_are_the_variants_of_the_script():
    """Once there are rows, a variant of another name has no command that makes it."""
    script = (ROOT / "scripts" / "ablations.sh").read_text(encoding="utf-8")
    variants = {
        line.split()[0] for line in script.partition("<<'END'\n")[2].split("\nEND\n")[0].split("\n")
    }
    summary = (RESULTS / "ablations" / "summary.md").read_text(encoding="utf-8")
    for table in pages.tables(summary):
        assert {row.split("|")[1].strip() for row in table[2:]} <= variants
    rows = RESULTS / "ablations" / "summary.csv"
    if rows.is_file():
        with rows.open(encoding="utf-8", newline="") as file:
            assert {row["configuration"] for row in csv.DictReader(file)} <= variants
