"""Code that follows a file in repos/ says so: `# Adapted from repos/NAME/FILE`.

A file follows another one when it shares at least `LEAST_LINES` lines with it (similarity.py says
what counts as shared), and these are at least `LEAST_SHARE` of its lines, or `MANY_LINES` in all.
Lines shared with an origin that the file names are accounted for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from maquette.research.checking.rules.base import Finding, Project
from maquette.research.checking.rules.similarity import (
    Fingerprint,
    fingerprint,
    run_hashes,
    shared_lines,
)
from maquette.research.checking.sources import Source, python_files

LEAST_LINES = 12
LEAST_SHARE = 0.3
MANY_LINES = 40

_NAMED = re.compile(r"Adapted from\s+`{0,2}(?P<path>repos/[^\s`'\",;()]+)", re.IGNORECASE)


def origins(project: Project) -> Iterator[Finding]:
    """Report files much like one in repos/ that do not name it, and names of files not there."""
    repos = project.workspace.repos
    for source in project.sources:
        yield from _misnamed(source, project.workspace.path, has_repos=repos.is_dir())
    if not repos.is_dir():
        return
    prints = {source.name: fingerprint(source.text) for source in project.sources}
    told = {
        source.name: _told_lines(source, prints[source.name], project) for source in project.sources
    }
    best: dict[str, tuple[int, str, int]] = {}
    for path in python_files(repos):
        runs = run_hashes(path.read_text(encoding="utf-8", errors="replace"))
        for source in project.sources:
            shared = shared_lines(prints[source.name], runs) - told[source.name]
            if _follows(len(shared), prints[source.name].num_lines):
                origin = path.relative_to(project.workspace.path).as_posix()
                found = (len(shared), origin, min(shared))
                best[source.name] = max(best.get(source.name, found), found)
    for name, (count, origin, line) in best.items():
        yield Finding(
            rule="origins",
            path=f"project/{name}",
            line=line,
            message=f"{count} of {prints[name].num_lines} lines are as in {origin}, unnamed.",
            remedy=f"Put `# Adapted from {origin}` above them, or write them anew.",
        )


def _follows(shared: int, of_lines: int) -> bool:
    return shared >= MANY_LINES or (shared >= LEAST_LINES and shared >= LEAST_SHARE * of_lines)


def _named(source: Source) -> Iterator[tuple[int, str]]:
    """Yield (line, path below the workspace) of every origin that a file names."""
    for match in _NAMED.finditer(source.text):
        path = re.sub(r"(?:#L\d.*|:\d[\d:-]*|[.:])$", "", match["path"])
        yield source.text.count("\n", 0, match.start()) + 1, path


def _told_lines(source: Source, ours: Fingerprint, project: Project) -> frozenset[int]:
    lines: frozenset[int] = frozenset()
    for _, name in _named(source):
        path = project.workspace.path / name
        if path.is_file():
            runs = run_hashes(path.read_text(encoding="utf-8", errors="replace"))
            lines |= shared_lines(ours, runs)
    return lines


def _misnamed(source: Source, workspace: Path, *, has_repos: bool) -> Iterator[Finding]:
    for line, name in _named(source):
        if not (workspace / name).exists():
            yield Finding(
                rule="origins",
                path=f"project/{source.name}",
                line=line,
                message=(
                    f"There is no {name} in the workspace."
                    if has_repos
                    else f"{name} cannot be looked at: the workspace has no repos/."
                ),
                remedy=(
                    "Correct the path of the origin."
                    if has_repos
                    else "Keep the code that was studied there, if others should compare."
                ),
                note=not has_repos,
            )
