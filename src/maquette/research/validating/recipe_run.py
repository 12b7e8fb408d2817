"""`maquette validate RECIPE`: the short run of a research project, for any recipe of the platform.

The recipe is trained for two epochs by a child process, watched as a project is and without a
trace: no tracking, and the run folder is removed. What it leaves is put into the form of a
project's record, and what a recipe promises into that of a plan, so the same checks judge both.
"""

from __future__ import annotations

import csv
import math
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maquette.errors import UsageError
from maquette.files import cache_folder
from maquette.recipe import Recipe, read_recipe
from maquette.research.judging.diagnose import diagnose
from maquette.research.judging.judge import judge
from maquette.research.judging.training_checks import EPOCHS
from maquette.research.judging.verdict import Verdict, verdict_lines
from maquette.research.planning.plan import Item, Kind, Plan, slug
from maquette.research.records import RunRecord
from maquette.research.running.evidence import Evidence
from maquette.research.running.sandbox import Limits, run_watched
from maquette.runs import RunFolder

METRICS: Mapping[str, Mapping[str, str]] = {
    "accuracy": {"goal": "higher", "range": "0 to 1", "baseline": "majority class"},
    "rmse": {"goal": "lower", "range": "0 to inf", "baseline": "mean"},
    "mean_recall": {"goal": "higher", "range": "0 to 1", "baseline": "chance"},
}
"""The metric by which a run is held against the trivial answer: the last of these that it has."""


@dataclass(frozen=True, kw_only=True)
class RecipeRun:
    """The short run of a recipe, judged."""

    recipe: Path
    verdicts: tuple[Verdict, ...]
    diagnosis: str | None
    evidence: Evidence

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(verdict.passed for verdict in self.verdicts)

    def lines(self) -> list[str]:
        """What to print."""
        lines = verdict_lines(self.verdicts)
        if self.diagnosis is not None:
            lines += ["", f"diagnosis: {self.diagnosis}"]
        failed = sum(not verdict.passed for verdict in self.verdicts)
        outcome = "passed" if self.passed else f"failed, {failed} of {len(self.verdicts)} checks"
        return [*lines, f"{self.recipe} {outcome}"]


def validate_recipe(
    recipe: Path,
    overrides: Sequence[str] = (),
    *,
    epochs: int = EPOCHS,
    limits: Limits | None = None,
) -> RecipeRun:
    """Train a recipe for a few epochs in a watched process, and judge what it shows.

    Args:
        overrides: "key=value" changes to the recipe.
        epochs: 2 at least.
        limits: of the process; None: those of sandbox.py.
    Raises:
        UsageError: the recipe cannot be meant, or too few epochs.
        RunError: the process cannot be started or its output not written.
    """
    if epochs < EPOCHS:
        raise UsageError(
            f"--epochs is {epochs}, expected {EPOCHS} at least: one epoch cannot show that the "
            "loss falls."
        )
    allowed = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="maquette-validate-") as temporary:
        folder = Path(temporary).resolve()
        changes = [*overrides, *_changes(recipe, overrides, epochs, folder / "runs")]
        resolved = read_recipe(recipe, changes)  # its errors name lines; no process is needed
        evidence = run_watched(
            [sys.executable, "-m", "maquette", "train", str(recipe), *changes],
            cwd=Path.cwd(),
            environment={},
            limits=allowed,
            allowed=[folder, cache_folder("data").parent],
            folder=folder,
        )
        command = shlex.join(["maquette", "train", str(recipe), *changes])
        evidence = _with_record(evidence, folder / "runs", command)
    plan = _plan(recipe, resolved, evidence.record)
    verdicts = judge(evidence, plan, allowed)
    first = next((verdict for verdict in verdicts if not verdict.passed), None)
    diagnosis = None if first is None else diagnose(first, evidence, Path.cwd().resolve())
    return RecipeRun(recipe=recipe, verdicts=verdicts, diagnosis=diagnosis, evidence=evidence)


