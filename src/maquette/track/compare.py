"""Put runs side by side: their metrics with intervals, and the recipe keys that differ.

Reads the run folders alone, so it works without a tracking store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from maquette.errors import UsageError
from maquette.track.run_facts import FACTS, facts_of
from maquette.track.text import table

Interval = tuple[float, float]

ABSENT = "–"


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric in every run; None where a run does not have it."""

    name: str
    values: tuple[float | None, ...]
    intervals: tuple[Interval | None, ...]

    def difference(self, run: int) -> float | None:
        """Return how far the run at this position is above the first one."""
        first, other = self.values[0], self.values[run]
        return None if first is None or other is None else other - first

    def is_clear(self, run: int) -> bool:
        """Whether the intervals of this run and the first one do not even touch."""
        first, other = self.intervals[0], self.intervals[run]
        return (
            first is not None and other is not None and (first[1] < other[0] or other[1] < first[0])
        )


@dataclass(frozen=True, kw_only=True)
class RecipeRow:
    """One recipe key that differs, as YAML text; "–" where a recipe does not have it."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side; every tuple inside has one entry per run, in this order."""

    runs: tuple[str, ...]
    metrics: tuple[MetricRow, ...]
    recipe: tuple[RecipeRow, ...]
    facts: tuple[RecipeRow, ...]
    """What each run was: task, domain, dataset, model, loss, …; only what some run knows."""
    same_test_samples: bool
    """Whether all runs were tested on the same samples; otherwise luck of the split differs too."""

    @property
    def letters(self) -> tuple[str, ...]:
        """A short name for each run: A, B, …, Z, then A1, B1, …"""
        alphabet = [chr(ord("A") + index) for index in range(26)]
        return tuple(
            alphabet[index % 26] + (str(index // 26) if index >= 26 else "")
            for index in range(len(self.runs))
        )

    @property
    def domains(self) -> tuple[str, ...]:
        """The domain of each run; "–" for one that has none."""
        row = next((row for row in self.facts if row.key == "domain"), None)
        return (ABSENT,) * len(self.runs) if row is None else row.values


@dataclass(frozen=True, kw_only=True)
class DomainRow:
    """One metric of the runs of each domain."""

    name: str
    means: tuple[float | None, ...]
    """Per domain, in the order of `domains_of`; None where no run of it has the metric."""


def compare(runs: Sequence[Path]) -> Comparison:
    """Compare finished runs with the first of them.

    Raises:
        UsageError: fewer than two, not a run folder, or a run that has not ended.
    """
    if len(runs) < 2:
        raise UsageError(
            f"compare takes two run folders or more, got {len(runs)}: "
            "maquette compare runs/ONE runs/OTHER."
        )
    whole = [_recipe(run) for run in runs]
    recipes = [dict(_flat(recipe)) for recipe in whole]
    summaries = [_summary(run) for run in runs]
    tests = [_test_samples(run) for run in runs]
    return Comparison(
        runs=tuple(run.resolve().name for run in runs),
        metrics=tuple(_metric_rows(summaries)),
        recipe=tuple(_recipe_rows(recipes)),
        facts=tuple(_fact_rows(whole, summaries)),
        same_test_samples=all(test == tests[0] for test in tests),
    )


def render(comparison: Comparison) -> str:
    """Write a comparison as plain text: the runs by letter, what they are, metrics, recipe keys."""
    letters = comparison.letters
    runs = table([[letter, run] for letter, run in zip(letters, comparison.runs, strict=True)])
    parts = [runs]
    if comparison.facts:
        facts = [[row.key, *map(_short, row.values)] for row in comparison.facts]
        parts.append(table([["run", *letters], *facts]))
    parts.append(_metric_table(comparison, letters))
    if any(row.is_clear(run) for row in comparison.metrics for run in range(1, len(letters))):
        parts.append("* the two intervals do not overlap")
    if not comparison.same_test_samples:
        parts.append("The runs were tested on different samples, so differences include luck.")
    if comparison.recipe:
        rows = [[row.key, *row.values] for row in comparison.recipe]
        parts.append(table([["recipe", *letters], *rows]))
    else:
        parts.append("The recipes are the same.")
    return "\n\n".join(parts)


def by_domain(comparison: Comparison) -> tuple[tuple[str, ...], tuple[DomainRow, ...]]:
    """Return the domains in the order they appear, and the mean of each metric over their runs."""
    names = tuple(dict.fromkeys(comparison.domains))
    rows = []
    for metric in comparison.metrics:
        means = []
        for name in names:
            values = [
                value
                for value, domain in zip(metric.values, comparison.domains, strict=True)
                if domain == name and value is not None
            ]
            means.append(sum(values) / len(values) if values else None)
        rows.append(DomainRow(name=metric.name, means=tuple(means)))
    return names, tuple(rows)


def render_domains(comparison: Comparison) -> str:
    """Write the means of each domain as plain text.

    Raises:
        UsageError: all runs are of one domain.
    """
    names, rows = by_domain(comparison)
    if len(names) < 2:
        raise UsageError(
            f"All runs are of the same domain ({names[0]}), so there is nothing to group; leave "
            "--domain out."
        )
    counts = [f"{name} ({comparison.domains.count(name)})" for name in names]
    lines = [[row.name, *(_value(mean, None) for mean in row.means)] for row in rows]
    return table([["mean over runs", *counts], *lines])


def _short(text: str) -> str:
    """The end of a long path says more than its beginning."""
    return text if len(text) <= 32 else f"…{text[-31:]}"


def _metric_table(comparison: Comparison, letters: Sequence[str]) -> str:
    header = ["metric", *letters, *(f"{letter} - {letters[0]}" for letter in letters[1:])]
    rows = [
        [
            row.name,
            *(_value(v, i) for v, i in zip(row.values, row.intervals, strict=True)),
            *(_difference(row, run) for run in range(1, len(letters))),
        ]
        for row in comparison.metrics
    ]
    return table([header, *rows])


def _value(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return ABSENT
    around = "" if interval is None else f" [{interval[0]:.4g}, {interval[1]:.4g}]"
    return f"{value:.4g}{around}"


def _difference(row: MetricRow, run: int) -> str:
    difference = row.difference(run)
    if difference is None:
        return ABSENT
    return f"{difference:+.4g}{' *' if row.is_clear(run) else ''}"


def _metric_rows(summaries: Sequence[Mapping[str, Any]]) -> Iterator[MetricRow]:
    """Yield every metric any run has: test metrics first, in the order the runs give them."""
    names = list(dict.fromkeys(name for summary in summaries for name in summary["metrics"]))
    for name in sorted(names, key=lambda name: not name.startswith("test/")):
        yield MetricRow(
            name=name,
            values=tuple(summary["metrics"].get(name) for summary in summaries),
            intervals=tuple(_interval(summary, name) for summary in summaries),
        )


def _interval(summary: Mapping[str, Any], name: str) -> Interval | None:
    found = summary.get("intervals", {}).get(name)
    return None if found is None else (float(found[0]), float(found[1]))


def _recipe_rows(recipes: Sequence[Mapping[str, Any]]) -> Iterator[RecipeRow]:
    """Yield the keys whose values are not the same in every recipe."""
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        values = tuple(_shown(recipe[key]) if key in recipe else ABSENT for recipe in recipes)
        if len(set(values)) > 1:
            yield RecipeRow(key=key, values=values)


def _fact_rows(
    recipes: Sequence[Mapping[str, Any]], summaries: Sequence[Mapping[str, Any]]
) -> Iterator[RecipeRow]:
    """Yield every fact that some run knows."""
    facts = [facts_of(recipe, summary) for recipe, summary in zip(recipes, summaries, strict=True)]
    for name in FACTS:
        if any(name in fact for fact in facts):
            yield RecipeRow(key=name, values=tuple(fact.get(name, ABSENT) for fact in facts))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ("training.epochs", 50) for every leaf of nested mappings."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _recipe(run: Path) -> dict[str, Any]:
    file = run / "recipe.yaml"
    if not file.is_file():
        raise UsageError(
            f"{run} is not a run folder: it has no recipe.yaml. "
            "`maquette train RECIPE` prints the folder of its run as its last line."
        )
    recipe: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return recipe


def _summary(run: Path) -> dict[str, Any]:
    file = run / "summary.json"
    if not file.is_file():
        raise UsageError(
            f"{run} has no summary.json, so its run has not ended. "
            f"`maquette train --resume {run}` continues it."
        )
    summary: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return summary


def _test_samples(run: Path) -> list[str]:
    file = run / "splits.json"
    if not file.is_file():
        return []
    samples: list[str] = json.loads(file.read_text(encoding="utf-8")).get("test", [])
    return samples
