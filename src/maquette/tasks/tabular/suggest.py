"""`maquette init DATA.csv`: look at a table, and write a commented recipe that trains as it is.

`look.py` looks and decides; this file turns the decisions into YAML.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from maquette.data.cells import parse_numbers
from maquette.tasks.tabular.findings import tells_target
from maquette.tasks.tabular.look import USUAL_MISSING, Look, column_values, look_at

FEW_CATEGORIES = 50
"""One-hot columns up to this many; more are learned as embeddings."""
ENOUGH_FOR_RANKS = 1000
"""With more rows than this, quantiles are known well enough to scale by."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large a network and how long a training suit a number of rows."""

    up_to_rows: float
    hidden_layers: tuple[int, ...]
    dropout: float
    batch_size: int
    epochs: int
    learning_rate: float
    patience: int


SIZES = (
    Sizes(
        up_to_rows=1_000,
        hidden_layers=(64, 32),
        dropout=0.1,
        batch_size=16,
        epochs=100,
        learning_rate=0.003,
        patience=20,
    ),
    Sizes(
        up_to_rows=10_000,
        hidden_layers=(128, 64),
        dropout=0.1,
        batch_size=64,
        epochs=60,
        learning_rate=0.002,
        patience=15,
    ),
    Sizes(
        up_to_rows=100_000,
        hidden_layers=(256, 128),
        dropout=0.1,
        batch_size=256,
        epochs=40,
        learning_rate=0.002,
        patience=8,
    ),
    Sizes(
        up_to_rows=float("inf"),
        hidden_layers=(256, 256, 128),
        dropout=0.1,
        batch_size=1024,
        epochs=20,
        learning_rate=0.002,
        patience=5,
    ),
)


def suggest_recipe(path: Path, *, target: str | None) -> str:
    """Look at a CSV or Parquet file and return the YAML of a recipe for it.

    Args:
        target: the column to predict; None guesses, and the recipe says why.
    Raises:
        DataError: the file is no table, or has no column to learn from.
        UsageError: there is no column `target`.
    """
    return _write(look_at(Path(path), target), asked=target is not None)


def _write(look: Look, *, asked: bool) -> str:
    sizes = next(sizes for sizes in SIZES if len(look.table) <= sizes.up_to_rows)
    lines = [
        f"# Written by: {_command(look, asked=asked)}",
        "# Save it as recipe.yaml and run: maquette train recipe.yaml",
        f"# {len(look.table)} rows, {len(look.table.columns)} columns.",
        f"name: {_name(look.path)}",
        "data:",
        "  tabular:",
        *(f"    {line}" for line in _data_lines(look)),
        "model:",
        "  type: tabular",
        "  name: mlp",
        "  architecture:",
        f"    hidden_layers: {list(sizes.hidden_layers)}  # for {len(look.table)} rows",
        f"    dropout: {sizes.dropout}",
        "training:",
        f"  epochs: {sizes.epochs}  # at most: early stopping ends a run that no longer improves",
        f"  batch_size: {sizes.batch_size}",
        f"  learning_rate: {sizes.learning_rate}",
        "  early_stopping:",
        f"    patience: {sizes.patience}",
    ]
    return "\n".join(lines) + "\n"


def _command(look: Look, *, asked: bool) -> str:
    parts = ["maquette", "init", str(look.path)]
    return shlex.join([*parts, "--target", look.target] if asked else parts)