def _changes(recipe: Path, overrides: Sequence[str], epochs: int, runs: Path) -> list[str]:
    """What makes a recipe's run short and traceless, as overrides."""
    training = read_recipe(recipe, overrides).training
    changes = [
        f"training.epochs={epochs}",
        f"runs_dir={runs}",
        "tracking.enabled=false",
        "evaluation.bootstrap=0",
        "evaluation.baselines=true",  # the trivial answer is among them
        "training.checkpoint.path=null",
    ]
    if training.warmup_epochs >= epochs:
        share = training.warmup_epochs / training.epochs
        changes.append(f"training.warmup_epochs={share * epochs:g}")
    return changes


def _with_record(evidence: Evidence, runs: Path, command: str) -> Evidence:
    """Read the run folder as if a project had written its record."""
    ended = sorted(runs.glob("*/summary.json"))
    if not ended:
        return replace(evidence, record_problem="the run left no summary.json")
    folder = RunFolder(ended[0].parent)
    # The trainer's optimisers are its own, which the guard does not see. It watches itself: a loss
    # or a weight that is not finite ends the run with an error.
    steps = int(_rows(folder.metrics_file)[-1]["step"])
    return replace(evidence, steps=steps, record=run_record(folder, command))


def run_record(folder: RunFolder, command: str) -> RunRecord:
    """Return the record of a finished run of the platform, in the form of a project's."""
    summary, recipe = folder.summary(), folder.recipe()
    metrics = _of_split(summary["metrics"], "test")
    epochs = _rows(folder.metrics_file)
    return RunRecord.model_validate(
        {
            "format": 1,
            "command": command,
            "epochs": summary["epochs"],
            "seconds": summary["seconds"],
            "datasets": {
                recipe.name: {
                    "sha256": _digest(recipe, summary),
                    "samples": sum(summary["samples"].values()),
                }
            },
            "trainings": [
                {
                    "dataset": recipe.name,
                    "model": summary["model"],
                    "seed": summary["seed"],
                    "losses": [_number(float(row["train/loss"])) for row in epochs],
                    "metrics": {name: _number(value) for name, value in metrics.items()},
                    "baseline": _trivial(summary),
                    "seconds": summary["training_seconds"],
                    "test_samples": summary["samples"]["test"],
                }
            ],
        }
    )


def _of_split(metrics: Mapping[str, Any], split: str) -> dict[str, Any]:
    start = f"{split}/"
    return {k.removeprefix(start): value for k, value in metrics.items() if k.startswith(start)}


def _trivial(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what needs no model: the most frequent class, the mean, a random order of pairs."""
    if "chance" in summary:
        return dict(summary["chance"])
    for name in ("majority class", "mean"):
        if name in summary["baselines"]:
            return _of_split(summary["baselines"][name], "test")
    return {}


def _rows(table: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv, one per epoch."""
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _digest(recipe: Recipe, summary: Mapping[str, Any]) -> str:
    """Return the checksum of the recipe's data where the catalogue or the run knows it."""
    from maquette.data.catalogue import CATALOGUE, PREFIX

    name = data_source(recipe).removeprefix(PREFIX)
    if name in CATALOGUE and data_source(recipe).startswith(PREFIX):
        return CATALOGUE[name].sha256
    return str(summary.get("tags", {}).get("dataset_sha256", "not taken"))


def data_source(recipe: Recipe) -> str:
    """Return what a recipe's data are read from."""
    data = recipe.data.tabular or recipe.data.image or recipe.data.image_text
    assert data is not None, "the schema asks for one of them"
    return str(data.path)


def _plan(path: Path, recipe: Recipe, record: RunRecord | None) -> Plan:
    """Return what a recipe promises, as a plan: its data, its model, the metric of its kind."""
    from maquette.data.catalogue import PREFIX

    measured = record.trainings[0].metrics if record is not None else {}
    metrics = [name for name in METRICS if name in measured]
    items = (
        # Without a checksum: what the catalogue brings is checked when it comes, and an archive is
        # not opened again once it is unpacked.
        _item("dataset", recipe.name, {"source": data_source(recipe).removeprefix(PREFIX)}),
        _item("model", recipe.model.name, {}),
        *(_item("metric", name, METRICS[name]) for name in metrics[-1:]),
    )
    return Plan(str(path), recipe.name, "", items, {}, {})


def _item(kind: Kind, name: str, fields: Mapping[str, str]) -> Item:
    return Item(kind, name, 1, "", slug(name), "", fields)
