"""What a rule reads and what it says: the one protocol of all rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from maquette.research.checking.sources import Source
from maquette.research.notes import Notes
from maquette.research.planning.plan import Item, Plan
from maquette.research.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as the plan and the implementation guide ask."""

    rule: str
    """Name of the rule, see check.RULES."""
    path: str
    """Below the workspace: "project/model/tabm.py"."""
    line: int
    """From 1; 0 for a whole file, or one that is missing."""
    message: str
    """What is wrong, a sentence."""
    remedy: str
    """The smallest fix, a sentence."""
    note: bool = False
    """Worth knowing only: the check does not fail because of it."""

    def __str__(self) -> str:
        """Write it on one line: where, what, the fix, the rule."""
        where = f"{self.path}:{self.line}" if self.line else self.path
        mark = "note: " if self.note else ""
        return f"{where}: {mark}{self.message} {self.remedy} [{self.rule}]"


@dataclass(frozen=True)
class Project:
    """A workspace as the rules see it."""

    workspace: Workspace
    plan: Plan
    notes: Notes
    sources: tuple[Source, ...]
    """The Python files of the project."""

    @cached_property
    def by_name(self) -> Mapping[str, Source]:
        """The files by their path below the project."""
        return {source.name: source for source in self.sources}

    @cached_property
    def modules(self) -> frozenset[str]:
        """What the project's own code can import: "model", "model.tabm", "run"."""
        found = {source.module for source in self.sources}
        for source in self.sources:
            found |= {".".join(source.package[: i + 1]) for i in range(len(source.package))}
        return frozenset(found)

    def promised(self) -> Iterator[Item]:
        """Yield the plan's items that no bullet under Deviations is about."""
        for item in self.plan.items:
            if self.notes.deviation(item.name) is None:
                yield item

    def named(self, item: Item) -> str:
        """Name an item with its place in the plan: "metric 'Accuracy' (plan_res.md:31)"."""
        return f"{item.kind} {item.name!r} ({self.workspace.plan_file.name}:{item.line})"


Rule = Callable[[Project], Iterable[Finding]]
