"""Several runs in one summary: summary.csv (a row a run), summary.md (a row a configuration).

Start reading at `summarize`. Runs whose configurations differ in nothing but the seed are a group,
told as mean and standard deviation over its n runs. Groups are compared with a baseline seed by
seed: runs with one seed share data and initial weights, so what the seed does to both falls out of
their difference, and the interval is narrower than those of the two means.
"""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paraformer_asr.config import config_from_dict, config_to_dict
from paraformer_asr.curves import draw_comparison, read_series
from paraformer_asr.errors import AsrError
from paraformer_asr.files import write_atomic
from paraformer_asr.settings import load_yaml

SCORES = ("best_valid_cer", "valid/cer", "test/cer")
"""Error rates in the tables, where runs have them; the last that all runs have is compared."""
COSTS = ("steps", "minutes", "parameters")
SAME_GROUP = ("seed", "out", "train.device", "train.threads", "train.log_every")
"""Settings in which the runs of a group may differ."""

T_975 = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
)
"""97.5 % quantiles of Student's t distribution for 1 to 20 degrees of freedom."""


@dataclass
class Run:
    """What a run folder says about its run."""

    folder: Path
    name: str
    seed: int
    settings: dict[str, object]
    """The configuration with dotted keys, without those of SAME_GROUP."""
    numbers: dict[str, float]
    """Of metrics.json, and of evaluation_SPLIT.json as SPLIT/..."""
    curve: list[tuple[float, float]] = field(default_factory=list)
    """(step, validation error)."""


Groups = dict[str, list[Run]]


def summarize(paths: Sequence[Path], out: Path, *, baseline: str | None = None) -> str:
    """Gather finished runs, write summary.csv, summary.md and comparison.png into `out`.

    Args:
        paths: run folders, or folders that hold run folders.
        out: made if it is not there.
        baseline: the group to compare with; by default the first by name.
    Returns:
        The text of summary.md. Runs that are not finished or damaged are listed at its end and in
        no table.
    Raises:
        AsrError: a path is no folder, there is no readable run, or no group has the baseline's
            name.
    """
    runs, left_out = read_runs(paths)
    if not runs:
        found = "".join(f"\n  {reason}" for reason in left_out)
        raise AsrError(
            f"no finished run in {', '.join(map(str, paths))}; a run counts once its training has "
            f"ended and written metrics.json.{found}"
        )
    groups = group(runs)
    text = f"# {len(runs)} runs\n\n{table(groups)}"
    if len(groups) > 1:
        text += compare(groups, next(iter(groups)) if baseline is None else baseline)
    elif baseline is not None:
        _find(groups, baseline)
    if left_out:
        text += "\nLeft out:\n\n" + "".join(f"- {reason}\n" for reason in left_out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "summary.csv", _csv(groups))
    write_atomic(out / "summary.md", text)
    score = compared_score(runs)
    draw_comparison(
        {name: [run.curve for run in members] for name, members in groups.items()},
        {name: _values(members, score) for name, members in groups.items()},
        out / "comparison.png",
        score=score,
    )
    return text


def read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The runs in and directly under `paths`, each once, and a line for each that is left out."""
    folders: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise AsrError(f"{path}: there is no such folder; give run folders or their parent.")
        inside = sorted(config.parent for config in path.glob("*/config.yaml"))
        folders += [path] if (path / "config.yaml").is_file() else inside
    read = [_run_or_reason(folder) for folder in dict.fromkeys(folders)]
    return [run for run in read if isinstance(run, Run)], [r for r in read if isinstance(r, str)]


def _run_or_reason(folder: Path) -> Run | str:
    try:
        return read_run(folder)
    except AsrError as error:
        return str(error)


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        AsrError: naming the file that is missing or damaged.
    """
    if not (folder / "metrics.json").is_file():
        raise AsrError(f"{folder}: not finished (no metrics.json).")
    config = config_from_dict(load_yaml(folder / "config.yaml"), where=str(folder / "config.yaml"))
    numbers = _read_numbers(folder / "metrics.json")
    for evaluation in sorted(folder.glob("evaluation_*.json")):
        split = evaluation.stem.partition("_")[2]
        numbers |= {f"{split}/{name}": v for name, v in _read_numbers(evaluation).items()}
    settings = dict(_flat(config_to_dict(config)))
    del settings["name"]
    curve = read_series(folder / "metrics.csv").get("valid_cer", [])
    kept = {key: value for key, value in settings.items() if key not in SAME_GROUP}
    return Run(folder, config.name, config.seed, kept, numbers, curve)


def group(runs: Iterable[Run]) -> Groups:
    """Runs by configuration, in the order of names and seeds.

    A group is called by the configuration's name. Where runs of one name have other settings,
    what they differ in is added to it.
    """
    named: Groups = {}
    for run in sorted(runs, key=lambda run: (run.name, run.seed, str(run.folder))):
        named.setdefault(run.name, []).append(run)
    groups: Groups = {}
    for name, members in named.items():
        keys = dict.fromkeys(key for run in members for key in run.settings)
        differing = [k for k in keys if len({repr(run.settings.get(k)) for run in members}) > 1]
        for run in members:
            label = " ".join([name, *(f"{key}={run.settings.get(key)}" for key in differing)])
            groups.setdefault(label, []).append(run)
    return groups


