"""What `maquette data list` prints: the catalogue as a table, and one entry with all it says."""

from __future__ import annotations

from maquette.data.catalogue import CATALOGUE, cached_path, is_here
from maquette.errors import UsageError, one_of


def table_lines() -> list[str]:
    """Return one line per data set: name, size, whether it is in the cache, task, what it is."""
    rows = [("name", "MB", "here", "task", "what it is")]
    for name, entry in CATALOGUE.items():
        here = "yes" if is_here(name, entry) else "-"
        rows.append((name, f"{entry.size / 1e6:.2f}", here, entry.task, entry.about))
    wide = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        f"{name:<{wide[0]}}  {size:>{wide[1]}}  {here:<{wide[2]}}  {task:<{wide[3]}}  {about}"
        for name, size, here, task, about in rows
    ]


def entry_lines(name: str) -> list[str]:
    """Return everything the catalogue says of one data set.

    Raises:
        UsageError: no data set has that name.
    """
    if name not in CATALOGUE:
        raise UsageError(one_of("data set", name, CATALOGUE))
    entry = CATALOGUE[name]
    where = cached_path(name, entry) if is_here(name, entry) else f"maquette data get {name}"
    facts = [
        ("name", name),
        ("about", entry.about),
        ("task", entry.task),
        ("homepage", entry.homepage),
        ("cite", entry.citation),
        ("licence", entry.licence),
        ("source", entry.source),
        *(("", f"{origin.address} {origin.commit}".rstrip()) for origin in entry.repositories),
        ("file", f"{entry.file} of the mirror" if entry.file else "made on this machine"),
        ("internet", entry.url or "not in this form"),
        ("prepared", entry.prepared or "unchanged"),
        ("sha256", entry.sha256),
        ("bytes", str(entry.size)),
        ("recipe", f"{'tokenizer' if entry.task == 'tokenizer' else 'path'}: catalogue:{name}"),
        ("here", str(where)),
    ]
    return [f"{key:<9} {fact}" for key, fact in facts]