def _name(path: Path) -> str:
    """A recipe name: letters, digits, dot, dash and underscore, at most 64."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip("-._")[:64]
    return _scalar(name or "table")


def _data_lines(look: Look) -> Iterator[str]:
    yield f"path: {_scalar(str(look.path))}"
    if look.delimiter != ",":
        yield f"delimiter: {json.dumps(look.delimiter)}"
    if look.encoding != "utf-8":
        yield f"encoding: {look.encoding}"
    if look.more_missing:
        yield f"missing_values: {_flow([*USUAL_MISSING, *look.more_missing])}"
    yield f"target_column: {_scalar(look.target)}  # {look.why_target}"
    yield from _target_lines(look)
    yield "# Columns as they will be read (text columns are categories):"
    for name in look.table.columns:
        if name != look.target:
            yield f"#   {_comment(name)}: {_describe(look, name)}"
    if look.ignored:
        yield "ignore_columns:"
        for name, reason in look.ignored.items():
            yield f"  - {_scalar(name)}  # {reason}"
    if look.num_bad_rows:
        share = math.ceil(1e4 * look.num_bad_rows / len(look.table)) / 1e4
        yield f"tolerance: {share:g}  # sets {look.num_bad_rows} rows aside; see maquette check"
    yield from _split_lines(look)
    yield from _preprocessing_lines(look)


def _target_lines(look: Look) -> Iterator[str]:
    cells = look.table.cells[look.target]
    if look.is_class:
        counts = Counter(text for text in cells.to_pylist() if text is not None)
        shown = ", ".join(f"{_comment(name)} ({n})" for name, n in counts.most_common(10))
        more = f", and {len(counts) - 10} more" if len(counts) > 10 else ""
        yield f"target_type: class  # {len(counts)} classes: {shown}{more}"
        lonely = [name for name, n in counts.items() if n == 1]
        if lonely:
            yield (
                f"# Before training, merge or remove the classes with one row: "
                f"{', '.join(map(_comment, lonely[:5]))}"
            )
        return
    numbers, _ = parse_numbers(cells)
    yield f"target_type: number  # {np.nanmin(numbers):g} to {np.nanmax(numbers):g}"


def _describe(look: Look, name: str) -> str:
    cells, kind = look.table.cells[name], look.kinds[name]
    missing = f", {cells.null_count} missing" if cells.null_count else ""
    note = " (ignored)" if name in look.ignored else ""
    values = column_values(kind, cells)
    if kind == "category":
        names = cells.drop_null().unique()
        shown = ", ".join(_comment(text) for text in names[:3].to_pylist())
        what = f"{len(names)} categories: {shown}{', …' if len(names) > 3 else ''}"
    else:
        low, high = np.nanmin(values), np.nanmax(values)
        what = f"{low:g} to {high:g}" if kind == "number" else f"{_day(low)} to {_day(high)}"
    target = column_values("category" if look.is_class else "number", look.table.cells[look.target])
    if name not in look.ignored and tells_target(values, target):
        note = " (tells the target exactly: is it known at prediction time?)"
    return f"{kind}, {what}{missing}{note}"


def _split_lines(look: Look) -> Iterator[str]:
    yield "split:"
    if look.is_class:
        yield "  method: stratified  # each class in the same share in train, validation and test"
    else:
        yield "  method: random"
    dates = [name for name, kind in look.kinds.items() if kind == "date" and name != look.target]
    if dates:
        yield f"  # The latest rows to test: {{method: time, column: {_scalar(dates[0])}}}"
    shared = [name for name, reason in look.ignored.items() if "different texts" in reason]
    if shared:
        yield f"  # Rows of one thing together: {{method: grouped, column: {_scalar(shared[0])}}}"


def _preprocessing_lines(look: Look) -> Iterator[str]:
    inputs = [name for name in look.kinds if name != look.target and name not in look.ignored]
    lines = []
    if len(look.table) > ENOUGH_FOR_RANKS and any(look.kinds[n] == "number" for n in inputs):
        lines.append("  scaling: quantile  # numbers by their rank: long tails do no harm")
    sizes = [len(look.table.cells[n].unique()) for n in inputs if look.kinds[n] == "category"]
    if sizes:
        encoding = "onehot" if sum(sizes) <= FEW_CATEGORIES else "embedding"
        lines.append(f"  categorical_encoding: {encoding}  # {sum(sizes)} categories in all")
    if lines:
        yield "preprocessing:"
        yield from lines


def _day(date: np.datetime64) -> str:
    return str(np.datetime_as_string(date, unit="D"))


def _comment(text: str) -> str:
    """Text for a comment: one line of readable length."""
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:39] + "…"


def _flow(values: Sequence[str]) -> str:
    return f"[{', '.join(json.dumps(value, ensure_ascii=False) for value in values)}]"


def _scalar(text: str) -> str:
    """Text as a YAML scalar: bare where YAML reads it back as the same text, quoted elsewhere."""
    if re.fullmatch(r"[A-Za-z_./][\w ./()-]*(?<! )", text) and yaml.safe_load(text) == text:
        return text
    return json.dumps(text, ensure_ascii=False)