def table(groups: Mapping[str, Sequence[Run]]) -> str:
    """A Markdown row a group: n, error rates in percent as mean ± deviation, costs as medians."""
    runs = [run for members in groups.values() for run in members]
    scores = [name for name in SCORES if any(name in run.numbers for run in runs)]
    costs = [name for name in COSTS if any(name in run.numbers for run in runs)]
    lines = [_row(["configuration", "n", *(f"{s} %" for s in scores), *costs])]
    lines.append(_row(["---"] * (2 + len(scores) + len(costs))))
    for name, members in groups.items():
        cells = [spread(_values(members, score)) for score in scores]
        for cost in costs:
            values = _values(members, cost)
            cells.append(f"{statistics.median(values):,.6g}" if values else "")
        lines.append(_row([name, str(len(members)), *cells]))
    return "".join(lines)


def compare(groups: Mapping[str, Sequence[Run]], baseline: str) -> str:
    """A Markdown table of paired differences to the baseline, over the seeds both have."""
    theirs = _find(groups, baseline)
    score = compared_score([run for members in groups.values() for run in members])
    lines = [
        f"\n{score} minus that of {baseline}, seed by seed, in percentage points "
        "(below 0 is better):\n\n",
        _row(["configuration", "seeds", "mean difference", "95 % interval"]),
        _row(["---"] * 4),
    ]
    for name, members in groups.items():
        if name == baseline:
            continue
        differences = paired(members, theirs, score)
        if not differences:
            lines.append(_row([name, "0", "", "no seed in common"]))
            continue
        values = [100 * value for value in differences.values()]
        half = half_width(values)
        mean = statistics.fmean(values)
        interval = (
            "needs two seeds" if half is None else f"{mean - half:+.2f} to {mean + half:+.2f}"
        )
        lines.append(_row([name, str(len(values)), f"{mean:+.2f}", interval]))
    return "".join(lines)


def compared_score(runs: Sequence[Run]) -> str:
    """The last of SCORES that all runs have: an evaluation on the test split if there is one."""
    common = [score for score in SCORES if all(score in run.numbers for run in runs)]
    return common[-1] if common else SCORES[0]


def paired(ours: Sequence[Run], theirs: Sequence[Run], score: str) -> dict[int, float]:
    """Seed -> our score minus theirs; several runs of one seed count as their mean."""
    by_seed: list[dict[int, list[float]]] = [{}, {}]
    for runs, found in zip((ours, theirs), by_seed, strict=True):
        for run in runs:
            if score in run.numbers:
                found.setdefault(run.seed, []).append(run.numbers[score])
    mine, other = by_seed
    common = sorted(mine.keys() & other.keys())
    return {s: statistics.fmean(mine[s]) - statistics.fmean(other[s]) for s in common}


def half_width(values: Sequence[float]) -> float | None:
    """Half of Student's 95 % interval of a mean: t s / sqrt(n); None for fewer than two values."""
    n = len(values)
    return t_975(n - 1) * statistics.stdev(values) / math.sqrt(n) if n > 1 else None


def t_975(freedom: int) -> float:
    """97.5 % quantile of Student's t: tabled, then its expansion around the normal quantile.

    The expansion (Abramowitz and Stegun 26.7.5, three terms) is right to 1e-5 from 21 degrees on.
    """
    if freedom <= len(T_975):
        return T_975[freedom - 1]
    z = 1.959963984540054
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def spread(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation in percent; the mean alone if there is one value."""
    if not values:
        return ""
    mean = 100 * statistics.fmean(values)
    return (
        f"{mean:.2f} ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"
    )


def _find(groups: Mapping[str, Sequence[Run]], name: str) -> Sequence[Run]:
    if name not in groups:
        raise AsrError(f"no configuration is called {name!r}; there are: {', '.join(groups)}.")
    return groups[name]


def _values(runs: Sequence[Run], name: str) -> list[float]:
    return [run.numbers[name] for run in runs if name in run.numbers]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _csv(groups: Mapping[str, Sequence[Run]]) -> str:
    runs = [(name, run) for name, members in groups.items() for run in members]
    numbers = list(dict.fromkeys(name for _, run in runs for name in run.numbers))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["configuration", "seed", "run", *numbers])
    for name, run in runs:
        values = [run.numbers.get(number, "") for number in numbers]
        writer.writerow([name, run.seed, run.folder, *values])
    return text.getvalue()


def _flat(
    values: Mapping[str, Any], prefix: str = "", separator: str = "."
) -> Iterator[tuple[str, Any]]:
    """Nested values with joined names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}{separator}", separator)
        else:
            yield f"{prefix}{name}", value


def _read_numbers(path: Path) -> dict[str, float]:
    """The numbers in a JSON file; other values are left aside.

    Numbers inside of others get names with slashes: the rate in {"cer": {"rate": 0.1}} is "cer",
    its neighbours are "cer/...".
    """
    try:
        values = json.loads(path.read_bytes().decode("utf-8"))
    except ValueError as error:
        raise AsrError(f"{path}: damaged ({error}).") from None
    if not isinstance(values, dict):
        raise AsrError(f"{path}: damaged (expected names with numbers).")
    return {
        name.removesuffix("/rate"): value
        for name, value in _flat(values, separator="/")
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
