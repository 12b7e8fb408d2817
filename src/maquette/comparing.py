"""`maquette compare`: run folders side by side, as text and as one page.

The comparison itself is made in `track/compare.py`; this file adds the training curves and gives
both to the room that draws.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from maquette.evaluation.compare_page import Compared, MetricValues, write_comparison
from maquette.track.compare import Comparison, by_domain, compare, render, render_domains


def compare_runs(
    runs: Sequence[Path], *, html: Path | None = None, domains: bool = False
) -> list[str]:
    """Compare finished runs with the first of them; return lines to print.

    Args:
        html: also write the comparison as a page to this file.
        domains: also average the runs of each domain.
    Raises:
        UsageError: fewer than two, not a run folder, a run that has not ended, or one domain only.
        RunError: the page cannot be written.
    """
    comparison = compare(runs)
    lines = render(comparison).splitlines()
    if domains:
        lines += ["", *render_domains(comparison).splitlines()]
    if html is not None:
        write_comparison(html, compared(comparison, runs))
        lines += ["", f"page: {html}"]
    return lines


def compared(comparison: Comparison, runs: Sequence[Path]) -> Compared:
    """Gather what the page shows."""
    names, means = by_domain(comparison)
    return Compared(
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        letters=comparison.letters,
        runs=comparison.runs,
        facts=[(row.key, row.values) for row in comparison.facts],
        metrics=[
            MetricValues(
                name=row.name,
                values=row.values,
                intervals=row.intervals,
                is_clear=tuple(row.is_clear(run) for run in range(len(runs))),
            )
            for row in comparison.metrics
        ],
        histories=[_history(run) for run in runs],
        recipe=[(row.key, row.values) for row in comparison.recipe],
        domains=comparison.domains,
        domain_names=names,
        domain_means=[(row.name, row.means) for row in means],
        same_test_samples=comparison.same_test_samples,
    )


def _history(run: Path) -> list[dict[str, float]]:
    """Read metrics.csv; a run without one has no curves. What is not finite is left out."""
    file = run / "metrics.csv"
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return [
            {k: float(v) for k, v in row.items() if v and math.isfinite(float(v))}
            for row in csv.DictReader(lines)
        ]
