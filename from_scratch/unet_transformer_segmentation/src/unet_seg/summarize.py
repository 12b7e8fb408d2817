"""Several runs in one table: summary.csv (a row a run), summary.md (a row a configuration), plots.

Start reading at `summarize`. Runs of one configuration that differ in the seed alone are a group,
reported as mean and sample standard deviation over its runs. Runs that share a `name` but were
started with other overrides are other configurations: what they differ in is added to their names.

Groups are compared with a baseline seed by seed. Two runs with one seed see the same data, so most
of what a seed changes falls out of the difference of their scores.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_seg.config import Config, config_to_dict
from unet_seg.errors import SegError
from unet_seg.plots import draw_comparison
from unet_seg.runs import read_config, write_atomic

SCORES = (
    *("valid/mean_iou", "valid/mean_iou_foreground", "valid/mean_dice"),
    *("test/mean_iou", "test/mean_iou_foreground", "test/mean_dice"),
)
"""Scores that the tables show where runs have them; test/ is what `evaluate` has written."""

COMPARED = ("valid/mean_iou", "test/mean_iou")
"""Scores that are compared with the baseline's, seed by seed."""

COSTS = ("best_step", "step", "seconds", "parameters", "peak_memory_mb")

NOT_COMPARED = ("name", "seed", "out", "train.device", "train.num_workers")
"""Keys in which runs of one group may differ."""

Row = dict[str, Any]
Groups = dict[str, list[Row]]


def summarize(paths: Sequence[Path], out: Path, *, baseline: str | None = None) -> str:
    """Gather finished runs; writes three files into `out` and returns the Markdown tables.

    Args:
        paths: run folders, or folders that hold run folders.
        out: folder for summary.csv, summary.md and comparison.png; made if absent.
        baseline: the group that the others are compared with; the first in the table by default.
    Raises:
        SegError: a path is no folder, no run there has been validated yet, a result file is
            damaged, or no group is called `baseline`.
    """
    rows = [row for run in find_runs(paths) if (row := read_run(run)) is not None]
    if not rows:
        raise SegError(
            f"no finished run in {', '.join(map(str, paths))}; a run counts once it has been "
            "validated and holds metrics.json."
        )
    groups = group(rows)
    text = f"{markdown(groups)}{compare(groups, baseline or next(iter(groups)))}"
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "summary.csv", _csv([row for rows in groups.values() for row in rows]))
    write_atomic(out / "summary.md", f"# Summary of {len(rows)} runs\n\n{text}\n")
    draw_comparison(
        {name: [Path(row["run"]) for row in rows] for name, rows in groups.items()},
        {name: [row["valid/mean_iou"] for row in rows] for name, rows in groups.items()},
        out / "comparison.png",
    )
    return text


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


def read_run(run: Path) -> Row | None:
    """One row: what was run, what came out, what it cost. None for a run without a result yet.

    Scores of the evaluation on the test split stand under "test/" and those of its classes under
    "test/iou/CLASS", if there is an evaluation.
    """
    if not (run / "metrics.json").is_file():
        return None
    metrics, config = _read_json(run / "metrics.json"), read_config(run)
    missing = [name for name in ("valid/mean_iou", *COSTS) if name not in metrics]
    if missing:
        raise SegError(f"{run / 'metrics.json'}: lacks {', '.join(missing)}; run it again.")
    row: Row = {
        "run": str(run),
        "name": config.name,
        "seed": config.seed,
        "model": config.model.name,
        "loss": config.loss.name,
        **{name: value for name, value in metrics.items() if name.startswith("valid/")},
    }
    evaluation = run / "evaluation_test.json"
    if evaluation.is_file():
        scores = _read_json(evaluation)
        row |= {f"test/{n}": v for n, v in scores.items() if isinstance(v, float)}
        classes = scores.get("per_class", {})
        row |= {f"test/iou/{name}": values["iou"] for name, values in classes.items()}
    row |= {name: metrics[name] for name in COSTS}
    return row


