"""Plans, records and evidence for tests of judging: a good run, and ways to change one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maquette.research.planning.plan import Item, Plan
from maquette.research.records import RunRecord
from maquette.research.running.evidence import Evidence

GIB = 2**30
SHA = "ab" * 32


@dataclass(frozen=True)
class SmallLimits:
    """What `judge` asks of limits."""

    seconds: float = 60.0
    memory_bytes: int = 2 * GIB
    output_bytes: int = 2**20
    gpu_memory_bytes: int | None = None


def item(kind: Any, name: str, **fields: str) -> Item:
    """Return an item of a plan."""
    return Item(
        kind=kind,
        name=name,
        line=1,
        file=f"{kind}/file.py",
        symbol=name.lower().replace(" ", "_"),
        text="",
        fields=fields,
    )


def plan(*items: Item) -> Plan:
    """Return a plan with one item of each kind, or with the given ones."""
    chosen = items or (
        item("dataset", "Wine", source="https://example.org/wine.csv", sha256=SHA),
        item("model", "Net"),
        item("loss", "Mean loss"),
        item("metric", "Accuracy", goal="higher", range="0 to 1", baseline="majority class"),
    )
    return Plan("plan_res.md", "Title", "Why?", chosen, {}, {})


def training(**changes: Any) -> dict[str, Any]:
    """Return one training of a record that passes."""
    good = {
        "dataset": "wine",
        "model": "net",
        "seed": 0,
        "losses": [0.7, 0.5],
        "grad_norms": [2.0, 1.0],
        "metrics": {"accuracy": 0.8},
        "baseline": {"accuracy": 0.6},
    }
    return good | changes


def record(*trainings: dict[str, Any], **changes: Any) -> RunRecord:
    """Return a record that passes, with the given trainings."""
    good = {
        "format": 1,
        "command": "python run.py --epochs 2",
        "epochs": 2,
        "seconds": 3.0,
        "datasets": {"wine": {"sha256": SHA, "samples": 500}},
        "trainings": list(trainings) or [training()],
    }
    return RunRecord.model_validate(good | changes)


def evidence(**changes: Any) -> Evidence:
    """Return the evidence of a run that passes."""
    good: dict[str, Any] = {
        "exit_code": 0,
        "ended": "exit",
        "seconds": 3.0,
        "peak_bytes": GIB,
        "stdout_tail": "epoch 1\n",
        "observed": True,
        "steps": 40,
        "read_files": {"/data/wine.csv": SHA},
        "record": record(),
    }
    return Evidence(**(good | changes))


def traceback(message: str, *places: str) -> str:
    """Return what Python prints when `message` is raised at the last of `places`, "file:line"."""
    frames = [place.rpartition(":") for place in places]
    lines = [f'  File "{file}", line {line}, in f\n    call()\n' for file, _, line in frames]
    return "Traceback (most recent call last):\n" + "".join(lines) + message + "\n"
