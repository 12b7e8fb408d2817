"""The tables of measured results in the documents are copies of the files in docs/results/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "docs" / "results"
DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
COPY = re.compile(r"^<!-- copy of: (?P<file>\S+) -->\n\n(?P<table>(?:\|.*\n)+)", re.M)
"""A comment that names a file in docs/results/, an empty line, a table."""


def copies() -> list[tuple[str, str, str]]:
    return [
        (document.name, found["file"], found["table"])
        for document in DOCUMENTS
        for found in COPY.finditer(document.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("document", "file", "table"), copies(), ids=lambda x: str(x)[:40])
def test_a_table_is_a_copy_of_the_file_it_names(document, file, table):
    assert table in (RESULTS / file).read_text(encoding="utf-8"), f"{document} differs from {file}"


def test_the_ablations_and_the_readme_show_results_on_record():
    assert {document for document, _, _ in copies()} >= {"ABLATIONS.md", "README.md"}


def test_every_result_is_described():
    page = (RESULTS / "README.md").read_text(encoding="utf-8")
    for path in RESULTS.iterdir():
        if path.name != "README.md":
            assert f"({path.name}" in page, f"docs/results/README.md does not name {path.name}"


def test_results_hold_no_paths_of_the_machine_that_made_them():
    for path in RESULTS.rglob("*"):
        if path.suffix in (".md", ".csv", ".json", ".yaml", ".txt"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w.])/(?:tmp|home|work|root)/", text), path