def group(rows: Sequence[Row]) -> Groups:
    """Rows by configuration, in the order of names and seeds; each gets its group as "name"."""
    named: Groups = {}
    for row in sorted(rows, key=lambda r: (r["name"], r["seed"], r["run"])):
        named.setdefault(row["name"], []).append(row)
    groups: Groups = {}
    for name, members in named.items():
        for row, difference in zip(members, _differences(members), strict=True):
            row["name"] = f"{name} {difference}".strip()
            groups.setdefault(row["name"], []).append(row)
    return groups


def _differences(rows: Sequence[Row]) -> list[str]:
    """For each run the keys and values in which not all of them agree; "" where all agree."""
    configs = [_flat(read_config(Path(row["run"]))) for row in rows]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differing = [key for key in keys if any(c.get(key) != configs[0].get(key) for c in configs)]
    return [" ".join(f"{key}={config.get(key)}" for key in differing) for config in configs]


def _flat(config: Config) -> dict[str, object]:
    """A configuration with dotted keys, without those that make no other configuration of it."""
    flat: dict[str, object] = {}

    def add(values: Mapping[str, Any], prefix: str) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                add(value, f"{prefix}{name}.")
            else:
                flat[f"{prefix}{name}"] = value

    add(config_to_dict(config), "")
    return {key: value for key, value in flat.items() if key not in NOT_COMPARED}


def markdown(groups: Mapping[str, Sequence[Row]]) -> str:
    """A Markdown table, a row a configuration: runs, scores as mean ± deviation, cost."""
    rows = [row for members in groups.values() for row in members]
    shown = [name for name in SCORES if any(row.get(name) is not None for row in rows)]
    lines = _table_head(["configuration", "runs", *shown, "seconds", "parameters"])
    for name, members in groups.items():
        cells = [name, str(len(members)), *(spread([r.get(s) for r in members]) for s in shown)]
        cells.append(f"{statistics.median(row['seconds'] for row in members):.0f}")
        cells.append(f"{members[0]['parameters']:,}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compare(groups: Mapping[str, Sequence[Row]], baseline: str) -> str:
    """A Markdown table of differences to the baseline over the seeds both have; "" if none are.

    A cell is the mean difference ± its sample standard deviation, and in how many of the seeds the
    configuration scored higher.
    """
    if baseline not in groups:
        raise SegError(f"no configuration is called {baseline!r}; there are {', '.join(groups)}.")
    lines = _table_head([f"minus {baseline}", "seeds", *COMPARED])
    for name, members in groups.items():
        pairs = {s: paired_differences(members, groups[baseline], s) for s in COMPARED}
        if name == baseline or not any(pairs.values()):
            continue
        seeds = sorted({seed for differences in pairs.values() for seed in differences})
        cells = [name, " ".join(map(str, seeds)), *(_difference_cell(d) for d in pairs.values())]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n\n" + "\n".join(lines) if len(lines) > 2 else ""


def paired_differences(
    rows: Sequence[Row], baseline: Sequence[Row], score: str
) -> dict[int, float]:
    """Seed -> score minus the baseline's, for the seeds both have.

    Where a group has several runs of a seed, their mean counts.
    """

    def by_seed(rows: Sequence[Row]) -> dict[int, float]:
        found: dict[int, list[float]] = {}
        for row in rows:
            if row.get(score) is not None:
                found.setdefault(row["seed"], []).append(row[score])
        return {seed: statistics.fmean(values) for seed, values in found.items()}

    ours, theirs = by_seed(rows), by_seed(baseline)
    return {seed: ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())}


def _difference_cell(differences: Mapping[int, float]) -> str:
    if not differences:
        return "-"
    values = list(differences.values())
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    higher = sum(value > 0 for value in values)
    return f"{statistics.fmean(values):+.4f}{deviation}, higher in {higher} of {len(values)}"


def _table_head(columns: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]


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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text
        raise SegError(f"{path}: is damaged ({error}); delete it or run it again.") from None
    if not isinstance(values, dict):
        raise SegError(f"{path}: is damaged (holds no table); delete it or run it again.")
    return values
