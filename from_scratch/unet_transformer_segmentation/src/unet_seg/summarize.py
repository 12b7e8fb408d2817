"""Several runs in one table: summary.csv (a row a run), summary.md (a row a configuration), plots.

Runs of one configuration `name` with different seeds are one group, reported as mean and standard
deviation over the seeds.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_seg.errors import SegError
from unet_seg.plots import draw_comparison
from unet_seg.runs import read_config, write_atomic

SCORES = ("valid/mean_iou", "valid/mean_iou_foreground", "valid/mean_dice", "test/mean_iou")


def summarize(paths: Sequence[Path], out: Path) -> str:
    """Gather finished runs; writes three files into `out` and returns the Markdown table.

    Args:
        paths: run folders, or folders that hold run folders.
        out: folder for summary.csv, summary.md and comparison.png; made if absent.
    Raises:
        SegError: a path is no folder, or no run there has been validated yet.
    """
    runs = find_runs(paths)
    rows = [row for run in runs if (row := read_run(run)) is not None]
    if not rows:
        raise SegError(
            f"no finished run in {', '.join(map(str, paths))}; a run counts once it has been "
            "validated and holds metrics.json."
        )
    out.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda r: (r["name"], r["seed"])):
        groups.setdefault(row["name"], []).append(row)
    table = markdown(groups)
    write_atomic(out / "summary.csv", _csv(rows))
    write_atomic(out / "summary.md", f"# Summary of {len(rows)} runs\n\n{table}\n")
    draw_comparison(
        {name: [Path(row["run"]) for row in group] for name, group in groups.items()},
        {name: [row["valid/mean_iou"] for row in group] for name, group in groups.items()},
        out / "comparison.png",
    )
    return table


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The run folders among `paths` and directly in them, in the order of their names."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise SegError(f"{path}: no such folder.")
        if (path / "config.yaml").is_file():
            found.append(path)
        else:
            found.extend(sorted(p.parent for p in path.glob("*/config.yaml")))
    return list(dict.fromkeys(found))


def read_run(run: Path) -> dict[str, Any] | None:
    """One row: what was run, what came out, what it cost. None for a run without a result yet."""
    path = run / "metrics.json"
    if not path.is_file():
        return None
    metrics = json.loads(path.read_text(encoding="utf-8"))
    config = read_config(run)
    row: dict[str, Any] = {
        "run": str(run),
        "name": config.name,
        "seed": config.seed,
        "model": config.model.name,
        "loss": config.loss.name,
        **{name: metrics[name] for name in metrics if name.startswith("valid/")},
        **{n: metrics[n] for n in ("best_step", "step", "seconds", "parameters", "peak_memory_mb")},
    }
    for split in ("valid", "test"):
        evaluation = run / f"evaluation_{split}.json"
        if split == "test" and evaluation.is_file():
            scores = json.loads(evaluation.read_text(encoding="utf-8"))
            row |= {f"test/{n}": v for n, v in scores.items() if isinstance(v, float)}
    return row


def markdown(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A Markdown table, a row a configuration: runs, scores as mean ± deviation, cost."""
    rows = [row for group in groups.values() for row in group]
    shown = [name for name in SCORES if any(row.get(name) is not None for row in rows)]
    head = ["configuration", "runs", *shown, "seconds", "parameters"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name, group in groups.items():
        cells = [name, str(len(group)), *(spread([r.get(s) for r in group]) for s in shown)]
        cells.append(f"{statistics.median(row['seconds'] for row in group):.0f}")
        cells.append(f"{group[0]['parameters']:,}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: Sequence[float | None]) -> str:
    """Mean and sample standard deviation, such as "0.912 ± 0.004"; "-" where there is no value."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = statistics.fmean(known)
    return f"{mean:.4f} ± {statistics.stdev(known):.4f}" if len(known) > 1 else f"{mean:.4f}"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
