"""What the documentation points at exists: files, headings, verbs, make targets, recipe keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from maquette.cli import app

ROOT = Path(__file__).resolve().parents[2]
BESIDE = ("README", "ARCHITECTURE", "API", "CONTRIBUTING", "CHANGELOG")
DOCUMENTS = [ROOT / f"{name}.md" for name in BESIDE] + sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```\w*\n(.*?)```|`([^`\n]+)`", re.S)
VERB = re.compile(r"(?:^|[\s$(=])maquette ([a-z]+)(?![\w.])", re.M)
TARGETS = re.compile(r"(?:^|\s)make ((?:[a-z-]+ )*[a-z-]+)\b", re.M)

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def code_of(document: Path) -> Iterator[str]:
    """Yield the fenced blocks and the code spans."""
    for block, span in CODE.findall(document.read_text(encoding="utf-8")):
        yield block or span


def slug(heading: str) -> str:
    """The anchor that GitHub and MkDocs give a heading."""
    plain = re.sub(r"[^\w\s-]", "", heading.lower())
    return re.sub(r"[\s]+", "-", plain.strip())


def headings(document: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.S)
    return {slug(line) for line in re.findall(r"^#+ (.+)$", text, re.M)}


@every_document
def test_links_lead_somewhere(document):
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.S)
    text = re.sub(r"`[^`\n]*`|^    .*$", "", text, flags=re.M)
    for target in LINK.findall(text):
        if re.match(r"https?://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), f"{document.name} links to {target}, which does not exist"
        if anchor and path.suffix != ".json":  # a number and its record: test_numbers.py
            assert anchor in headings(path), f"{document.name} links to {target}: no such heading"


def verbs() -> set[str]:
    """What may follow `maquette`: the commands, and the groups of commands."""
    commands = {command.callback.__name__ for command in app.registered_commands}
    return commands | {group.name for group in app.registered_groups}


@every_document
def test_verbs_exist(document):
    named = {verb for code in code_of(document) for verb in VERB.findall(code)}
    assert named <= verbs()


def test_the_first_page_names_every_verb():
    named = set(
        VERB.findall((ROOT / "docs/index.md").read_text(encoding="utf-8").replace("`", " "))
    )
    assert named == verbs()


@every_document
def test_make_targets_exist(document):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    named = {
        t for code in code_of(document) for names in TARGETS.findall(code) for t in names.split()
    }
    assert named <= targets


@every_document
def test_a_document_speaks_of_nothing_private(document):
    text = document.read_text(encoding="utf-8")
    private = re.findall(r"(?<![\w.:/])/(?:home|root|work|Users|tmp)/\S*", text)
    private += re.findall(r"\bissue #?\d+|\bsessions?\b|\bTODO\b|\bTBD\b", text, re.I)
    assert private == []
